/** What a sensor says: an object of 8 fields. */
export interface Reading {
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

/** The nth one. */
export const reading = (n: number): Reading => ({
  sequence: n,
  sensor: 'th-0042',
  room: 'kitchen',
  celsius: 21.5 + (n % 7) / 10,
  humidity: 40 + (n % 11),
  battery: 0.87,
  ok: n % 100 !== 0,
  at: startedAt + n,
})
