import type { Question } from '../question.ts'
import { type Reading, reading } from '../reading.ts'

export const question: Question = {
  name: 'owed-objects',
  asks: 'push/pull at least once of objects of 8 fields, a new one for each message',
  kind: 'stream',
  inFlight: 4096,
  measure: 'rate',
  owed: true,
  must: 0.35,
  aim: 1.5,
  value: reading,
  packed: true,
  weigh: (value) => (value as Reading).sequence,
}
