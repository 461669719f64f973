import { describe, expect, test } from 'vitest'
import { isSkeinError, type SkeinError } from '../../src/errors.ts'
import { type AppendOptions, Journal, type JournalOptions } from '../../src/journal/journal.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { openOn, SMALL } from '../support/journal-model.ts'
import { SimFiles } from '../support/sim-fs.ts'

const clockOf = (): FakeClock => new FakeClock()

/** A journal in memory. */
const volatile = async (options: Partial<JournalOptions> = {}): Promise<Journal> => {
  const { journal } = await Journal.open({
    durability: 'memory',
    clock: clockOf(),
    fault(error) {
      throw error
    },
    ...options,
  })
  return journal
}

/** A journal on a simulated disk. */
const onDisk = async (
  files = new SimFiles(),
  clock = clockOf(),
): Promise<{ journal: Journal; files: SimFiles; clock: FakeClock; faults: SkeinError[] }> => {
  const { journal, faults } = await openOn(files, clock)
  return { journal, files, clock, faults }
}

const add = async (journal: Journal, text: string, options: AppendOptions = {}): Promise<number> => {
  const { sequence, durable } = journal.append(7, [text], options)
  await durable
  return sequence
}

const textOf = async (journal: Journal, sequence: number): Promise<string> => {
  const record = await journal.read(sequence)
  return typeof record === 'string' ? record : `${record.type}:${record.body.toString()}`
}

const owed = async (journal: Journal): Promise<string[]> => {
  const texts: string[] = []
  await journal.each((sequence, type, body) => texts.push(`${sequence}:${type}:${body.text(body.left)}`))
  return texts
}

const errorOf = (run: () => unknown): SkeinError => {
  try {
    run()
  } catch (error) {
    if (isSkeinError(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('journal - what it keeps', () => {
  test('a record is read as it was written: its type, and its parts one after the other', async () => {
    const journal = await volatile()
    const { sequence, durable } = journal.append(239, [
      'straße ',
      Buffer.from([0, 1, 255]),
      new Uint8Array([7]),
    ])
    await durable
    const record = await journal.read(sequence)
    expect(record).toEqual({
      type: 239,
      body: Buffer.concat([Buffer.from('straße '), Buffer.from([0, 1, 255, 7])]),
    })
  })

  test('what is appended is copied: its memory is free again at once', async () => {
    const journal = await volatile()
    const memory = Buffer.from('before')
    const { sequence } = journal.append(7, [memory])
    memory.fill('x')
    expect(await textOf(journal, sequence)).toBe('7:before')
  })

  test('reading waits for what is still on its way', async () => {
    const { journal } = await onDisk()
    const { sequence } = journal.append(7, ['on its way'])
    expect(await textOf(journal, sequence)).toBe('7:on its way')
  })

  test('an empty body, and one that is larger than a segment, are records like others', async () => {
    const { journal, files, clock } = await onDisk()
    const large = 'l'.repeat(5000)
    const sequences = [await add(journal, ''), await add(journal, large), await add(journal, 'last')]
    expect(await Promise.all(sequences.map((each) => textOf(journal, each)))).toEqual([
      '7:',
      `7:${large}`,
      '7:last',
    ])
    await journal.close()
    const { journal: again } = await onDisk(files, clock)
    expect(await owed(again)).toEqual([`1:7:`, `2:7:${large}`, '3:7:last'])
  })

  test('records are answered in the order asked for, with a word in the place of those that are not there', async () => {
    const { journal } = await onDisk()
    const sequences: number[] = []
    for (let each = 0; each < 30; each++) sequences.push(await add(journal, `${each}`.padEnd(200, '.')))
    void journal.settle(sequences[4]!)
    const asked = [sequences[29]!, sequences[4]!, 10_000, sequences[0]!, sequences[29]!]
    const answers = await journal.readAll(asked)
    expect(
      answers.map((answer) => (typeof answer === 'string' ? answer : answer.body.toString('utf8', 0, 3))),
    ).toEqual(['29.', 'settled', 'settled', '0..', '29.'])
  })

  test('each shows what is owed when it is asked, in order, across segments, while others are settled and added', async () => {
    const { journal, clock } = await onDisk()
    for (let each = 0; each < 20; each++) await add(journal, `${each}`.padEnd(300, '.'))
    const seen: number[] = []
    const showing = journal.each((sequence) => {
      seen.push(sequence)
      if (sequence === 5) {
        void journal.settle(7)
        journal.append(7, ['new'])
      }
    })
    await clock.advance(20)
    await showing
    expect(seen.filter((sequence) => sequence !== 7)).toEqual([
      1,
      2,
      3,
      4,
      5,
      6,
      ...Array.from({ length: 13 }, (_, at) => at + 8),
    ])
  })

  test('one that replaces another settles it, and after a restart only the new one is there', async () => {
    const { journal, files, clock } = await onDisk()
    const first = await add(journal, 'attempt 1')
    const second = await add(journal, 'attempt 2', { replaces: first })
    expect(await textOf(journal, first)).toBe('settled')
    await journal.close()
    const { journal: again } = await onDisk(files, clock)
    expect(await owed(again)).toEqual([`${second}:7:attempt 2`])
  })
})

describe('journal - settling', () => {
  test('what is settled is gone at once, and does not come back after a restart (G2)', async () => {
    const { journal, files, clock } = await onDisk()
    for (const text of ['a', 'b', 'c', 'd']) await add(journal, text)
    const recorded = journal.settle(2, 3)
    expect(await owed(journal)).toEqual(['1:7:a', '4:7:d'])
    await clock.advance(20)
    expect(await recorded).toBe(true)
    const { journal: again } = await onDisk(files.kill(), clock)
    expect(await owed(again)).toEqual(['1:7:a', '4:7:d'])
  })

  test('what is settled alone is recorded 10 ms later, with all that was settled meanwhile in one write', async () => {
    const { journal, clock } = await onDisk()
    for (let each = 0; each < 50; each++) journal.append(7, ['x'])
    await clock.advance(1)
    const { syncs } = journal.stats()
    for (let each = 1; each <= 50; each++) void journal.settle(each)
    await clock.advance(9)
    expect(journal.stats().syncs).toBe(syncs)
    await clock.advance(2)
    expect(journal.stats().syncs).toBe(syncs + 1)
  })

  test('it goes along with what is appended next', async () => {
    const { journal } = await onDisk()
    const sequence = await add(journal, 'x')
    const recorded = journal.settle(sequence)
    const { syncs } = journal.stats()
    await add(journal, 'y')
    expect(await recorded).toBe(true)
    expect(journal.stats().syncs).toBe(syncs + 1)
  })

  test('what is still on its way is settled as soon as it has arrived', async () => {
    const { journal, clock } = await onDisk()
    const { sequence } = journal.append(7, ['x'])
    const recorded = journal.settle(sequence)
    await clock.advance(20)
    expect(await recorded).toBe(true)
    expect(await owed(journal)).toEqual([])
  })

  test('ranges that hold nothing, or what never was, harm nobody', async () => {
    const { journal, files, clock } = await onDisk()
    const sequence = await add(journal, 'x')
    expect(await journal.settle(500, 400)).toBe(true)
    void journal.settle(sequence + 100, sequence + 200)
    void journal.settle(sequence + 1, 2 ** 47)
    await clock.advance(20)
    await add(journal, 'y')
    await journal.close()
    const { journal: again } = await onDisk(files, clock)
    expect(await owed(again)).toEqual(['1:7:x', '2:7:y'])
  })

  test('after all is settled the journal shrinks to at most two segments (G6)', async () => {
    const { journal, clock, files } = await onDisk()
    for (let each = 0; each < 60; each++) {
      journal.append(7, ['x'.repeat(150)])
      await clock.advance(1)
    }
    expect(journal.stats().segments).toBeGreaterThan(4)
    void journal.settle(1, 60)
    await clock.advance(5000)
    expect(journal.stats()).toMatchObject({ liveRecords: 0, liveBytes: 0, state: 'ok' })
    expect(journal.stats().segments).toBeLessThanOrEqual(2)
    expect(files.paths.filter((path) => path.endsWith('.segment')).length).toBeLessThanOrEqual(2)
  })

  test('one record that stays owed does not keep its segment, nor those after it (G6)', async () => {
    const { journal, clock, files } = await onDisk()
    for (let each = 1; each <= 60; each++) {
      const { sequence } = journal.append(7, [`${each}`.padEnd(150, '.')])
      await clock.advance(1)
      if (each % 12 !== 0) void journal.settle(sequence)
      await clock.advance(20)
    }
    await clock.advance(5000)
    expect(journal.stats().liveRecords).toBe(5)
    expect(journal.stats().merges).toBeGreaterThan(0)
    expect(journal.stats().bytes).toBeLessThan(5000)
    const { journal: again } = await onDisk(files.kill(), clock)
    expect((await owed(again)).map((text) => text.slice(0, 6))).toEqual([
      '12:7:1',
      '24:7:2',
      '36:7:3',
      '48:7:4',
      '60:7:6',
    ])
  })
})

describe('journal - group commit', () => {
  test('what is appended in one turn is synced once', async () => {
    const { journal } = await onDisk()
    const { syncs } = journal.stats()
    const all = Array.from({ length: 10 }, () => journal.append(7, ['x']).durable)
    await Promise.all(all)
    expect(journal.stats().syncs).toBe(syncs + 1)
  })

  test('what is appended while a group is on its way goes together with the next', async () => {
    const { journal, files } = await onDisk()
    await add(journal, 'first')
    const { syncs } = journal.stats()
    let open: () => void = () => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    let durable: Promise<void>[] = []
    files.observe = (operation) => {
      if (operation !== 'sync' || durable.length > 0) return
      durable = Array.from({ length: 10 }, () => journal.append(7, ['meanwhile']).durable)
      open()
    }
    await add(journal, 'second')
    await gate
    await Promise.all(durable)
    expect(journal.stats().syncs).toBe(syncs + 2)
  })

  test("with durability 'os' nothing waits for the disk", async () => {
    const files = new SimFiles()
    const { journal } = await openOn(files, clockOf(), SMALL, 'os')
    const { syncs } = journal.stats()
    await add(journal, 'x')
    expect(journal.stats().syncs).toBe(syncs)
  })
})

describe('journal - sequences', () => {
  test('they rise by one, and go on after a restart, however little is left (G1)', async () => {
    const { journal, files, clock } = await onDisk()
    expect(await add(journal, 'a')).toBe(1)
    expect(await add(journal, 'b')).toBe(2)
    void journal.settle(1, 2)
    await clock.advance(5000)
    let last = files.kill()
    for (let restart = 0; restart < 3; restart++) {
      const { journal: again } = await onDisk(last, clock)
      await clock.advance(5000)
      expect(again.stats().liveRecords).toBe(0)
      last = last.kill()
    }
    const { journal: again } = await onDisk(last, clock)
    expect(await add(again, 'c')).toBe(3)
  })

  test('they go on in directories that were closed, too', async () => {
    const { journal, files, clock } = await onDisk()
    await add(journal, 'a')
    void journal.settle(1)
    await journal.close()
    const { journal: again } = await onDisk(files, clock)
    expect(await add(again, 'b')).toBe(2)
  })
})

describe('journal - limits (G6)', () => {
  test('a full journal refuses with the number of owed records, and takes again what fits when some are settled', async () => {
    const { journal, clock } = await onDisk()
    let refused: SkeinError | undefined
    let appended = 0
    while (refused === undefined && appended < 1000) {
      try {
        journal.append(7, ['x'.repeat(200)])
        appended++
      } catch (error) {
        refused = error as SkeinError
      }
      await clock.advance(1)
    }
    expect(refused?.code).toBe('JOURNAL_FULL')
    expect(refused?.message).toBe(
      `append to the journal: its ${SMALL.totalBytes} bytes hold ${appended} owed records; wait until some are settled, or raise the limit`,
    )
    expect(journal.stats().bytes).toBeLessThanOrEqual(SMALL.totalBytes)
    void journal.settle(1, appended / 2)
    await clock.advance(3000)
    await add(journal, 'x'.repeat(200))
  })

  test('what makes room is accepted by a full journal', async () => {
    const { journal, clock } = await onDisk()
    const fill = (): boolean => {
      try {
        return journal.append(7, ['x'.repeat(200)]).sequence > 0
      } catch {
        return false
      }
    }
    while (fill()) await clock.advance(1)
    const dead = await add(journal, 'buried', { replaces: 1 })
    const note = await add(journal, 'noted', { reserve: true })
    expect([await textOf(journal, dead), await textOf(journal, note)]).toEqual(['7:buried', '7:noted'])
  })

  test('no more than queuedBytes wait for the disk', async () => {
    const journal = await volatile({ limits: { queuedBytes: 1000 } })
    journal.append(7, ['x'.repeat(800)])
    const error = errorOf(() => journal.append(7, ['x'.repeat(800)]))
    expect(error.code).toBe('OUTBOX_FULL')
    expect(error.retryable).toBe(true)
  })

  test('what can never fit is refused as too large', async () => {
    const { journal } = await onDisk()
    expect(errorOf(() => journal.append(7, [Buffer.alloc(SMALL.totalBytes)])).code).toBe('VALUE_TOO_LARGE')
  })

  test.each([0, 240, 255, 1.5, Number.NaN])(
    'type %d is refused: the journal keeps 240 to 255 for itself',
    async (type) => {
      const journal = await volatile()
      expect(errorOf(() => journal.append(type, ['x'])).code).toBe('OPTION_INVALID')
    },
  )

  test.each([
    [{ totalBytes: 1024 * 1024, segmentBytes: 512 * 1024 }, /totalBytes is 1048576; at least 4 segments/],
    [{ segmentBytes: 10 }, /segmentBytes is 10; 1024 to/],
    [{ queuedBytes: -1 }, /queuedBytes is -1; a positive whole number/],
  ])('limits %j are refused', async (limits, sentence) => {
    await expect(volatile({ limits })).rejects.toThrow(sentence)
  })

  test('durability and directory fit together', async () => {
    await expect(volatile({ durability: 'disk' })).rejects.toThrow("durability: 'disk' needs a directory")
    await expect(volatile({ directory: '/data' })).rejects.toThrow("'memory' writes no files")
  })

  test('an id that could not be read again is refused before it is written', async () => {
    await expect(volatile({ nodeId: 'orders' })).rejects.toThrow(
      "nodeId: 'orders' is not 32 hexadecimal digits",
    )
  })

  test('few files are open, whatever is read (G6)', async () => {
    const { journal, files, clock } = await onDisk()
    for (let each = 0; each < 40; each++) {
      journal.append(7, ['x'.repeat(200)])
      await clock.advance(1)
    }
    let most = 0
    files.observe = () => {
      most = Math.max(most, files.openFiles)
    }
    await Promise.all([journal.readAll(Array.from({ length: 40 }, (_, at) => at + 1)), owed(journal)])
    expect(most).toBeLessThanOrEqual(3)
    expect(files.openFiles).toBe(1)
  })
})

describe('journal - the end', () => {
  test('close writes what waits, closes every file and gives the directory back (G10)', async () => {
    const { journal, files, clock } = await onDisk()
    const { durable } = journal.append(7, ['x'])
    const settled = journal.settle(1)
    const [isRecorded] = await Promise.all([journal.close(), durable, settled])
    expect(isRecorded).toBe(true)
    expect(files.openFiles).toBe(0)
    expect(clock.pendingTimers).toBe(0)
    const { journal: again } = await onDisk(files, clock)
    expect(again.nodeId).toBe(journal.nodeId)
  })

  test('closing twice is closing once; nothing is taken afterwards', async () => {
    const { journal } = await onDisk()
    const first = journal.close()
    expect(journal.close()).toBe(first)
    await first
    expect(errorOf(() => journal.append(7, ['x'])).code).toBe('CLOSED')
    expect(await journal.settle(1)).toBe(false)
  })

  test('close says when something could not be recorded, and ends all the same (G7, G10)', async () => {
    const { journal, files } = await onDisk()
    const sequence = await add(journal, 'x')
    files.fail = () => 'EIO'
    const recorded = journal.settle(sequence)
    expect(await journal.close()).toBe(false)
    expect(await recorded).toBe(false)
    expect(files.openFiles).toBe(0)
  })

  test('a directory in use is refused', async () => {
    const { files, clock } = await onDisk()
    await expect(openOn(files, clock)).rejects.toMatchObject({ code: 'JOURNAL_LOCKED' })
  })

  test('another id than the directory has is refused', async () => {
    const { journal, files, clock } = await onDisk()
    await journal.close()
    const options = { directory: '/data', durability: 'disk', clock, files, fault() {} } as const
    await expect(Journal.open({ ...options, nodeId: 'f'.repeat(32) })).rejects.toMatchObject({
      code: 'OPTION_INVALID',
    })
    const { journal: again } = await Journal.open(options)
    expect(again.nodeId).toBe(journal.nodeId)
  })

  test('the time of day that was recorded last is known at the next opening, however the clock is set', async () => {
    const { journal, files, clock } = await onDisk()
    clock.wallAheadMs += 15 * 86_400_000
    await add(journal, 'x')
    const at = clock.wall()
    clock.wallAheadMs -= 30 * 86_400_000
    const { recovery } = await openOn(files.kill(), clock)
    expect(recovery.lastWallMs).toBe(at)
  })
})
