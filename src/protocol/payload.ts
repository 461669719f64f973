import { SkeinError } from '../errors.ts'
import { assertText, CONTENT, contentTypeOf, decodeContent, pack } from './codec.ts'
import { Frame } from './frame.ts'
import { encodeHeaders, type Headers, type Payload, type Received } from './record.ts'

/** Longer texts are turned to bytes at once, so that their size is known and not estimated. */
const LONG_TEXT = 4096
/** Bytes from this size on travel uncopied, so they are copied here unless they were lent. */
const UNCOPIED_BYTES = 32 * 1024

/** Checks a value and turns it into what goes out, once for all peers it goes to. */
export const encodePayload = (
  value: unknown,
  headers: Headers | undefined,
  lend: boolean,
  maxBytes: number,
  what: () => string,
): Payload => {
  const content = contentTypeOf(value)
  let body: Uint8Array | string
  let sizeBytes: number
  if (content === CONTENT.bytes) {
    body = value as Uint8Array
    sizeBytes = body.length
    if (sizeBytes >= UNCOPIED_BYTES && !lend && sizeBytes <= maxBytes) body = Buffer.from(body)
  } else if (content === CONTENT.text) {
    const text = value as string
    assertText(text)
    body = text.length > LONG_TEXT || 3 * text.length > maxBytes ? Buffer.from(text) : text
    sizeBytes = typeof body === 'string' ? 3 * body.length : body.length
  } else {
    body = content === CONTENT.none ? NOTHING : pack(value)
    sizeBytes = body.length
  }
  if (sizeBytes > maxBytes) {
    throw new SkeinError(
      'VALUE_TOO_LARGE',
      `${what()}: the value has ${sizeBytes} bytes, the limit is ${maxBytes}; split it, or raise the limit on every node`,
    )
  }
  return { content, body, headers: headers === undefined ? null : encodeHeaders(headers), sizeBytes }
}

const NOTHING = new Uint8Array(0)

/** The payload as its own node would receive it: local handlers get a copy, as remote ones do. */
export const receivedLocally = (payload: Payload): Received => {
  const { content, headers, body } = payload
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.from(body)
  return { content, ack: false, headers, frame: new Frame(bytes), start: 0, end: bytes.length }
}

export const decodeReceived = ({ content, frame, start, end }: Received): unknown =>
  decodeContent(content, frame, start, end)
