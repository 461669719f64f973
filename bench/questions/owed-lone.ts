import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'owed-lone',
  asks: 'one durable push at a time until its worker has handled it, median; bare: append, fdatasync, round trip',
  kind: 'requests',
  inFlight: 1,
  measure: 'p50',
  owed: true,
  must: 3,
  aim: 1.5,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
