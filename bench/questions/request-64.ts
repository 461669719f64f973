import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'request-64',
  asks: 'request/respond, 64 in flight, 100 bytes echoed, requests per second',
  kind: 'requests',
  inFlight: 64,
  measure: 'rate',
  must: 3,
  aim: 6,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
