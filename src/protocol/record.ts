import { SkeinError } from '../errors.ts'
import { Reader, type Writer } from './bytes.ts'
import type { Frame } from './frame.ts'

/** Headers of a message: short texts that travel beside the value, for routing and tracing by users. */
export type Headers = Readonly<Record<string, string>>

const MAX_HEADERS = 64
const MAX_HEADERS_BYTES = 16 * 1024

/** One byte in front of every payload: the content type in the low bits, then whether headers follow. */
const CONTENT_MASK = 0x0f
const HEADERS_FLAG = 0x10
const ACK_FLAG = 0x20

export interface Payload {
  readonly content: number
  /** Bytes of the value as they go out, or text that is written as UTF-8 in place. */
  readonly body: Uint8Array | string
  readonly headers: Buffer | null
  /** Bytes of body and headers, at most: a text counts three for each unit until it is written. */
  readonly sizeBytes: number
}

/** A received payload, still in the frame it came in. */
export interface Received {
  readonly content: number
  readonly ack: boolean
  readonly headers: Buffer | null
  readonly frame: Frame
  readonly start: number
  readonly end: number
}

/** Checks and encodes headers once per message, however many peers it goes to. */
export const encodeHeaders = (headers: Headers | undefined): Buffer | null => {
  if (headers === undefined) return null
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
    throw new SkeinError('OPTION_INVALID', 'headers: an object of texts by their names is expected')
  const entries = Object.entries(headers)
  if (entries.length === 0) return null
  if (entries.length > MAX_HEADERS) {
    throw new SkeinError(
      'OPTION_INVALID',
      `headers: ${entries.length} entries, at most ${MAX_HEADERS} fit in a message`,
    )
  }
  const parts: Buffer[] = [Buffer.of(entries.length)]
  let bytes = 1
  for (const [name, value] of entries) {
    if (typeof value !== 'string') {
      throw new SkeinError(
        'OPTION_INVALID',
        `headers: '${name}' is a ${typeof value}; header values are strings`,
      )
    }
    if (!name.isWellFormed() || !value.isWellFormed()) {
      throw new SkeinError(
        'OPTION_INVALID',
        `headers: '${name}' has half of a surrogate pair, which would arrive as something else; use toWellFormed()`,
      )
    }
    const key = Buffer.from(name)
    const text = Buffer.from(value)
    if (key.length === 0 || key.length > 255) {
      throw new SkeinError(
        'OPTION_INVALID',
        `headers: the name '${name}' has ${key.length} bytes; 1 to 255 are allowed`,
      )
    }
    bytes += 3 + key.length + text.length
    if (bytes > MAX_HEADERS_BYTES) {
      throw new SkeinError(
        'OPTION_INVALID',
        `headers: more than ${MAX_HEADERS_BYTES} bytes with '${name}'; put large things into the value`,
      )
    }
    parts.push(Buffer.of(key.length), key, Buffer.of(text.length & 0xff, text.length >>> 8), text)
  }
  return Buffer.concat(parts, bytes)
}

export const decodeHeaders = (encoded: Buffer | null): Headers => {
  if (encoded === null) return {}
  const reader = new Reader(encoded)
  const headers: Record<string, string> = Object.create(null)
  for (let left = reader.u8(); left > 0; left--) {
    const name = reader.text8()
    headers[name] = reader.text(reader.u16())
  }
  return { ...headers }
}

/** flags u8 · [headers length u16 · headers] · body length u32 · body */
export const writeRecord = (writer: Writer, payload: Payload, ack = false): void => {
  writeRecordHead(writer, payload, ack)
  const body = payload.body
  if (typeof body === 'string') {
    writer.text32(body)
    return
  }
  writer.reserve(4 + body.length)
  writer.u32(body.length)
  writer.bytes(body)
}

/** The record up to its body's length: a large body follows in a frame of its own. */
export const writeRecordHead = (writer: Writer, payload: Payload, ack = false): void => {
  writer.u8(payload.content | (payload.headers === null ? 0 : HEADERS_FLAG) | (ack ? ACK_FLAG : 0))
  if (payload.headers !== null) {
    writer.u16(payload.headers.length)
    writer.bytes(payload.headers)
  }
}

/** How large the body of the record is that follows: a glance at it. */
export const readBodyBytes = (reader: Reader): number => {
  const flags = reader.u8()
  if ((flags & HEADERS_FLAG) !== 0) reader.skip(reader.u16())
  return reader.u32()
}

/** The same whether a payload was just made or is read again: `sizeBytes` of a text is a guess. */
export const bodyBytes = ({ body }: Payload): number =>
  typeof body === 'string' ? Buffer.byteLength(body) : body.length

/** Reads one record of a frame; `alone` is the frame that holds the body of a record sent by itself. */
export const readRecord = (reader: Reader, frame: Frame, alone?: Frame): Received => {
  const flags = reader.u8()
  const headers = (flags & HEADERS_FLAG) === 0 ? null : Buffer.from(reader.bytes(reader.u16()))
  const content = flags & CONTENT_MASK
  const ack = (flags & ACK_FLAG) !== 0
  if (alone !== undefined) return { content, ack, headers, frame: alone, start: 0, end: alone.bytes.length }
  const length = reader.u32()
  const start = reader.skip(length)
  return { content, ack, headers, frame, start, end: start + length }
}
