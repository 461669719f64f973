import { InvalidArgumentError } from 'commander'
import { CliError, EXIT } from './exit.ts'

const UNITS_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

// The longest wait a timer takes; beyond it Node fires at once.
const MAX_MS = 2 ** 31 - 1

/** `500ms`, `1.5s`, `2m`, `1h`. A bare number is refused: half of its readers would take it for the other unit. */
export const parseDurationMs = (text: string): number => {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? []
  if (digits === undefined) throw new InvalidArgumentError('write a duration as 500ms, 5s, 2m or 1h.')
  if (unit === undefined && Number(digits) !== 0) {
    throw new InvalidArgumentError(`a duration needs a unit: write ${digits}s or ${digits}ms.`)
  }
  const ms = Math.round(Number(digits) * (UNITS_MS[unit ?? 'ms'] ?? 1))
  if (ms > MAX_MS) throw new InvalidArgumentError('at most 596h can be waited.')
  return ms
}

/** The same for a time in which something has to be done. */
export const parseSpanMs = (text: string): number => {
  const ms = parseDurationMs(text)
  if (ms === 0) throw new InvalidArgumentError('nothing can be done in no time.')
  return ms
}

const parseInteger = (text: string, least: number, most: number, what: string, why = ''): number => {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(number >= least && number <= most)) {
    throw new InvalidArgumentError(`${what} is a whole number from ${least} to ${most}${why}.`)
  }
  return number
}

export const parseCount = (text: string): number => parseInteger(text, 1, Number.MAX_SAFE_INTEGER, 'a count')

export const parsePort = (text: string): number =>
  parseInteger(text, 0, 65_533, 'a port', ', because a node takes it and the two after it')

/** `100/s`, `100`, `30/m`: the milliseconds between two messages. */
export const parseRateToIntervalMs = (text: string): number => {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(?:\/(s|m|h))?$/.exec(text) ?? []
  if (digits === undefined || Number(digits) === 0) {
    throw new InvalidArgumentError('write a rate as 100/s, 30/m or 5/h.')
  }
  return (UNITS_MS[unit ?? 's'] ?? 1000) / Number(digits)
}

/** `key=value`, collected over repeats of the option. */
export const parseHeader = (text: string, previous: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('write a header as key=value.')
  return { ...previous, [text.slice(0, at)]: text.slice(at + 1) }
}

/** A name, collected over repeats of the option. */
export const parseNames = (name: string, previous: readonly string[] = []): string[] => [...previous, name]

/** `10.0.0.5:7400,db.local:7400`, collected over repeats of the option. */
export const parseSeeds = (text: string, previous: readonly string[] = []): string[] => [
  ...previous,
  ...text
    .split(',')
    .map((seed) => seed.trim())
    .filter((seed) => seed !== ''),
]

/** Environment variables say yes or no in many ways; a word that is neither must not open a node by accident. */
export const parseFlag = (name: string, text: string | undefined): boolean => {
  const word = (text ?? '').trim().toLowerCase()
  if (['1', 'true', 'yes', 'on'].includes(word)) return true
  if (['', '0', 'false', 'no', 'off'].includes(word)) return false
  throw new CliError(EXIT.usage, `${name}=${text} is neither yes nor no: set it to 1 or 0.`)
}
