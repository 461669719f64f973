import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'request',
  asks: 'request/respond, one at a time, 100 bytes echoed, median round trip',
  kind: 'requests',
  inFlight: 1,
  measure: 'p50',
  must: 1.25,
  aim: 1.05,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
