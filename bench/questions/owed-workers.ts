import type { Question } from '../question.ts'

const payload = new Uint8Array(100).fill(0x61)

export const question: Question = {
  name: 'owed-workers',
  asks: 'the same as owed, shared by four workers; bare: PUSH to four PULL sockets',
  kind: 'stream',
  inFlight: 4096,
  measure: 'rate',
  owed: true,
  receivers: 4,
  must: 0.25,
  aim: 2,
  value: () => payload,
  packed: false,
  weigh: (value) => (value as Uint8Array).length,
}
