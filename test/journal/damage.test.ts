import { beforeAll, describe, expect, test } from 'vitest'
import { HEADER_BYTES } from '../../src/journal/header.ts'
import { inspectJournal } from '../../src/journal/inspection.ts'
import type { Journal } from '../../src/journal/journal.ts'
import { bodyBytesAt, spanOf } from '../../src/journal/record.ts'
import type { Recovery } from '../../src/journal/recovery.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { openOn } from '../support/journal-model.ts'
import { SimFiles } from '../support/sim-fs.ts'

/** On a machine that does a lot else. */
const MOST_MS = 60_000

const LIMITS = { segmentBytes: 1024, totalBytes: 16 * 1024, queuedBytes: 1024 * 1024 }

/** A journal as a killed process left it, and what its user knew of it. */
interface Left {
  readonly files: SimFiles
  /** In order; the last one is where the writer was. */
  readonly segments: readonly string[]
  readonly owed: ReadonlyMap<number, string>
  readonly settled: ReadonlyMap<number, string>
  /** The first sequence of the group that was written last. */
  readonly lastGroup: number
}

const textOf = (sequence: number): string => `record ${sequence} `.padEnd(11 + ((sequence * 7) % 25), '.')

/** Writes three kinds of segment: one that was put together of others, one that is full, one that is being written. */
const leave = async (): Promise<Left> => {
  const files = new SimFiles()
  const clock = new FakeClock()
  await files.makeDirectory('/data')
  await files.syncDirectory('/')
  const { journal } = await openOn(files, clock, LIMITS)
  const owed = new Map<number, string>()
  const settled = new Map<number, string>()
  const group = async (size: number): Promise<number> => {
    const sequences = Array.from({ length: size }, () => {
      const next = owed.size + settled.size + 1
      owed.set(next, textOf(next))
      return journal.append(7, [textOf(next)]).sequence
    })
    await clock.advance(1)
    return sequences[0]!
  }
  const settle = async (sequence: number): Promise<void> => {
    settled.set(sequence, owed.get(sequence)!)
    owed.delete(sequence)
    void journal.settle(sequence)
    await clock.advance(20)
  }
  for (let each = 0; each < 16; each++) await group(2)
  for (let sequence = 1; sequence <= 18; sequence++) if (sequence % 6 !== 0) await settle(sequence)
  await clock.advance(5000)
  await group(3)
  await settle(30)
  const active = (): string | undefined => files.paths.filter((path) => path.endsWith('.segment')).at(-1)
  let lastGroup = 0
  for (let before = active(), inOne = 0; inOne < 3; before = active()) {
    lastGroup = await group(2)
    inOne = before === active() ? inOne + 1 : 0
  }
  const left = files.kill()
  const segments = left.paths.filter((path) => path.endsWith('.segment')).sort()
  return { files: left, segments, owed, settled, lastGroup }
}

let left: Left

beforeAll(async () => {
  left = await leave()
  expect(left.segments.length).toBeGreaterThanOrEqual(3)
  // Groups that were accepted for good stand in the last one, too.
  expect(left.files.bytesOf(left.segments.at(-1)!).includes(`record ${left.lastGroup - 1} `)).toBe(true)
  expect(left.segments.some((path) => /-\d+\.\d+\.segment$/.test(path))).toBe(true)
})

/** The sequences of ranges. */
const within = (ranges: readonly number[]): Set<number> => {
  const all = new Set<number>()
  for (let at = 0; at < ranges.length; at += 2) {
    for (let each = ranges[at]!; each <= ranges[at + 1]!; each++) all.add(each)
  }
  return all
}

type Told = Pick<Recovery, 'lost' | 'lostAfter' | 'damage'> & { readonly isCut: boolean }

/**
 * What is wrong with what a damaged journal shows and tells; `mayBeCut` are those that may have gone with the end of the
 * last segment.
 */
const faultsOf = (
  shown: ReadonlyMap<number, string>,
  told: Told,
  isLast: boolean,
  mayBeCut = (sequence: number): boolean => sequence >= left.lastGroup,
): string[] => {
  const faults: string[] = []
  const lost = within(told.lost)
  for (const [sequence, text] of shown) {
    if ((left.owed.get(sequence) ?? left.settled.get(sequence)) !== text)
      faults.push(`${sequence} is made up: '${text}'`)
    if (lost.has(sequence)) faults.push(`${sequence} is there and named as lost`)
  }
  for (const sequence of lost) {
    if (!left.owed.has(sequence) && !left.settled.has(sequence)) faults.push(`${sequence} never was`)
  }
  if (told.isCut && !isLast) faults.push('what is not the end was cut')
  for (const sequence of left.owed.keys()) {
    if (shown.has(sequence) || lost.has(sequence)) continue
    if (told.isCut && mayBeCut(sequence)) continue
    if (told.lostAfter !== undefined && sequence > told.lostAfter) continue
    faults.push(`${sequence} is gone and nobody says so`)
  }
  return faults
}

const shownBy = async (journal: Journal): Promise<Map<number, string>> => {
  const shown = new Map<number, string>()
  await journal.each((sequence, _, body) => shown.set(sequence, body.text(body.left)))
  return shown
}

/** Opens it, and finds it to be a journal like any other. */
const open = async (
  files: SimFiles,
): Promise<{ shown: Map<number, string>; told: Told; recovery: Recovery }> => {
  const { journal, recovery } = await openOn(files, new FakeClock(), LIMITS)
  const shown = await shownBy(journal)
  const { sequence, durable } = journal.append(9, ['new'])
  await durable
  if (sequence <= Math.max(0, ...shown.keys())) throw new Error(`${sequence} was given out again`)
  if (typeof (await journal.read(sequence)) === 'string') throw new Error('what is new cannot be read')
  return { shown, told: { ...recovery, isCut: recovery.cut !== undefined }, recovery }
}

const inspect = async (files: SimFiles): Promise<{ shown: Map<number, string>; told: Told }> => {
  const shown = new Map<number, string>()
  const visit = (sequence: number, _: number, body: { text(bytes: number): string; left: number }): void => {
    shown.set(sequence, body.text(body.left))
  }
  const inspection = await inspectJournal({ directory: '/data', files, visit })
  return { shown, told: { ...inspection, isCut: inspection.unfinishedBytes > 0 } }
}

const damaged = (path: string, change: (bytes: Buffer) => Buffer): SimFiles => {
  const files = left.files.clone()
  files.damage(path, change(Buffer.from(files.bytesOf(path))))
  return files
}

const isLastOne = (path: string): boolean => path === left.segments.at(-1)

describe('journal - damage', () => {
  test('unharmed, everything owed is there and nothing is said', async () => {
    const { shown, told } = await open(left.files.clone())
    expect(shown).toEqual(left.owed)
    expect(told).toMatchObject({ damage: [], lost: [], lostAfter: undefined, isCut: false })
  })

  test(
    'any one bit flipped: each owed record is there as it was, or named as lost, or in the end that was cut',
    async () => {
      for (const path of left.segments) {
        const bytes = left.files.bytesOf(path)
        for (let bit = 0; bit < 8 * bytes.length; bit++) {
          const files = damaged(path, (copy) => {
            copy[bit >>> 3]! ^= 1 << (bit & 7)
            return copy
          })
          const { shown, told } = await inspect(files)
          const where = `bit ${bit & 7} of byte ${bit >>> 3} of ${path}`
          expect(faultsOf(shown, told, isLastOne(path)), where).toEqual([])
          // One record at most, or the group that was written last.
          if (!told.isCut) expect(within(told.lost).size, where).toBeLessThanOrEqual(1)
          expect(shown.size, where).toBeGreaterThanOrEqual(left.owed.size - 3)
        }
      }
    },
    MOST_MS,
  )

  test.each([
    ['a byte', 1],
    ['a sector', 64],
    ['a page', 512],
  ])('%s set to zero anywhere: the journal opens, serves the rest, and goes on', async (_, size) => {
    for (const path of left.segments) {
      const bytes = left.files.bytesOf(path)
      const { length } = bytes
      for (let at = 0; at < length; at += Math.max(3, size)) {
        const { shown, told } = await open(
          damaged(path, (copy) => copy.fill(0, at, Math.min(at + size, length))),
        )
        // Where nothing whole is left behind the damage, it cannot be told from a larger torn end.
        const mayBeCut = (sequence: number): boolean => {
          const start = bytes.indexOf(`record ${sequence} `)
          return start + textOf(sequence).length > at
        }
        expect(faultsOf(shown, told, isLastOne(path), mayBeCut), `${size} bytes at ${at} of ${path}`).toEqual(
          [],
        )
      }
    }
  })

  test('cut at any byte, a segment in the middle: what stood behind the cut is named, everything else is served', async () => {
    for (const path of left.segments.slice(0, -1)) {
      const { length } = left.files.bytesOf(path)
      for (let end = 0; end < length; end++) {
        const { shown, told } = await open(damaged(path, (copy) => copy.subarray(0, end)))
        expect(faultsOf(shown, told, false), `cut at ${end} of ${path}`).toEqual([])
      }
    }
  })

  test('cut at any byte, the segment that was being written: a torn end, of which a copy is kept', async () => {
    const path = left.segments.at(-1)!
    const whole = left.files.bytesOf(path)
    let copies = 0
    const notes = 2 * spanOf(bodyBytesAt(whole, HEADER_BYTES))
    for (let end = HEADER_BYTES + notes; end < whole.length; end++) {
      const files = damaged(path, (copy) => copy.subarray(0, end))
      const { shown, told, recovery } = await open(files)
      expect(told, `cut at ${end}`).toMatchObject({ damage: [], lost: [], lostAfter: undefined })
      for (const [sequence, text] of shown)
        expect(left.owed.get(sequence) ?? left.settled.get(sequence)).toBe(text)
      if (recovery.cut === undefined) continue
      copies++
      const { segment, offset, bytes, copy } = recovery.cut
      expect(path.endsWith(segment)).toBe(true)
      expect(offset + bytes).toBe(end)
      expect(files.bytesOf(`/data/journal/${copy}`)).toEqual(whole.subarray(offset, end))
      // Unless nothing in it is owed any more.
      if (files.paths.includes(path)) expect(files.bytesOf(path).length).toBe(offset)
    }
    expect(copies).toBeGreaterThan(100)
  })

  test('a record of an earlier group in the segment that was being written: nothing is cut, what stands behind it is served', async () => {
    const path = left.segments.at(-1)!
    const sequence = left.lastGroup - 1
    const victim = left.files.bytesOf(path).indexOf(`record ${sequence} `)
    const files = damaged(path, (copy) => copy.fill('#', victim, victim + 4))
    const { shown, recovery } = await open(files)
    expect(recovery).toMatchObject({ cut: undefined, lost: [sequence, sequence], lostAfter: undefined })
    expect([...shown.keys()]).toEqual([...left.owed.keys()].filter((each) => each !== sequence))
  })

  test('a record in the middle is lost: it is named once, settled like any other, and its file is put aside', async () => {
    const path = left.segments.find((each) => left.files.bytesOf(each).includes('record 20 '))!
    const victim = left.files.bytesOf(path).indexOf('record 20 ')
    const files = damaged(path, (copy) => copy.fill('#', victim, victim + 4))
    const clock = new FakeClock()
    const { journal, recovery } = await openOn(files, clock, LIMITS)
    expect(recovery).toMatchObject({ lost: [20, 20], lostAfter: undefined, cut: undefined })
    expect(recovery.damage).toMatchObject([{ segment: path.split('/').at(-1), isUnreadable: false }])
    expect(await journal.read(20)).toBe('settled')
    expect(await journal.read(21)).toMatchObject({ body: Buffer.from(textOf(21)) })
    await journal.close()
    const second = await openOn(files, clock, LIMITS)
    expect(second.recovery.lost).toEqual([20, 20])
    void second.journal.settle(20)
    await clock.advance(50)
    await second.journal.close()
    const third = await openOn(files, clock, LIMITS)
    expect(third.recovery.lost).toEqual([])
    void third.journal.settle(1, 100)
    await clock.advance(5000)
    expect(files.paths).toContain(path.replace('/journal/', '/journal/damaged/'))
    expect(third.journal.stats().segments).toBeLessThanOrEqual(2)
    await third.journal.close()
  })

  test('a record that is damaged while the journal is open is told when it is read, and its neighbours are not harmed', async () => {
    const files = new SimFiles()
    const clock = new FakeClock()
    const { journal, faults } = await openOn(files, clock)
    for (let each = 0; each < 3; each++) journal.append(7, [`record ${each}`])
    await clock.advance(1)
    const path = files.paths.find((each) => each.endsWith('.segment'))!
    const bytes = Buffer.from(files.bytesOf(path))
    bytes[bytes.indexOf('record 1')] = 0
    files.damage(path, bytes)
    const shown = await shownBy(journal)
    expect([...shown.values()]).toEqual(['record 0', 'record 2'])
    expect((await journal.readAll([1, 2, 3])).map((each) => typeof each)).toEqual([
      'object',
      'string',
      'object',
    ])
    expect(await journal.read(2)).toBe('damaged')
    expect(faults[0]).toMatchObject({ code: 'JOURNAL_DAMAGED' })
    expect(faults[0]!.message).toContain('read record 2 of "/data/journal/')
  })

  test('what the disk does not show now stays owed, and is there when it does', async () => {
    const files = new SimFiles()
    const clock = new FakeClock()
    const { journal, faults } = await openOn(files, clock)
    journal.append(7, ['shy'])
    await clock.advance(1)
    files.fail = (operation) => (operation === 'read' ? 'EIO' : undefined)
    expect(await journal.read(1)).toBe('unreadable')
    expect(await shownBy(journal)).toEqual(new Map())
    expect(faults.map(({ code }) => code)).toEqual(['JOURNAL_FAILED', 'JOURNAL_FAILED'])
    files.fail = () => undefined
    expect(await journal.read(1)).toMatchObject({ body: Buffer.from('shy') })
  })

  test('a sector that cannot be read at the opening is damage, not a torn end: nothing is cut', async () => {
    const files = left.files.clone()
    files.fail = (operation, path) =>
      operation === 'read' && path === left.segments.at(-1) ? 'EIO' : undefined
    const { recovery } = await openOn(files, new FakeClock(), LIMITS)
    expect(recovery.cut).toBeUndefined()
    expect(recovery.damage.some(({ isUnreadable }) => isUnreadable)).toBe(true)
    expect(recovery.lostAfter).toBeDefined()
  })

  test.each([
    ['damaged', async (files: SimFiles) => files.damage('/data/node-id', Buffer.from('skein node 00'))],
    ['gone', (files: SimFiles) => files.remove('/data/node-id')],
  ])(
    'an id that is %s is found again in the segments, which is said, and nothing is lost (G2)',
    async (_, harm) => {
      const files = left.files.clone()
      const before = await inspectJournal({ directory: '/data', files })
      await harm(files)
      expect(await inspectJournal({ directory: '/data', files })).toEqual(before)
      const { journal, recovery, faults } = await openOn(files, new FakeClock(), LIMITS)
      expect(journal.nodeId).toBe(before.nodeId)
      expect([recovery.records, recovery.damage]).toEqual([left.owed.size, []])
      expect(faults).toMatchObject([
        { code: 'JOURNAL_DAMAGED', message: expect.stringContaining('nothing is lost') },
      ])
      await journal.close()
      expect((await inspectJournal({ directory: '/data', files })).nodeId).toBe(before.nodeId)
    },
  )

  test('without its id, in its file or its segments, a directory is not opened, and the error says what to do', async () => {
    const files = left.files.clone()
    files.damage('/data/node-id', Buffer.from('skein node 00'))
    for (const path of left.segments) files.damage(path, Buffer.alloc(200))
    await expect(openOn(files, new FakeClock(), LIMITS)).rejects.toMatchObject({
      code: 'JOURNAL_DAMAGED',
      message: expect.stringContaining('put the file back from a copy, or move the directory away'),
    })
  })

  test('a format from the future is refused, and not a byte is changed', async () => {
    const path = left.segments[0]!
    const { putHeader, readHeader } = await import('../../src/journal/header.ts')
    const { crc32 } = await import('../../src/journal/crc.ts')
    const files = damaged(path, (copy) => {
      const read = readHeader(copy)
      if (typeof read !== 'object') throw new Error('no header')
      putHeader(copy, read.header)
      for (const at of [0, 64]) {
        copy.writeUInt16LE(2, at + 8)
        copy.writeUInt32LE(crc32(copy, at, at + 60, 0), at + 60)
      }
      return copy
    })
    const before = files.paths.map((each) => files.bytesOf(each).toString('hex'))
    await expect(openOn(files, new FakeClock(), LIMITS)).rejects.toMatchObject({ code: 'VERSION_MISMATCH' })
    expect(files.paths.map((each) => files.bytesOf(each).toString('hex'))).toEqual(before)
  })
})
