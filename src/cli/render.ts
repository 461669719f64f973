import type { Gap, Message, Peer, Reply } from '../index.ts'

export const FORMATS = ['text', 'json', 'raw'] as const
export type Format = (typeof FORMATS)[number]

/**
 * What a value looks like in JSON. Bytes become `{"base64": "…"}`; a bigint and a number that JSON lacks become
 * text; a date its ISO form; a map an object if its keys allow it.
 */
export const toJson = (value: unknown): unknown => {
  if (value === undefined) return null
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Uint8Array) {
    return { base64: Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64') }
  }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (value instanceof Map) return toJson(Object.fromEntries(value))
  if (Array.isArray(value)) return value.map(toJson)
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, toJson(entry)]))
}

export const jsonOf = (value: unknown): string => JSON.stringify(toJson(value))

// Peers choose these texts: none of them may move the cursor, recolour the terminal or forge a line.
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

const escapeCharacter = (character: string): string =>
  `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

/** One line that is safe to show. */
export const printable = (text: string): string =>
  text.replace(UNPRINTABLE, (character) =>
    character === '\n' ? '\\n' : character === '\t' ? '\\t' : escapeCharacter(character),
  )

/** The same for a text that may have several lines. */
export const printableLines = (text: string): string =>
  text.replace(UNPRINTABLE, (character) =>
    character === '\n' || character === '\t' ? character : escapeCharacter(character),
  )

const PREVIEW_BYTES = 32

const bytesText = (bytes: Uint8Array): string => {
  const hex = Buffer.from(bytes.subarray(0, PREVIEW_BYTES)).toString('hex')
  const rest = bytes.length > PREVIEW_BYTES ? '…' : ''
  return `<${bytes.length} byte${bytes.length === 1 ? '' : 's'}${hex === '' ? '' : ` ${hex}${rest}`}>`
}

export const textOf = (value: unknown): string => {
  if (typeof value === 'string') return value
  if (value instanceof Uint8Array) return bytesText(value)
  return jsonOf(value)
}

/** The payload and nothing else: bytes exactly, everything else with a newline. */
export const rawOf = (value: unknown): string | Uint8Array =>
  value instanceof Uint8Array ? value : `${typeof value === 'string' ? value : jsonOf(value)}\n`

type Shown = Pick<Message, 'topic' | 'id' | 'from' | 'headers' | 'value'> &
  Partial<Pick<Message, 'key' | 'attempt' | 'redelivered'>>

/** The NDJSON record of a message; fields that say nothing are left out. */
export const messageRecord = (message: Shown): Record<string, unknown> => ({
  topic: message.topic,
  value: toJson(message.value),
  from: message.from,
  id: message.id,
  ...(Object.keys(message.headers ?? {}).length > 0 && { headers: message.headers }),
  ...(message.key !== undefined && { key: message.key }),
  ...(message.redelivered === true && { redelivered: true, attempt: message.attempt }),
})

export const renderMessage = (message: Shown, format: Format): string | Uint8Array => {
  if (format === 'json') return `${JSON.stringify(messageRecord(message))}\n`
  if (format === 'raw') return rawOf(message.value)
  return `${printable(message.topic)}  ${printable(textOf(message.value))}\n`
}

/** The value that a request was answered with. */
export const renderValue = (value: unknown, format: Format): string | Uint8Array => {
  if (format === 'json') return `${jsonOf(value)}\n`
  if (format === 'raw') return rawOf(value)
  return `${printableLines(textOf(value))}\n`
}

/** One of several replies. */
export const renderReply = (reply: Reply, format: Format): string | Uint8Array => {
  const { from, value, error } = reply
  if (format === 'raw') return error === undefined ? rawOf(value) : ''
  if (format === 'text') {
    return `${from}  ${printable(error === undefined ? textOf(value) : `${error.code}: ${error.message}`)}\n`
  }
  const outcome =
    error === undefined ? { value: toJson(value) } : { error: { code: error.code, message: error.message } }
  return `${JSON.stringify({ from, ...outcome })}\n`
}

export const describeGap = ({ publisher, topic, count, reason }: Gap): string =>
  `missed ${count ?? 'an unknown number of'} message${count === 1 ? '' : 's'} of "${topic}" from ${publisher}: ${reason}`

export const columns = (rows: readonly string[][]): string[] => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

/** A seed that has led to no node yet stands among the peers: it has an address, and nobody's id. */
const isSeed = ({ id }: Peer): boolean => id === ''

const idText = (peer: Peer): string => (isSeed(peer) ? '(a seed: no node yet)' : peer.id)

const peerRecord = (peer: Peer): object => ({ kind: isSeed(peer) ? 'seed' : 'node', ...peer })

/** What is told of each: its boot, and why it is not up. */
export interface PeerColumns {
  readonly boot: boolean
  readonly why: boolean
}

export const renderPeers = (peers: readonly Peer[], format: Format, { boot, why }: PeerColumns): string => {
  if (format === 'json') return peers.map((peer) => `${JSON.stringify(peerRecord(peer))}\n`).join('')
  if (format === 'raw') return peers.flatMap((peer) => (isSeed(peer) ? [] : `${peer.id}\n`)).join('')
  if (peers.length === 0) return ''
  const extra = [...(boot ? ['BOOT'] : []), ...(why ? ['WHY'] : [])]
  const header = ['NAME', 'ID', 'STATE', 'FOUND BY', 'ENDPOINTS', ...extra]
  const rows = peers.map((peer) => [
    printable(peer.name),
    idText(peer),
    peer.state,
    peer.foundBy.join(','),
    printable(peer.endpoints.join(',')),
    ...(boot ? [peer.boot] : []),
    ...(why ? [printable(peer.reason ?? '')] : []),
  ])
  return columns([header, ...rows])
    .map((line) => `${line}\n`)
    .join('')
}

export interface PeerChange {
  change: 'new' | 'changed' | 'gone'
  peer: Peer
}

export const renderPeerChange = ({ change, peer }: PeerChange, format: Format, verbose: boolean): string => {
  if (format === 'json') return `${JSON.stringify({ change, peer: peerRecord(peer) })}\n`
  if (format === 'raw') return isSeed(peer) ? '' : `${peer.id}\n`
  const state = change === 'gone' ? 'gone' : peer.state
  const why = verbose && peer.reason !== undefined ? `  (${peer.reason})` : ''
  return `${state.padEnd(8)} ${printable(`${peer.name}  ${idText(peer)}${why}`)}\n`
}
