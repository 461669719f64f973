import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'owed',
  asks: 'push/pull at least once, journaled to the disk, 100 bytes, handled and acked per second',
  kind: 'stream',
  inFlight: 4096,
  measure: 'rate',
  owed: true,
  // The bare contender promises nothing: it loses what a process or the power takes with it.
  must: 0.4,
  aim: 2,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
