import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SkeinError } from '../../src/errors.ts'
import { assertText, CONTENT, contentTypeOf, decodeContent, pack, unpack } from '../../src/protocol/codec.ts'
import { Frame } from '../../src/protocol/frame.ts'
import { MAX_DEPTH, MAX_NODES } from '../../src/protocol/prescan.ts'

/** The value of bytes that are a frame by themselves. */
const decode = (type: number, bytes: Uint8Array): unknown =>
  decodeContent(
    type,
    new Frame(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
    0,
    bytes.length,
  )

const errorOf = (act: () => unknown): SkeinError => {
  try {
    act()
  } catch (error) {
    if (error instanceof SkeinError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

const arrivalOf = (value: unknown): unknown => unpack(Buffer.from(pack(value)))

const text = fc.string({ unit: 'binary', maxLength: 80 })
const key = text.filter((name) => name !== '__proto__' && !name.startsWith('\ufeff'))
const bigint = fc
  .bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n })
  .filter((value) => value > 2n ** 53n || value < -(2n ** 53n))
const leaf = fc.oneof(
  text,
  text.map((tail) => `\ufeff${tail}`),
  fc.double().map((value) => value + 0),
  fc.integer(),
  fc.maxSafeInteger(),
  bigint,
  fc.date({ noInvalidDate: true }),
  fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
  fc.boolean(),
  fc.constant(null),
)
const { value: supported } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(key, tie('value'), { maxKeys: 20, noNullPrototype: true }),
  ),
}))

test('codec - every supported value arrives as it was sent', () => {
  fc.assert(
    fc.property(supported, (value) => {
      expect(arrivalOf(value)).toStrictEqual(value)
    }),
    { numRuns: 1000 },
  )
})

const exact: unknown[] = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MAX_SAFE_INTEGER,
  2 ** 53,
  2 ** 32,
  -(2 ** 31) - 1,
  Number.MIN_VALUE,
  2n ** 53n + 1n,
  -(2n ** 53n) - 1n,
  2n ** 64n - 1n,
  -(2n ** 63n),
  new Date(0),
  new Date(-1),
  new Date(999),
  new Date(2 ** 32 * 1000 + 1),
  new Date(8.64e15),
  new Date(-8.64e15 + 1),
  '',
  '\ufeff',
  '👩‍🚀'.repeat(40),
  [],
  {},
  { constructor: 1, toJSON: 'x', hasOwnProperty: null, prototype: [], '': 0, 7: 'seven', ÿ: 1, 語: 2 },
  [[[{ a: [Buffer.alloc(0)] }]]],
]

test.each(exact.map((value) => ({ value })))('codec - $value arrives as it was sent', ({ value }) => {
  expect(arrivalOf(value)).toStrictEqual(value)
})

test('codec - a long text keeps its U+FEFF wherever it stands, and binary beside it stays binary', () => {
  const marked = `\ufeff${'x'.repeat(70)}`
  const value = {
    short: '\ufeffabc',
    texts: [marked, marked.repeat(5), marked.repeat(2000)],
    deep: { marked, at: new Date(5), n: null },
    binary: [Buffer.from(marked), Buffer.from(marked.repeat(5)), Buffer.alloc(0)],
  }
  expect(arrivalOf(value)).toStrictEqual(value)
  expect(arrivalOf(marked)).toBe(marked)
})

test('codec - properties that are undefined are left out, as in JSON', () => {
  const packed = pack({ a: undefined, b: [{ c: undefined, d: 1 }] })
  expect(unpack(packed)).toStrictEqual({ b: [{ d: 1 }] })
})

test('codec - an object without a prototype arrives with the usual one', () => {
  expect(arrivalOf(Object.assign(Object.create(null), { a: 1, toJSON: 'x' }))).toStrictEqual({
    a: 1,
    toJSON: 'x',
  })
})

class Order {
  id = 1
}
const circle: Record<string, unknown> = {}
circle.self = { circle }
const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)])
const proto: unknown = JSON.parse('{"__proto__":{"x":1}}')

test.each<[string, unknown, string]>([
  [
    'a Set',
    { items: [0, 1, 2, { tags: new Set() }] },
    'value.items[3].tags is a Set, which would arrive as something else; use an array',
  ],
  ['a Map', new Map(), 'value is a Map'],
  ['an Error', [new RangeError('x')], 'value[0] is a RangeError'],
  ['a RegExp', { a: /x/ }, 'value.a is a RegExp'],
  ['an instance of a class', { order: new Order() }, 'value.order is an Order'],
  ['an array of a class', new (class List extends Array {})(), 'value is a List'],
  ['a boxed string', [Object('x')], 'value[0] is a String'],
  ['a Promise', Promise.resolve(1), 'await it'],
  ['a function', { f: () => 1 }, 'value.f is a function'],
  ['a symbol', [Symbol('x')], 'value[0] is a symbol'],
  ['a key that is a symbol', { a: { [Symbol('x')]: 1 } }, 'value.a has a key that is a symbol'],
  ['a Float64Array', new Float64Array(1), 'use a Uint8Array over its buffer'],
  ['a Uint8ClampedArray', new Uint8ClampedArray(1), 'Uint8ClampedArray'],
  ['an ArrayBuffer', { b: new ArrayBuffer(1) }, 'value.b is an ArrayBuffer'],
  ['a SharedArrayBuffer', new SharedArrayBuffer(1), 'SharedArrayBuffer'],
  ['a DataView', new DataView(new ArrayBuffer(1)), 'DataView'],
  ['an invalid Date', [new Date(Number.NaN)], 'value[0] is an invalid Date'],
  ['undefined', undefined, 'value is undefined'],
  ['undefined in an array', [1, undefined], 'value[1] is undefined'],
  ['a hole in an array', Array(2), 'value[0] is undefined'],
  ['a bigint that is a safe integer', { n: 5n }, 'value.n is a bigint that would arrive as a number'],
  ['the bigint 2^53, which a receiver makes a number', 2n ** 53n, 'use a number'],
  ['the bigint -2^53', -(2n ** 53n), 'use a number'],
  ['the bigint 2^64', 2n ** 64n, 'more than 64 bits'],
  ['the bigint -2^63 - 1', -(2n ** 63n) - 1n, 'more than 64 bits'],
  ['a lone surrogate', ['a\ud800'], 'value[0] has half of a surrogate pair'],
  ['a lone surrogate in a long text', `${'x'.repeat(100)}\udc00`, 'value has half of a surrogate pair'],
  ['a lone surrogate in a key', { '\ud800': 1 }, 'value["\\ud800"] has half of a surrogate pair in its key'],
  ['an own key __proto__', { a: proto }, 'value.a.__proto__ is under a key that every receiver refuses'],
  ['a long key that begins with U+FEFF', { [`\ufeff${'x'.repeat(70)}`]: 1 }, 'U+FEFF'],
  ['a value that refers to itself', circle, 'refers to itself'],
  ['65 levels', nested(MAX_DEPTH + 1), 'deeper than 64 levels'],
  ['too many nodes', Array(MAX_NODES + 1).fill(0), 'nodes'],
])('codec - %s is refused, because it would arrive as something else or not at all', (_, value, sentence) => {
  const error = errorOf(() => pack(value))
  expect(error.code).toBe('VALUE_UNSUPPORTED')
  expect(error.message).toContain(sentence)
  expect(error.message.length).toBeLessThan(400)
})

test('codec - values at the limits arrive', () => {
  expect(arrivalOf(nested(MAX_DEPTH))).toStrictEqual(nested(MAX_DEPTH))
  expect(arrivalOf(Array(MAX_NODES).fill(0))).toHaveLength(MAX_NODES)
})

test('codec - what is put on Object.prototype neither travels nor hinders', () => {
  // While it is there, the test framework stumbles over it.
  const intruder = { value: () => 1, enumerable: true, configurable: true, writable: true }
  Object.defineProperty(Object.prototype, 'intruder', intruder)
  let arrived: unknown
  try {
    arrived = arrivalOf({ a: 1, b: undefined, c: [{}] })
  } finally {
    Reflect.deleteProperty(Object.prototype, 'intruder')
  }
  expect(arrived).toStrictEqual({ a: 1, c: [{}] })
})

test('codec - whatever is packed, it is refused or arrives equal', () => {
  const anything = fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withSparseArray: true,
    withNullPrototype: true,
    withUnicodeString: true,
  })
  fc.assert(
    fc.property(anything, (value) => {
      let packed: Uint8Array
      try {
        packed = pack(value)
      } catch (error) {
        expect(error).toMatchObject({ code: 'VALUE_UNSUPPORTED' })
        return
      }
      // toEqual: -0, undefined properties and the missing prototype are the differences that the docstring names.
      expect(withoutMinusZero(unpack(packed))).toEqual(withoutMinusZero(value))
    }),
    { numRuns: 1000 },
  )
})

const withoutMinusZero = (value: unknown): unknown => {
  if (Object.is(value, -0)) return 0
  if (value instanceof Uint8Array) return Buffer.from(value)
  if (Array.isArray(value)) return value.map(withoutMinusZero)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, withoutMinusZero(inner)]))
}

test('codec - a big value leaves no big slab to the small ones after it', () => {
  const before = pack({ x: 1 })
  const big = pack({ text: 'x'.repeat(3_000_000) })
  const after = pack({ x: 2 })
  expect(unpack(before)).toEqual({ x: 1 })
  expect(big.buffer.byteLength).toBeLessThanOrEqual(big.length * 2)
  expect(unpack(big)).toEqual({ text: 'x'.repeat(3_000_000) })
  expect(after.buffer.byteLength).toBeLessThanOrEqual(64 * 1024)
  // Not a copy either, which each of them would need for as long as the slab stays big.
  expect(after.buffer).not.toBe(Buffer.from('pooled').buffer)
  expect(pack({ y: undefined, big: Buffer.alloc(200_000) }).length).toBeGreaterThan(200_000)
  expect(pack({ x: 3 }).buffer.byteLength).toBeLessThanOrEqual(64 * 1024)
})

test('codec - what was packed is never overwritten by what is packed next', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(40_000), { minLength: 2, maxLength: 12 }), (lengths) => {
      const packed = lengths.map((length, i) => pack({ i, filler: 'y'.repeat(length) }))
      for (const [i, bytes] of packed.entries()) {
        expect(unpack(bytes)).toEqual({ i, filler: 'y'.repeat(lengths[i]!) })
      }
    }),
    { numRuns: 50 },
  )
})

test.each<[string, number[]]>([
  ['a definition of a record', [0xd4, 0x72, 0x40, 0x93, 0xa1, 0x61, 0xa1, 0x62, 0xa1, 0x63, 1, 2, 3]],
  ['a reference', [0xd6, 0x70, 0, 0, 0, 1]],
  ['a referable', [0xd6, 0x69, 0, 0, 0, 1, 0x90]],
  ['a regular expression', [0xd4, 0x78, 0, 0x92, 0xa1, 0x61, 0xa0]],
  ['an error', [0xd4, 0x65, 0, 0x93, 0xa1, 0x61, 0xa1, 0x62, 0xc0]],
  ['a bundle of strings', [0xd6, 0x62, 0, 0, 0, 4, 0xa0, 0xa0]],
  ['bytes after the value', [0xa6, 0x73, 0x65, 0x63, 0x72, 0x65, 0x74, 0xc0]],
])('codec - %s is not decoded, and the error does not carry what was', (_, input) => {
  const error = errorOf(() => unpack(Uint8Array.from(input)))
  expect(error.code).toBe('MALFORMED')
  expect(error.message).not.toContain('secret')
  expect(error.cause).toBeUndefined()
})

test('codec - a token of a record stays the integer it is, whatever was decoded before', () => {
  errorOf(() => unpack(Uint8Array.from([0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 1])))
  expect(unpack(Uint8Array.from([0x40]))).toBe(0x40)
})

test('codec - random bytes and damaged values are decoded or MALFORMED, never anything else', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })
  const input = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.tuple(supported, damage).map(([value, changes]) => {
      const bytes = Buffer.from(pack(value))
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte
      return bytes
    }),
  )
  fc.assert(
    fc.property(input, (bytes) => {
      try {
        unpack(bytes)
      } catch (error) {
        expect(error).toBeInstanceOf(SkeinError)
        expect(error).toMatchObject({ code: 'MALFORMED' })
      }
    }),
    { numRuns: 3000 },
  )
})

test.each([
  ['a plain text', 'x'.repeat(80_000)],
  ['a text that begins with U+FEFF', `\ufeff${'x'.repeat(80_000)}`],
])('codec - what was decoded beside %s does not change with the frame, nor keep it', (_, text) => {
  const value = { small: Buffer.from('abc'), text }
  const packed = pack(value)
  const frame = Buffer.from(new ArrayBuffer(packed.length + 8), 8)
  frame.set(packed)
  const decoded = unpack(frame) as { small: Buffer; text: string }
  const bytes = decode(CONTENT.bytes, frame) as Buffer
  frame.fill(0)
  expect(decoded).toStrictEqual(value)
  // What Node itself shares among small buffers is all that it may keep.
  expect(decoded.small.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize + 4096)
  expect(bytes).toEqual(Buffer.from(packed))
})

test('codec - the content type says how a value travels', () => {
  expect(contentTypeOf(undefined)).toBe(CONTENT.none)
  expect(contentTypeOf('')).toBe(CONTENT.text)
  expect(contentTypeOf(new Uint8Array())).toBe(CONTENT.bytes)
  expect(contentTypeOf(Buffer.alloc(1))).toBe(CONTENT.bytes)
  for (const value of [null, 0, false, [], {}, 1n, new Date(), new Float32Array(1)]) {
    expect(contentTypeOf(value)).toBe(CONTENT.msgpack)
  }
})

test('codec - each content type is decoded as what it says', () => {
  expect(decode(CONTENT.none, new Uint8Array())).toBeUndefined()
  expect(decode(CONTENT.msgpack, pack({ a: 1 }))).toEqual({ a: 1 })
  expect(decode(CONTENT.bytes, Uint8Array.of(1, 2))).toEqual(Buffer.from([1, 2]))
  for (const sent of ['', 'abc', 'über 語 👩‍🚀', '\ufffd', '\ufeffabc', 'x'.repeat(100_000)]) {
    expect(decode(CONTENT.text, Buffer.from(sent))).toBe(sent)
    expect(decode(CONTENT.text, new TextEncoder().encode(sent))).toBe(sent)
  }
})

test.each([[[0xff]], [[0xed, 0xa0, 0x80]], [[0x61, 0xc3]], [[0xef, 0xbf, 0xbd, 0xc0, 0x80]]])(
  'codec - the bytes %j are not a text',
  (bytes) => {
    expect(errorOf(() => decode(CONTENT.text, Uint8Array.from(bytes))).code).toBe('MALFORMED')
  },
)

test.each([4, 255, -1, Number.NaN])('codec - the content type %d is refused', (type) => {
  expect(errorOf(() => decode(type, Buffer.from('a'))).code).toBe('MALFORMED')
})

test('codec - a text with half of a surrogate pair is refused', () => {
  expect(errorOf(() => assertText('a\ud800b')).code).toBe('VALUE_UNSUPPORTED')
  expect(() => assertText('a👩‍🚀\ufffd')).not.toThrow()
})
