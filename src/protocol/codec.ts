import { isUtf8 } from 'node:buffer'
import { Packr, Unpackr } from 'msgpackr'
import { SkeinError } from '../errors.ts'
import type { Frame } from './frame.ts'
import { MAX_DEPTH, MAX_NODES, prescan } from './prescan.ts'

/** How the bytes of a payload are to be read. */
export const CONTENT = { none: 0, msgpack: 1, bytes: 2, text: 3 } as const

/** Of msgpack only what every implementation reads: no records, no references, no extension but the timestamp. */
const PROFILE = {
  useRecords: false,
  structuredClone: false,
  moreTypes: false,
  useToJSON: false,
  variableMapSize: false,
  encodeUndefinedAsNil: true,
  mapsAsObjects: true,
  // Its types do not know 'auto': a number where that is exact, else a bigint.
  int64AsType: 'auto' as 'bigint',
} as const

const packr = new Packr(PROFILE)
// Leaving out undefined properties, and maps of more than 65,535 entries, take a slower loop over the keys, so only
// values that have some pay for it.
const thoroughPackr = new Packr({ ...PROFILE, variableMapSize: true, ...{ skipValues: [undefined] } })
const MAX_FAST_ENTRIES = 0xffff
const copyingUnpackr = new Unpackr({ ...PROFILE, copyBuffers: true })
const viewingUnpackr = new Unpackr({ ...PROFILE, copyBuffers: false })

const SLAB_BYTES = 8 * 1024
const EXACT_INTEGERS = 2n ** 53n
const STR_8 = 0xd9
const BIN_8 = 0xc4

/** How `value` travels: text and bytes as they are, `undefined` as nothing, all else as msgpack. */
export const contentTypeOf = (value: unknown): number => {
  if (value === undefined) return CONTENT.none
  if (typeof value === 'string') return CONTENT.text
  return value instanceof Uint8Array ? CONTENT.bytes : CONTENT.msgpack
}

/** Refuses a text that UTF-8 cannot carry: half of a surrogate pair would arrive as U+FFFD. */
export const assertText = (text: string): void => {
  if (!text.isWellFormed()) throw unsupported({ path: '', what: LONE_SURROGATE })
}

/**
 * The msgpack of `value`, which arrives as an equal value or is refused.
 *
 * Carried: null, booleans, numbers (NaN and the infinities too), strings, bigints of 64 bits beyond the numbers that
 * are exact, valid dates, `Uint8Array` and `Buffer` (arriving as `Buffer`), arrays, plain objects. As in JSON, object
 * properties that are `undefined` are left out, -0 arrives as 0, and only an array's elements and an object's
 * enumerable properties count; an object without a prototype arrives with the usual one.
 *
 * @throws SkeinError VALUE_UNSUPPORTED, naming the place inside the value
 */
export const pack = (value: unknown): Uint8Array => {
  const walk: Walk = { nodesLeft: MAX_NODES, isSimple: true }
  const found = flawOf(value, walk, 0)
  if (found !== undefined) throw unsupported(found)
  let packed: Buffer
  try {
    packed = (walk.isSimple ? packr : thoroughPackr).pack(value)
  } catch (cause) {
    throw new SkeinError(
      'VALUE_TOO_LARGE',
      'packing a value failed: its msgpack does not fit into one buffer; send it in parts',
      { cause },
    )
  }
  if (packed.length <= SLAB_BYTES) return packed
  // Every Packr writes into one slab, which stays as big as the biggest value made it: the small ones packed after it
  // would each keep it alive for as long as they are queued.
  packr.useBuffer(Buffer.allocUnsafeSlow(SLAB_BYTES))
  return packed.length * 2 < packed.buffer.byteLength ? Buffer.from(packed) : packed
}

/**
 * The value of msgpack from outside, which stands from `start` to `end`. Binary inside it is copied, so nothing keeps
 * the received frame alive.
 *
 * @throws SkeinError MALFORMED
 */
export const unpack = (bytes: Uint8Array, start = 0, end: number = bytes.length): unknown => {
  const marked = prescan(bytes, start, end)
  const buffer = asBuffer(bytes)
  try {
    if (marked > 0) return unpackMarked(buffer.subarray(start, end))
    RANGE.start = start
    RANGE.end = end
    return copyingUnpackr.unpack(buffer, RANGE)
  } catch (cause) {
    // No cause: the decoder's message may carry the decoded value.
    const kind = cause instanceof Error ? cause.name : typeof cause
    throw new SkeinError(
      'MALFORMED',
      `decoding a msgpack value of ${end - start} bytes failed (${kind}); it was dropped, look at what its sender runs`,
    )
  }
}

// The decoder keeps a DataView with each buffer it reads: reading in place makes one for each frame, not each value.
const RANGE = { start: 0, end: 0 }

/**
 * The value of a received payload, of which nothing refers to its frame any more.
 *
 * @throws SkeinError MALFORMED
 */
export const decodeContent = (type: number, frame: Frame, start: number, end: number): unknown => {
  switch (type) {
    case CONTENT.none:
      return undefined
    case CONTENT.msgpack:
      return unpack(frame.bytes, start, end)
    case CONTENT.bytes:
      return frame.copy(start, end)
    case CONTENT.text:
      return textOf(frame.bytes, start, end)
    default:
      throw new SkeinError(
        'MALFORMED',
        `decoding a payload of ${end - start} bytes failed: its content type ${type} is unknown; ` +
          'it was dropped, its sender may run a newer version',
      )
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const textOf = (bytes: Buffer, start: number, end: number): string => {
  const text = bytes.toString('utf8', start, end)
  // A U+FFFD was either sent, or stands for bytes that are not UTF-8.
  if (!text.includes('\uFFFD') || isUtf8(bytes.subarray(start, end))) return text
  throw new SkeinError(
    'MALFORMED',
    `decoding a text of ${end - start} bytes failed: it is not UTF-8; it was dropped, look at what its sender runs`,
  )
}

/**
 * Without its native part the decoder reads strings over 64 bytes with a TextDecoder, which swallows a leading
 * U+FEFF. So those are read as binary, whose headers have the same widths, and turned into text by their offsets.
 */
const unpackMarked = (bytes: Buffer): unknown => {
  const marks: number[] = []
  prescan(bytes, 0, bytes.length, marks)
  const copy = Buffer.from(bytes)
  const starts = new Set<number>()
  for (const at of marks) {
    const token = copy[at]!
    starts.add(copy.byteOffset + at + 1 + (1 << (token - STR_8)))
    copy[at] = token - STR_8 + BIN_8
  }
  return withTexts(viewingUnpackr.unpack(copy), starts)
}

const withTexts = (value: unknown, starts: Set<number>): unknown => {
  if (value instanceof Uint8Array) {
    return starts.has(value.byteOffset) ? asBuffer(value).toString('utf8') : Buffer.from(value)
  }
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) value[i] = withTexts(value[i], starts)
  } else if (isRecord(value)) {
    for (const key of Object.keys(value)) value[key] = withTexts(value[key], starts)
  }
  return value
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !(value instanceof Date)

interface Walk {
  nodesLeft: number
  /** No property that is undefined was met, and no very large map. */
  isSimple: boolean
}

/** What msgpack would not carry, and where: the path is put together on the way back, so sound values pay nothing. */
interface Flaw {
  path: string
  what: string
}

const LONE_SURROGATE = 'has half of a surrogate pair; use toWellFormed()'
const UNDEFINED: Flaw = { path: '', what: 'is undefined; use null' }

const unsupported = ({ path, what }: Flaw): SkeinError => {
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path
  return new SkeinError('VALUE_UNSUPPORTED', `packing a value failed: value${shown} ${what}`)
}

const flaw = (what: string): Flaw => ({ path: '', what })
const inside = (step: string, { path, what }: Flaw): Flaw => ({ path: step + path, what })

const flawOf = (value: unknown, walk: Walk, depth: number): Flaw | undefined => {
  switch (typeof value) {
    case 'number':
    case 'boolean':
      return undefined
    case 'string':
      return value.isWellFormed() ? undefined : flaw(LONE_SURROGATE)
    case 'object':
      if (value === null) return undefined
      return flawOfObject(value, walk, depth)
    case 'bigint':
      return flawOfBigint(value)
    case 'undefined':
      return UNDEFINED
    case 'function':
      return flaw('is a function; send what it returns')
    default:
      return flaw('is a symbol; use a string')
  }
}

const flawOfBigint = (value: bigint): Flaw | undefined => {
  if (value >= -EXACT_INTEGERS && value <= EXACT_INTEGERS) {
    return flaw('is a bigint that would arrive as a number; use a number')
  }
  const fits = value > 0n ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value)
  return fits === value ? undefined : flaw('is a bigint of more than 64 bits; use a string')
}

const flawOfObject = (value: object, walk: Walk, depth: number): Flaw | undefined => {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) {
    return depth === MAX_DEPTH ? TOO_DEEP : flawOfRecord(value as Record<string, unknown>, walk, depth)
  }
  if (prototype === Array.prototype && Array.isArray(value)) {
    return depth === MAX_DEPTH ? TOO_DEEP : flawOfArray(value, walk, depth)
  }
  if (prototype === Buffer.prototype || prototype === Uint8Array.prototype) return undefined
  if (prototype === Date.prototype) {
    return Number.isNaN((value as Date).getTime()) ? flaw('is an invalid Date; use null') : undefined
  }
  return flaw(`is ${nameOf(value)}, which would arrive as something else; ${insteadOf(value)}`)
}

const TOO_DEEP = flaw(`is nested deeper than ${MAX_DEPTH} levels, or refers to itself`)
const TOO_MANY = flaw(`is where the value exceeds ${MAX_NODES} nodes; send it in parts, or numbers as bytes`)

const flawOfArray = (array: unknown[], walk: Walk, depth: number): Flaw | undefined => {
  walk.nodesLeft -= array.length
  if (walk.nodesLeft < 0) return TOO_MANY
  for (let i = 0; i < array.length; i++) {
    const found = flawOf(array[i], walk, depth + 1)
    if (found !== undefined) return inside(`[${i}]`, found)
  }
  return undefined
}

// for-in reads the keys three times as fast as Object.keys; what it adds, enumerable properties that someone put on
// Object.prototype, is told apart only where it would matter. JSON.stringify would drop symbol keys unseen.
const flawOfRecord = (record: Record<string, unknown>, walk: Walk, depth: number): Flaw | undefined => {
  let place = 0
  for (const key in record) {
    const value = record[key]
    const type = typeof value
    if (type === 'undefined') {
      walk.isSimple = false
      continue
    }
    const found =
      flawOfKey(key, place++) ??
      (type === 'number' || type === 'boolean' ? undefined : flawOf(value, walk, depth + 1))
    if (found !== undefined && Object.hasOwn(record, key)) return inside(stepOf(key), found)
    if (--walk.nodesLeft < 0) return TOO_MANY
  }
  if (place > MAX_FAST_ENTRIES) walk.isSimple = false
  if (Object.getOwnPropertySymbols(record).length > 0) return flaw('has a key that is a symbol; use a string')
  return undefined
}

// The sound key last met at each place: records of a stream have the same keys in the same order, and to see that
// it is the very same string costs a tenth of looking into it.
const soundKeys: string[] = new Array<string>(32).fill('')

const flawOfKey = (key: string, place: number): Flaw | undefined => {
  if (soundKeys[place] === key) return undefined
  const found = flawOfNewKey(key)
  if (found === undefined && place < soundKeys.length && key.length <= 64) soundKeys[place] = key
  return found
}

const flawOfNewKey = (key: string): Flaw | undefined => {
  if (key === '__proto__') return flaw('is under a key that every receiver refuses; use another')
  if (!key.isWellFormed()) return flaw('has half of a surrogate pair in its key; use toWellFormed()')
  // Short ones arrive as they are: the decoder loses it only from strings over 64 bytes, at least 22 characters.
  return key.length > 21 && key.charCodeAt(0) === 0xfeff
    ? flaw('has a long key that begins with U+FEFF; leave that out')
    : undefined
}

const stepOf = (key: string): string =>
  /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`

const nameOf = (value: object): string => {
  const kind: unknown = value.constructor?.name
  const name = typeof kind === 'string' && kind !== '' ? kind : 'object of a class'
  return `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`
}

const insteadOf = (value: object): string => {
  if (value instanceof Set || Array.isArray(value)) return 'use an array'
  if (value instanceof Map) return 'use a plain object'
  if (value instanceof Error) return 'use a plain object of its message and code'
  if (value instanceof RegExp) return 'use its source'
  if (value instanceof Promise) return 'await it'
  if (ArrayBuffer.isView(value)) return 'use a Uint8Array over its buffer'
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return 'use a Uint8Array over it'
  return 'use a plain object'
}
