import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { expect, test } from 'vitest'
import { SkeinError } from '../../src/errors.ts'
import { MAX_DEPTH, MAX_NODES, prescan } from '../../src/protocol/prescan.ts'

const packr = new Packr({ useRecords: false, structuredClone: false, variableMapSize: true })

const faultOf = (bytes: Uint8Array): string | undefined => {
  try {
    prescan(bytes)
    return undefined
  } catch (error) {
    if (error instanceof SkeinError && error.code === 'MALFORMED') return error.message
    throw error
  }
}

const bytes = (...parts: (number | string | Buffer)[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part as string))),
  )

const nested = (levels: number): Buffer => bytes(Buffer.alloc(levels - 1, 0x91), 0x90)

test.each<[string, Buffer]>([
  ['nothing at all', bytes()],
  ['an array32 that claims 2^28 elements', bytes(0xdd, 0x10, 0, 0, 0)],
  ['an array32 that claims 50 million elements', bytes(0xdd, 0x02, 0xfa, 0xf0, 0x80)],
  ['an array16 that claims one more than there are', bytes(0xdc, 0, 2, 0xc0)],
  ['a map32 that claims 2^31 entries', bytes(0xdf, 0x80, 0, 0, 0)],
  ['a map that claims more entries than its bytes can hold', bytes(0x82, 0xa0, 0xc0, 0xa0)],
  ['a bin32 that claims 2^31 bytes', bytes(0xc6, 0x80, 0, 0, 0)],
  ['a str32 that claims 2^31 bytes', bytes(0xdb, 0x80, 0, 0, 0)],
  ['a str32 that claims 2^32 - 1 bytes', bytes(0xdb, 0xff, 0xff, 0xff, 0xff)],
  ['5000 nested arrays', nested(5000)],
  ['100000 nested arrays', nested(100_000)],
  ['65 nested arrays', nested(MAX_DEPTH + 1)],
  ['nested maps', bytes(...Array<Buffer>(MAX_DEPTH).fill(bytes(0x81, 0xa1, 'a')), 0x80)],
  ['bytes after the value', bytes(0x01, 0xff, 0xff)],
  ['the byte that never occurs', bytes(0xc1)],
  ['a float cut short', bytes(0xcb, 0, 0)],
  ['a key without a value', bytes(0x81, 0xa1, 'a')],
  ['the key __proto__', bytes(0x81, 0xa9, '__proto__', 0x81, 0xa1, 'x', 1)],
  ['the key __proto__ as str8', bytes(0x81, 0xd9, 9, '__proto__', 1)],
  ['the key __proto__ as str16', bytes(0x81, 0xda, 0, 9, '__proto__', 1)],
  ['the key __proto__ as str32', bytes(0x81, 0xdb, 0, 0, 0, 9, '__proto__', 1)],
  ['the key __proto__ deep inside', bytes(0x91, 0x81, 0xa1, 'a', 0x81, 0xa9, '__proto__', 1)],
  ['a long key that begins with U+FEFF', bytes(0x81, 0xd9, 68, '\ufeff', 'x'.repeat(65), 1)],
  ['an array as key', bytes(0x81, 0x90, 1)],
  ['a map as key', bytes(0x81, 0x80, 1)],
  ['binary as key', bytes(0x81, 0xc4, 1, 1, 1)],
  ['nil as key', bytes(0x81, 0xc0, 1)],
  ['a boolean as key', bytes(0x81, 0xc3, 1)],
  ['a float as key', bytes(0x81, 0xcb, Buffer.alloc(8), 1)],
  ['a timestamp as key', bytes(0x81, 0xd6, 0xff, 0, 0, 0, 0, 1)],
  ['a definition of a record', bytes(0xd4, 0x72, 0x40, 0x93, 0xa1, 'a', 0xa1, 'b', 0xa1, 'c', 1, 2, 3)],
  ['a definition of a record, two bytes', bytes(0xd5, 0x72, 0x40, 0, 0x91, 0xa1, 'a', 1)],
  ['a reference', bytes(0xd6, 0x70, 0, 0, 0, 1)],
  ['a referable', bytes(0xd6, 0x69, 0, 0, 0, 1, 0x90)],
  ['a regular expression', bytes(0xd4, 0x78, 0, 0x92, 0xa1, 'a', 0xa0)],
  ['an error', bytes(0xd4, 0x65, 0, 0x93, 0xa1, 'a', 0xa1, 'b', 0xc0)],
  ['a set', bytes(0xd4, 0x73, 0, 0x90)],
  ['a bundle of strings', bytes(0xd6, 0x62, 0, 0, 0, 4, 0xa0, 0xa0)],
  ['a typed array', bytes(0xd5, 0x74, 1, 1)],
  ['a bigint of 200 kB', bytes(0xc9, 0, 3, 0x0d, 0x40, 0x42, Buffer.alloc(200_000, 1))],
  ['undefined as an extension', bytes(0xd4, 0, 0)],
  ['a timestamp of 5 bytes', bytes(0xc7, 5, 0xff, 1, 2, 3, 4, 5)],
  ['a timestamp of 1 byte', bytes(0xd4, 0xff, 0xff)],
  ['a timestamp of 16 bytes', bytes(0xd8, 0xff, Buffer.alloc(16))],
  ['a timestamp cut short', bytes(0xd7, 0xff, 0, 0)],
  ['a timestamp of 12 bytes cut short', bytes(0xc7, 12, 0xff, Buffer.alloc(11))],
  ['a timestamp after every Date', bytes(0xc7, 12, 0xff, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0)],
])('prescan - refused: %s', (_, input) => {
  expect(faultOf(input)).toMatch(
    /^decoding a msgpack value of \d+ bytes failed at byte \d+: .*; it was dropped/,
  )
})

test.each([0x00, 0x42, 0x62, 0x65, 0x69, 0x70, 0x72, 0x73, 0x74, 0x78, 0x7f, 0x80, 0xfe])(
  'prescan - refused: the extension type %i, in every form',
  (type) => {
    const forms = [
      bytes(0xd4, type, Buffer.alloc(1)),
      bytes(0xd5, type, Buffer.alloc(2)),
      bytes(0xd6, type, Buffer.alloc(4)),
      bytes(0xd7, type, Buffer.alloc(8)),
      bytes(0xd8, type, Buffer.alloc(16)),
      bytes(0xc7, 4, type, Buffer.alloc(4)),
      bytes(0xc7, 12, type, Buffer.alloc(12)),
      bytes(0xc8, 0, 4, type, Buffer.alloc(4)),
      bytes(0xc9, 0, 0, 0, 4, type, Buffer.alloc(4)),
    ]
    for (const form of forms) expect(faultOf(form)).toMatch('extension')
  },
)

test.each<[string, Buffer]>([
  ['64 nested arrays', nested(MAX_DEPTH)],
  ['keys that are integers', bytes(0x83, 1, 1, 0xff, 1, 0xd3, Buffer.alloc(8), 1)],
  [
    'keys of every integer width',
    bytes(0x84, 0xcc, 1, 1, 0xcd, 0, 2, 1, 0xd2, 0, 0, 0, 3, 1, 0xcf, Buffer.alloc(8, 1), 1),
  ],
  ['the keys constructor and __proto_', bytes(0x82, 0xab, 'constructor', 1, 0xa8, '__proto_', 1)],
  ['__proto__ as a value', bytes(0x91, 0xa9, '__proto__')],
  [
    'timestamps of 4, 8 and 12 bytes',
    bytes(0x93, 0xd6, 0xff, Buffer.alloc(4), 0xd7, 0xff, Buffer.alloc(8), 0xc7, 12, 0xff, Buffer.alloc(12)),
  ],
  ['a timestamp of 8 bytes with a long header', bytes(0xc7, 8, 0xff, Buffer.alloc(8))],
  [
    'empty strings, binaries, arrays and maps',
    bytes(0x96, 0xa0, 0xc4, 0, 0x90, 0x80, 0xdc, 0, 0, 0xdf, 0, 0, 0, 0),
  ],
])('prescan - passed: %s', (_, input) => {
  expect(faultOf(input)).toBeUndefined()
})

test('prescan - a value of many tiny maps is refused before the decoder makes megabytes of them', () => {
  const ofMaps = (count: number): Buffer => {
    const header = Buffer.from([0xdd, 0, 0, 0, 0])
    header.writeUInt32BE(count, 1)
    return bytes(header, Buffer.alloc(count, 0x80))
  }
  expect(faultOf(ofMaps(MAX_NODES + 1))).toMatch('nodes')
  expect(faultOf(ofMaps(MAX_NODES))).toBeUndefined()
  expect(faultOf(bytes(0x92, ofMaps(MAX_NODES / 2), ofMaps(MAX_NODES / 2)))).toMatch('nodes')
})

test('prescan - everything msgpack has to offer passes whole, and is refused when any byte is missing or added', () => {
  fc.assert(
    fc.property(
      fc.anything({
        maxDepth: 4,
        withBigInt: false,
        withDate: true,
        withNullPrototype: true,
        values: [
          fc.jsonValue(),
          fc.uint8Array(),
          fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
          fc.string(),
        ],
      }),
      (value) => {
        const whole = packr.pack(value ?? null)
        if (faultOf(whole) !== undefined) {
          // msgpackr has no msgpack for the first two, an invalid Date and undefined; the third is refused as a key.
          const refused = [
            Buffer.from([0xd4, 0xff, 0xff]),
            Buffer.from([0xd4, 0, 0]),
            Buffer.from('__proto__'),
          ]
          expect(refused.some((bytes) => whole.includes(bytes))).toBe(true)
          return
        }
        expect(faultOf(bytes(whole, 0xc0))).toBeDefined()
        for (let end = 0; end < Math.min(whole.length, 300); end++) {
          expect(faultOf(whole.subarray(0, end))).toBeDefined()
        }
      },
    ),
  )
})

test('prescan - whatever the bytes, it throws nothing but MALFORMED', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (input) => {
      faultOf(input)
    }),
    { numRuns: 3000 },
  )
})
