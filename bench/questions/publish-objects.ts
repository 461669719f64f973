import type { Question } from '../question.ts'
import { type Reading, reading } from '../reading.ts'

export const question: Question = {
  name: 'publish-objects',
  asks: 'the same with objects of 8 fields, a new one for each message',
  kind: 'stream',
  inFlight: 1,
  measure: 'rate',
  must: 4,
  aim: 6.5,
  value: reading,
  packed: true,
  weigh: (value) => (value as Reading).sequence,
}
