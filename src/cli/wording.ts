import { DEFAULTS } from '../index.ts'

/** `no node`, `1 node`, `2 nodes`. */
export const count = (number: number, noun: string): string =>
  `${number === 0 ? 'no' : number} ${noun}${number === 1 || number === 0 ? '' : 's'}`

const LISTED = 5

/** `a, b and c`, or `a, b, c, d, e and 7 more`. */
export const list = (items: readonly string[], most = LISTED): string => {
  if (items.length === 0) return 'none'
  const shown = items.length > most ? [...items.slice(0, most), `${items.length - most} more`] : [...items]
  const last = shown.pop()!
  return shown.length === 0 ? last : `${shown.join(', ')} and ${last}`
}

export const milliseconds = (ms: number): string => {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
}

/** As a shell takes it for one word. */
export const quoted = (text: string): string =>
  /^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** Where to go on where nobody was found. */
export const askWhy = (subject: string, mesh: string): string =>
  `skein why ${quoted(subject)}${mesh === DEFAULTS.mesh ? '' : ` --mesh ${quoted(mesh)}`} says why`
