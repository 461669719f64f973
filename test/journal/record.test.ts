import { crc32 as zlibCrc32 } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { crc32 } from '../../src/journal/crc.ts'
import { HEADER_BYTES, nameOf, placeOf, putHeader, readHeader } from '../../src/journal/header.ts'
import {
  addRange,
  boundOf,
  countIn,
  getRanges,
  normalise,
  putRanges,
  subtract,
} from '../../src/journal/ranges.ts'
import {
  decodeNote,
  encodeNote,
  HEAD_BYTES,
  isPlausible,
  isSealed,
  putHead,
  sealRecord,
  sequenceAt,
  spanOf,
} from '../../src/journal/record.ts'
import { SegmentIndex } from '../../src/journal/segment-index.ts'

const SEQUENCE = fc.integer({ min: 0, max: 2 ** 48 - 1 })

/** Numbers below this, in ranges that are in no order and may overlap. */
const MOST = 60
const PAIRS = fc
  .array(fc.tuple(fc.nat(MOST - 1), fc.nat(8)), { maxLength: 12 })
  .map((pairs) => pairs.flatMap(([from, more]) => [from, from + more]))

const setOf = (pairs: readonly number[]): Set<number> => {
  const all = new Set<number>()
  for (let at = 0; at < pairs.length; at += 2)
    for (let each = pairs[at]!; each <= pairs[at + 1]!; each++) all.add(each)
  return all
}

const rangesOf = (numbers: Iterable<number>): number[] => {
  const ranges: number[] = []
  for (const each of [...numbers].sort((a, b) => a - b)) addRange(ranges, each, each)
  return ranges
}

describe('crc', () => {
  test('it is that of zlib, whatever the length, the place and what went before', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        fc.nat(20),
        fc.nat(0xffff_ffff),
        (bytes, from, before) => {
          const buffer = Buffer.from(bytes)
          const start = Math.min(from, buffer.length - 1)
          expect(crc32(buffer, start, buffer.length, before)).toBe(zlibCrc32(buffer.subarray(start), before))
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('ranges', () => {
  test('put in order they hold the same numbers, apart from each other', () => {
    fc.assert(
      fc.property(PAIRS, (pairs) => {
        expect(normalise(pairs)).toEqual(rangesOf(setOf(pairs)))
      }),
    )
  })

  test('what is taken away is gone, and nothing else', () => {
    fc.assert(
      fc.property(PAIRS, PAIRS, (pairs, others) => {
        const away = setOf(others)
        const left = [...setOf(pairs)].filter((each) => !away.has(each))
        expect(subtract(normalise(pairs), normalise(others))).toEqual(rangesOf(left))
        expect(countIn(normalise(pairs))).toBe(setOf(pairs).size)
      }),
    )
  })

  test('written they are read again, within the room they were said to need', () => {
    fc.assert(
      fc.property(fc.array(SEQUENCE, { maxLength: 40 }), (numbers) => {
        const ranges = rangesOf(new Set(numbers))
        const buffer = Buffer.alloc(boundOf(ranges))
        const end = putRanges(buffer, 0, ranges)
        expect(getRanges(buffer, 0, end)).toEqual(ranges)
      }),
    )
  })

  test('any bytes are ranges or none: nothing is thrown, nothing large is made of little', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const ranges = getRanges(Buffer.from(bytes), 0, bytes.length)
        expect((ranges ?? []).length).toBeLessThanOrEqual(bytes.length)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('record', () => {
  test('it counts in its own place only', () => {
    const buffer = Buffer.alloc(spanOf(5))
    putHead(buffer, 0, 5, 2 ** 47 + 3, 7)
    buffer.write('hello', HEAD_BYTES)
    sealRecord(buffer, 0, 99, 128)
    expect(sequenceAt(buffer, 0)).toBe(2 ** 47 + 3)
    expect(isSealed(buffer, 0, 99, 128)).toBe(true)
    expect(isSealed(buffer, 0, 99, 136)).toBe(false)
    expect(isSealed(buffer, 0, 98, 128)).toBe(false)
  })

  test('zeros are no record, and none is longer than what is left of its segment', () => {
    const buffer = Buffer.alloc(64)
    expect(isPlausible(buffer, 0, 64)).toBe(false)
    putHead(buffer, 0, 40, 1, 7)
    expect(isPlausible(buffer, 0, 56)).toBe(true)
    expect(isPlausible(buffer, 0, 48)).toBe(false)
    putHead(buffer, 0, 0xffff_ffff, 1, 7)
    expect(isPlausible(buffer, 0, 2 ** 31)).toBe(false)
  })

  test('a note is read as it was written; any other bytes are none', () => {
    const note = {
      kind: 1,
      wallMs: 1_800_000_000_000,
      accepted: 4096,
      ranges: [3, 9, 2 ** 40, 2 ** 47],
    } as const
    const buffer = encodeNote(note, 12)
    expect(decodeNote(buffer, HEAD_BYTES, buffer.length)).toEqual(note)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => {
        decodeNote(Buffer.from(bytes), 0, bytes.length)
      }),
    )
  })
})

describe('header', () => {
  const header = {
    nodeId: '00112233445566778899aabbccddeeff',
    first: 2 ** 33,
    last: 2 ** 34,
    generation: 3,
    previous: 0,
    previousEnd: 0,
    bytes: 777,
  }

  test('any one byte changed: the other copy is read, and the change is told', () => {
    const whole = Buffer.alloc(HEADER_BYTES)
    putHeader(whole, header)
    expect(readHeader(whole)).toEqual({ header, damaged: false })
    for (let at = 0; at < HEADER_BYTES; at++) {
      const buffer = Buffer.from(whole)
      buffer[at]! ^= 0x10
      expect(readHeader(buffer), `byte ${at}`).toEqual({ header, damaged: true })
    }
  })

  test('a name says which segment it is; other names say nothing', () => {
    for (const place of [
      { first: 1, last: 1, generation: 0 },
      { first: 2 ** 31, last: 2 ** 47, generation: 12 },
    ])
      expect(placeOf(nameOf(place))).toEqual(place)
    for (const name of ['reserve', '1.segment', '000000000001.segment.tmp', '000000000001-2.1.segment', ''])
      expect(placeOf(name)).toBeUndefined()
  })
})

describe('segment index', () => {
  test('it knows where each record stands, which are live, and how many bytes those take', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 200 }),
        fc.array(fc.tuple(fc.nat(400), fc.nat(30)), { maxLength: 20 }),
        (steps, settlements) => {
          const index = new SegmentIndex()
          const live = new Map<number, number>()
          let sequence = 2 ** 40
          let offset = HEADER_BYTES
          for (const step of steps) {
            sequence += step
            index.push(sequence, offset, offset + 8 * step)
            live.set(sequence, offset)
            offset += 8 * step
          }
          const bytesOf = new Map(
            [...live].map(([each, at], nth) => [each, ([...live.values()][nth + 1] ?? offset) - at]),
          )
          for (const [from, more] of settlements) {
            let settled = 0
            for (let each = 2 ** 40 + from; each <= 2 ** 40 + from + more; each++)
              if (live.delete(each)) settled++
            expect(index.settle(2 ** 40 + from, 2 ** 40 + from + more)).toBe(settled)
          }
          expect(index.live).toBe(live.size)
          expect(index.liveBytes).toBe([...live.keys()].reduce((sum, each) => sum + bytesOf.get(each)!, 0))
          for (const [each, at] of live) {
            const ordinal = index.find(each)
            expect([index.offsetAt(ordinal), index.sequenceAt(ordinal), index.isLive(ordinal)]).toEqual([
              at,
              each,
              true,
            ])
          }
          expect(index.find(2 ** 40)).toBe(-1)
          expect(index.find(sequence + 1)).toBe(-1)
        },
      ),
    )
  })
})
