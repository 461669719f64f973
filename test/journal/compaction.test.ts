import { describe, expect, test } from 'vitest'
import { type Candidate, chooseRun } from '../../src/journal/compaction.ts'

const MIB = 1024 * 1024
const LIMITS = { segmentBytes: 16 * MIB, roomBytes: 100 * MIB, share: 1 / 2 }

/** Segments of 16 MiB, of which so much is live. */
const segments = (...shares: number[]): Candidate[] =>
  shares.map((share, at) => ({
    bytes: 16 * MIB,
    liveBytes: share * 16 * MIB,
    firstSequence: 1000 * at,
    lastSequence: 1000 * at + 999,
    isMovable: true,
  }))

describe('compaction - which segments are put together', () => {
  test('nothing, where most is owed', () => {
    expect(chooseRun(segments(1, 0.9, 0.8), LIMITS)).toBeUndefined()
    expect(chooseRun([], LIMITS)).toBeUndefined()
  })

  test('those that gain most for what is written', () => {
    expect(chooseRun(segments(0.9, 0.1, 0.1, 0.1, 0.9), LIMITS)).toEqual({ from: 1, to: 3 })
    expect(chooseRun(segments(0.01), LIMITS)).toEqual({ from: 0, to: 0 })
  })

  test('less is enough when room is short', () => {
    const almost = segments(0.7, 0.7)
    expect(chooseRun(almost, LIMITS)).toBeUndefined()
    expect(chooseRun(almost, { ...LIMITS, share: 1 / 8 })).toBeDefined()
  })

  test('no more than fits into one segment, and into the room there is', () => {
    expect(chooseRun(segments(0.4, 0.4, 0.4), LIMITS)).toEqual({ from: 0, to: 1 })
    expect(chooseRun(segments(0.4, 0.4, 0.4), { ...LIMITS, roomBytes: 1 * MIB })).toBeUndefined()
  })

  test('never across one that has to stay, nor sequences too far apart for one index', () => {
    const sparse = segments(0.1, 0.1, 0.1)
    expect(chooseRun([sparse[0]!, { ...sparse[1]!, isMovable: false }, sparse[2]!], LIMITS)).toEqual({
      from: 0,
      to: 0,
    })
    const far = { ...sparse[1]!, firstSequence: 2 ** 33, lastSequence: 2 ** 33 + 999 }
    expect(chooseRun([sparse[0]!, far], LIMITS)).toEqual({ from: 0, to: 0 })
  })

  test('many files with little in them become one', () => {
    const small = segments(...Array.from({ length: 40 }, () => 0.01)).map((each) => ({
      ...each,
      bytes: each.liveBytes + 128,
    }))
    expect(chooseRun(small, LIMITS)).toEqual({ from: 0, to: 39 })
  })
})
