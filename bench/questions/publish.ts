import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'publish',
  asks: 'publish/subscribe, 1 to 1, 100 bytes, a plain `await publish()` loop',
  kind: 'stream',
  inFlight: 1,
  measure: 'rate',
  must: 12,
  aim: 25,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
