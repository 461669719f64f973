import { SkeinError } from '../errors.ts'

/** Arrays and maps inside one another, at most; deeper data overflows stacks later, in code that recurses. */
export const MAX_DEPTH = 64

/** Elements of arrays and entries of maps in one value, at most: bounds what a small message makes on the heap. */
export const MAX_NODES = 1_000_000

const PROTO = Buffer.from('__proto__')
const DATE_LIMIT_SECONDS = 8.64e12

// What is still to be read of the containers around the current one: 2 * entries left, + 1 for a map. Shared by
// all calls, which never overlap: each writes what it reads, and an array of its own would double the cost.
const OUTER = new Int32Array(MAX_DEPTH)

/**
 * Walks the msgpack value that stands from `start` to `end`, without building it, and refuses what the decoder must never see: a value cut short or
 * followed by more, sizes that were claimed but not sent, nesting beyond `MAX_DEPTH`, more than `MAX_NODES` nodes,
 * every extension but the timestamp (the decoder would make records, regular expressions and pointers of them),
 * keys that are neither strings nor integers, and the key `__proto__`. Bytes in strings that are not UTF-8 pass.
 *
 * @param marks receives the offset of each string over 64 bytes that begins with U+FEFF
 * @returns how many such strings there are
 * @throws SkeinError MALFORMED
 */
export const prescan = (
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
  marks?: number[],
): number => {
  let at = start
  let depth = 0
  let left = 1
  let inMap = false
  let nodesLeft = MAX_NODES
  let marked = 0
  for (;;) {
    if (left === 0) {
      if (depth === 0) break
      const outer = OUTER[--depth]!
      left = outer >> 1
      inMap = (outer & 1) === 1
      continue
    }
    left--
    if (inMap) at = afterKey(bytes, at)
    if (at >= end) throw malformed(bytes, at, 'it ends too early')
    const token = bytes[at++]!
    if (token < 0x80 || token >= 0xe0) continue
    if (token >= 0xa0 && token < 0xc0) {
      at += token & 0x1f
      continue
    }
    let length: number
    let isMap = false
    if (token < 0xa0) {
      isMap = token < 0x90
      length = token & 0x0f
    } else {
      switch (token) {
        case 0xc0:
        case 0xc2:
        case 0xc3:
          continue
        case 0xca:
        case 0xce:
        case 0xd2:
          at += 4
          continue
        case 0xcb:
        case 0xcf:
        case 0xd3:
          at += 8
          continue
        case 0xcc:
        case 0xd0:
          at += 1
          continue
        case 0xcd:
        case 0xd1:
          at += 2
          continue
        case 0xc4:
        case 0xc5:
        case 0xc6: {
          const width = 1 << (token - 0xc4)
          at += width + lengthAt(bytes, at, width)
          continue
        }
        case 0xd9:
        case 0xda:
        case 0xdb: {
          const width = 1 << (token - 0xd9)
          length = lengthAt(bytes, at, width)
          at += width
          if (length > 64 && bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf) {
            marks?.push(at - width - 1)
            marked++
          }
          at += length
          continue
        }
        case 0xc7:
        case 0xd6:
        case 0xd7:
          at = afterTimestamp(bytes, at, token)
          continue
        case 0xdc:
        case 0xdd:
        case 0xde:
        case 0xdf: {
          isMap = token >= 0xde
          const width = (token & 1) === 0 ? 2 : 4
          length = lengthAt(bytes, at, width)
          at += width
          break
        }
        case 0xc1:
          throw malformed(bytes, at - 1, 'the byte 0xc1 never occurs in msgpack')
        default:
          throw malformed(bytes, at - 1, 'it has an extension type other than the timestamp')
      }
    }
    if (length > (isMap ? (end - at) / 2 : end - at)) {
      throw malformed(
        bytes,
        at,
        `it claims ${length} ${isMap ? 'entries' : 'elements'}, more than its bytes can hold`,
      )
    }
    nodesLeft -= length
    if (nodesLeft < 0) throw malformed(bytes, at, `it has more than ${MAX_NODES} nodes`)
    if (depth === MAX_DEPTH) throw malformed(bytes, at, `it is nested deeper than ${MAX_DEPTH} levels`)
    OUTER[depth++] = left * 2 + (inMap ? 1 : 0)
    left = length
    inMap = isMap
  }
  if (at > end) throw malformed(bytes, end, 'it ends too early')
  if (at < end) throw malformed(bytes, at, `${end - at} bytes follow its end`)
  return marked
}

const malformed = (bytes: Uint8Array, at: number, what: string): SkeinError =>
  new SkeinError(
    'MALFORMED',
    `decoding a msgpack value of ${bytes.length} bytes failed at byte ${Math.min(at, bytes.length)}: ${what}; ` +
      'it was dropped, look at what its sender runs',
  )

const lengthAt = (bytes: Uint8Array, at: number, width: number): number => {
  if (at + width > bytes.length) throw malformed(bytes, at, 'it ends too early')
  let length = bytes[at]!
  for (let i = 1; i < width; i++) length = length * 256 + bytes[at + i]!
  return length
}

const afterKey = (bytes: Uint8Array, at: number): number => {
  if (at >= bytes.length) throw malformed(bytes, at, 'it ends too early')
  const token = bytes[at++]!
  let length: number
  if (token >= 0xa0 && token < 0xc0) length = token & 0x1f
  else if (token < 0x80 || token >= 0xe0) return at
  else if (token >= 0xcc && token <= 0xd3) return at + (1 << (token & 3))
  else if (token >= 0xd9 && token <= 0xdb) {
    const width = 1 << (token - 0xd9)
    length = lengthAt(bytes, at, width)
    at += width
    // The decoder may drop the U+FEFF of such a key; a packer of ours never makes one.
    if (length > 64 && bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf) {
      throw malformed(bytes, at, 'it has a long key that begins with U+FEFF')
    }
  } else throw malformed(bytes, at - 1, 'it has a key that is neither a string nor an integer')
  if (length === 9 && bytes[at] === 0x5f && isProto(bytes, at)) {
    throw malformed(bytes, at, 'it has the key "__proto__"')
  }
  return at + length
}

const isProto = (bytes: Uint8Array, at: number): boolean => PROTO.every((byte, i) => bytes[at + i] === byte)

const afterTimestamp = (bytes: Uint8Array, at: number, token: number): number => {
  const length = token === 0xc7 ? lengthAt(bytes, at++, 1) : token === 0xd6 ? 4 : 8
  if (at + 1 + length > bytes.length) throw malformed(bytes, at, 'it ends too early')
  if (bytes[at] !== 0xff) throw malformed(bytes, at, 'it has an extension type other than the timestamp')
  const start = at + 1
  if (length === 12) {
    const high = lengthAt(bytes, start + 4, 4) | 0
    const seconds = high * 0x1_0000_0000 + lengthAt(bytes, start + 8, 4)
    const millis = seconds * 1000 + lengthAt(bytes, start, 4) / 1e6
    if (!(Math.abs(millis) <= DATE_LIMIT_SECONDS * 1000)) {
      throw malformed(bytes, start, 'it has a timestamp outside the range of a Date')
    }
  } else if (length !== 4 && length !== 8) {
    throw malformed(bytes, start, 'it has a timestamp that is not of 4, 8 or 12 bytes')
  }
  return start + length
}
