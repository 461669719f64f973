import { describe, expect, test } from 'vitest'
import type { SkeinError } from '../../src/errors.ts'
import { everyWay } from '../support/every-way.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { JournalModel, type Opened, openOn, SMALL } from '../support/journal-model.ts'
import { type Failure, type Operation, SimFiles } from '../support/sim-fs.ts'

/** An outcome of an append, as a word. */
const outcomeOf = (durable: Promise<void>): Promise<string> =>
  durable.then(
    () => 'durable',
    (error: SkeinError) => error.code,
  )

const fresh = async (): Promise<{ files: SimFiles; clock: FakeClock } & Opened> => {
  const files = new SimFiles()
  const clock = new FakeClock()
  return { files, clock, ...(await openOn(files, clock)) }
}

const activeOf = (files: SimFiles): string => files.paths.filter((path) => path.endsWith('.segment')).at(-1)!

/** Appends, settles, rotates, compacts; lives with refusals. */
const story = async ({ journal }: Opened, model: JournalModel, clock: FakeClock): Promise<void> => {
  for (let round = 0; round < 3; round++) {
    for (let each = 0; each < 4; each++) {
      model.append(journal, 300)
      await clock.advance(1)
    }
    const { owed } = model
    for (const sequence of owed.slice(0, -2)) model.settle(journal, sequence)
    if (owed.length > 0) model.append(journal, 60, { replaces: owed.at(-1)! })
    await clock.advance(20)
  }
}

describe('journal - on a disk that fails', () => {
  test.each<Failure>(['EIO', 'ENOSPC', 'short', 'EINTR'])(
    'any one operation that fails with %s: what was told is true, now and after a power cut (G1)',
    async (how) => {
      let operations = 0
      for (let k = 1; operations === 0 || k <= operations; k++) {
        const { files, clock, ...opened } = await fresh()
        const model = new JournalModel()
        const first = files.operations
        // A record that cannot be read for once is told as such: other tests look at that.
        files.fail = (operation, _, number) =>
          number === first + k && operation !== 'read' ? how : undefined
        await story(opened, model, clock)
        operations = files.operations - first
        files.fail = () => undefined
        const { random } = new FakeClock(k)
        const crashed = files.clone().crash((count) => Math.floor(random() * count), true)
        const after = await openOn(crashed, new FakeClock())
        const faults = await model.clone().check(after.journal, after.recovery)
        expect(faults, `operation ${k}, then a power cut`).toEqual([])
        const again = await openOn(files.kill(), new FakeClock())
        expect(await model.check(again.journal, again.recovery), `operation ${k}`).toEqual([])
      }
      expect(operations).toBeGreaterThan(60)
    },
  )

  test.each<Operation>(['open', 'write', 'sync', 'rename', 'truncate', 'syncDirectory', 'remove'])(
    'as long as every %s fails nothing is promised, and afterwards it goes on by itself (G1)',
    async (broken) => {
      const { files, clock, journal, faults } = await fresh()
      const model = new JournalModel()
      files.fail = (operation) => (operation === broken ? 'EIO' : undefined)
      for (let each = 0; each < 12; each++) {
        model.append(journal, 300)
        await clock.advance(200)
      }
      if (broken === 'write' || broken === 'sync') {
        expect(model.count('durable')).toBe(0)
        // A write that fails is taken back, so the next one is tried; after a sync that failed nothing can be.
        if (broken === 'sync') expect(journal.stats().state).toBe('failed')
        expect(faults.length).toBeGreaterThan(0)
      }
      files.fail = () => undefined
      await clock.advance(60_000)
      expect(journal.stats().state).toBe('ok')
      expect(model.append(journal, 100)).toBe(true)
      await clock.advance(1)
      expect(model.count('durable')).toBeGreaterThan(0)
      const again = await openOn(files.kill(), new FakeClock())
      expect(await model.check(again.journal, again.recovery)).toEqual([])
    },
  )

  test('a failed fsync: nothing it covered resolves, and that file is never synced again (G1)', async () => {
    const { files, clock, journal, faults } = await fresh()
    await journal.append(7, ['before']).durable
    const broken = activeOf(files)
    let failed: string | undefined
    const synced: string[] = []
    files.fail = (operation, path) => {
      if (operation !== 'sync') return undefined
      if (failed !== undefined) {
        synced.push(path)
        return undefined
      }
      failed = path
      return 'EIO'
    }
    const outcomes = [1, 2, 3].map(() => outcomeOf(journal.append(7, ['covered']).durable))
    expect(await Promise.all(outcomes)).toEqual(['JOURNAL_FAILED', 'JOURNAL_FAILED', 'JOURNAL_FAILED'])
    expect(faults.map(({ code }) => code)).toEqual(['JOURNAL_FAILED'])
    expect(faults[0]!.message).toContain('look after the disk')
    await journal.append(7, ['after']).durable
    await clock.advance(60_000)
    expect(synced.length).toBeGreaterThan(0)
    expect(synced).not.toContain(failed)
    expect(activeOf(files)).not.toBe(broken)
    const { journal: again } = await openOn(files.kill(), new FakeClock())
    const shown: string[] = []
    await again.each((_, __, body) => shown.push(body.text(body.left)))
    expect(shown).toEqual(['before', 'after'])
  })

  test('where taking it back fails as well the error says so: JOURNAL_UNCERTAIN, never simply refused (G1)', async () => {
    const { files, clock, journal } = await fresh()
    files.fail = (operation) =>
      operation === 'sync' || operation === 'open' || operation === 'truncate' ? 'EIO' : undefined
    const { sequence, durable } = journal.append(7, ['who knows'])
    expect(await outcomeOf(durable)).toBe('JOURNAL_UNCERTAIN')
    expect(await journal.read(sequence)).toBe('settled')
    // Its bytes reached the file: killed now, it is there.
    const { journal: killed } = await openOn(files.clone().kill(), new FakeClock())
    expect(killed.stats().liveRecords).toBe(1)
    // Once the next segment could be begun, that one says that it never counted.
    files.fail = () => undefined
    await clock.advance(40_000)
    const { journal: later } = await openOn(files.kill(), new FakeClock())
    expect(later.stats().liveRecords).toBe(0)
  })

  test('a short write is no success: the rest follows (G1)', async () => {
    const { files, journal } = await fresh()
    let times = 0
    files.fail = (operation) => (operation === 'write' && times++ < 3 ? 'short' : undefined)
    await journal.append(7, ['x'.repeat(500)]).durable
    expect(times).toBeGreaterThan(3)
    const { journal: again, recovery } = await openOn(files.kill(), new FakeClock())
    expect(recovery).toMatchObject({ records: 1, damage: [], cut: undefined })
    expect(await again.read(1)).toMatchObject({ body: Buffer.from('x'.repeat(500)) })
  })

  test('what was put together in another segment goes before that one does, however often removing it fails', async () => {
    const { files, clock, journal } = await fresh()
    for (let each = 0; each < 28; each++) {
      journal.append(7, ['x'.repeat(300)])
      await clock.advance(1)
    }
    const merged = (): string[] => files.paths.filter((path) => /-\d+\.\d+\.segment$/.test(path))
    files.fail = (operation, path) =>
      operation === 'remove' && /\/\d{12}\.segment$/.test(path) ? 'EIO' : undefined
    for (let each = 1; each <= 28; each++) if (each % 4 !== 0) void journal.settle(each)
    await clock.advance(20_000)
    expect(merged().length).toBeGreaterThan(0)
    void journal.settle(1, 28)
    await clock.advance(20_000)
    expect(merged().length).toBeGreaterThan(0)
    files.fail = () => undefined
    await clock.advance(20_000)
    expect(merged()).toEqual([])
    expect(files.paths.filter((path) => path.endsWith('.segment')).length).toBeLessThanOrEqual(2)
  })

  test('while the disk fails appends are refused at once, and what is settled stays settled', async () => {
    const { files, clock, journal } = await fresh()
    await journal.append(7, ['x']).durable
    files.fail = () => 'EIO'
    await outcomeOf(journal.append(7, ['y']).durable)
    expect(() => journal.append(7, ['z'])).toThrow(/append to the journal: .*EIO/)
    expect(journal.stats().state).toBe('failed')
    const recorded = journal.settle(1)
    expect(journal.stats().liveRecords).toBe(0)
    files.fail = () => undefined
    await clock.advance(60_000)
    expect(await recorded).toBe(true)
    expect(journal.stats().state).toBe('ok')
  })
})

describe('journal - on a full disk (G6)', () => {
  test('appends are refused as JOURNAL_FULL, and taken again when there is room, without a restart', async () => {
    const { files, clock, journal, faults } = await fresh()
    const model = new JournalModel()
    await clock.advance(10)
    files.capacityBytes = files.usedBytes + 500
    for (let each = 0; each < 10; each++) {
      model.append(journal, 200)
      await clock.advance(1)
    }
    expect(journal.stats().state).toBe('full')
    expect(faults.map(({ code }) => code)).toEqual(['JOURNAL_FULL'])
    expect(() => journal.append(7, ['x'])).toThrow(
      expect.objectContaining({ code: 'JOURNAL_FULL', retryable: true }),
    )
    files.capacityBytes += 50_000
    await clock.advance(10_000)
    expect(journal.stats()).toMatchObject({ state: 'ok', isReserveHeld: true })
    expect(model.append(journal, 200)).toBe(true)
    await clock.advance(1)
    const again = await openOn(files.kill(), new FakeClock())
    expect(await model.check(again.journal, again.recovery, true)).toEqual([])
  })

  test('what was refused half-way through its group is not there after a power cut, whatever the disk kept (G1)', async () => {
    const { files, clock, journal } = await fresh()
    await journal.append(7, ['before']).durable
    await clock.advance(10)
    // Two of three fit; the cut is on the disk before anybody is told.
    files.capacityBytes = files.usedBytes + 300
    const outcomes = [1, 2, 3].map(() => outcomeOf(journal.append(7, ['x'.repeat(80)]).durable))
    const left: SimFiles[] = []
    void outcomes[0]!.then(() => left.push(files.clone()))
    expect(await Promise.all(outcomes)).toEqual(['JOURNAL_FULL', 'JOURNAL_FULL', 'JOURNAL_FULL'])
    const { isComplete } = await everyWay(500, async (choose) => {
      const { recovery } = await openOn(left[0]!.clone().crash(choose), new FakeClock())
      expect(recovery).toMatchObject({ records: 1, damage: [], lost: [] })
    })
    expect(isComplete).toBe(true)
  })

  test('with one owed record in each segment: acks and burials go on in the reserve, and compaction makes room for sends', async () => {
    const { files, clock, journal } = await fresh()
    const model = new JournalModel()
    for (let each = 0; each < 28; each++) {
      model.append(journal, 300)
      await clock.advance(1)
    }
    const { segments } = journal.stats()
    expect(segments).toBeGreaterThan(5)
    // Not a byte is left but the reserve.
    files.capacityBytes = files.usedBytes
    model.append(journal, 300)
    await clock.advance(1)
    expect(journal.stats().state).toBe('full')
    expect(model.append(journal, 50, { replaces: model.owed[3]! })).toBe(true)
    for (const [at, sequence] of model.owed.entries()) if (at % 5 !== 0) model.settle(journal, sequence)
    await clock.advance(20_000)
    expect(journal.stats()).toMatchObject({ state: 'ok', isReserveHeld: true })
    expect(journal.stats().merges).toBeGreaterThan(0)
    expect(journal.stats().segments).toBeLessThan(segments)
    expect(model.append(journal, 300)).toBe(true)
    await clock.advance(1)
    expect(model.count('durable')).toBeGreaterThan(0)
    const again = await openOn(files.kill(), new FakeClock())
    expect(await model.check(again.journal, again.recovery)).toEqual([])
  })

  test('a journal is opened, served and settled on a disk without any room', async () => {
    const { files, clock, journal } = await fresh()
    const model = new JournalModel()
    for (let each = 0; each < 12; each++) {
      model.append(journal, 300)
      await clock.advance(1)
    }
    const left = files.kill()
    left.capacityBytes = left.usedBytes
    const opened = await openOn(left, clock)
    expect(await model.check(opened.journal, opened.recovery)).toEqual([])
    for (const sequence of model.owed) model.settle(opened.journal, sequence)
    await clock.advance(20_000)
    expect(opened.journal.stats()).toMatchObject({ liveRecords: 0, state: 'ok' })
    expect(model.append(opened.journal, 100)).toBe(true)
  })

  test('it never takes more of the disk than its limit, whatever is appended and settled', async () => {
    const { files, clock, journal } = await fresh()
    let most = 0
    files.observe = () => {
      most = Math.max(most, files.usedBytesIn('/data/journal'))
    }
    for (let each = 0; each < 300; each++) {
      try {
        const { sequence } = journal.append(7, ['x'.repeat(250)])
        if (each % 3 > 0) void journal.settle(sequence)
      } catch {
        void journal.settle(1 + (each % 100))
      }
      await clock.advance(7)
    }
    expect(most).toBeGreaterThan(SMALL.totalBytes / 2)
    expect(most).toBeLessThanOrEqual(SMALL.totalBytes + SMALL.segmentBytes)
  })
})
