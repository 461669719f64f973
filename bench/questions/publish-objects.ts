import type { Question } from '../question.ts'

interface Reading {
  sequence: number
  sensor: string
  room: string
  celsius: number
  humidity: number
  battery: number
  ok: boolean
  at: number
}

const startedAt = Date.now()

const reading = (n: number): Reading => ({
  sequence: n,
  sensor: 'th-0042',
  room: 'kitchen',
  celsius: 21.5 + (n % 7) / 10,
  humidity: 40 + (n % 11),
  battery: 0.87,
  ok: n % 100 !== 0,
  at: startedAt + n,
})

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
