import { expect, test } from 'vitest'
import { everyWay } from '../support/every-way.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { JournalModel, type JournalModel as Model, type Opened, openOn } from '../support/journal-model.ts'
import { SimFiles } from '../support/sim-fs.ts'

/** On a machine that does a lot else. */
const MOST_MS = 60_000

interface Moment {
  readonly files: SimFiles
  readonly model: Model
  readonly what: string
}

type Script = (opened: Opened, model: Model, clock: FakeClock) => Promise<void>

/** Runs a script and keeps the disk and what was told, before and after each operation that changes the disk. */
const momentsOf = async (script: Script): Promise<Moment[]> => {
  const files = new SimFiles()
  const clock = new FakeClock()
  const model = new JournalModel()
  const moments: Moment[] = []
  files.observe = (operation, path) => {
    if (['read', 'list', 'size', 'close'].includes(operation)) return
    moments.push({ files: files.clone(), model: model.clone(), what: `${operation} ${path}` })
  }
  await files.makeDirectory('/data')
  await files.syncDirectory('/')
  const opened = await openOn(files, clock)
  await script(opened, model, clock)
  return moments
}

const settle = async (clock: FakeClock): Promise<void> => await clock.advance(20)

/** Appends, settles, rotates, replaces, compacts, closes. */
const SCRIPTS: Record<string, Script> = {
  'a few records, settled one by one': async ({ journal }, model, clock) => {
    model.append(journal, 40)
    await settle(clock)
    model.append(journal, 40)
    model.append(journal, 90)
    await settle(clock)
    model.settle(journal, model.owed[1]!)
    await settle(clock)
    model.append(journal, 30)
    await journal.close()
  },
  'segments that fill, empty and are put together': async ({ journal }, model, clock) => {
    for (let round = 0; round < 2; round++) {
      for (let each = 0; each < 4; each++) model.append(journal, 700)
      await settle(clock)
      for (const sequence of model.owed.slice(0, -1)) model.settle(journal, sequence)
      await settle(clock)
    }
    await journal.close()
  },
  'records that replace others': async ({ journal }, model, clock) => {
    for (let each = 0; each < 4; each++) model.append(journal, 300)
    await settle(clock)
    for (const replaces of model.owed) model.append(journal, 500, { replaces })
    await settle(clock)
    for (const replaces of model.owed) model.append(journal, 200, { replaces })
    await settle(clock)
  },
}

test.each(Object.entries(SCRIPTS))(
  'journal - %s: after a power cut at any moment, whatever the disk kept, nothing accepted is lost (G1)',
  async (_, script) => {
    const moments = await momentsOf(script)
    let images = 0
    for (const { files, model, what } of moments) {
      const { isComplete, ways } = await everyWay(1000, async (choose) => {
        const expected = model.clone()
        const clock = new FakeClock()
        const opened = await openOn(files.clone().crash(choose), clock)
        const faults = await expected.check(opened.journal, opened.recovery)
        // What was recovered is a journal like any other.
        expected.append(opened.journal, 50)
        await clock.microtasks()
        await opened.journal.close()
        expect([...faults, ...opened.faults], what).toEqual([])
      })
      expect(isComplete, what).toBe(true)
      images += ways
    }
    expect(images).toBeGreaterThan(moments.length)
  },
  MOST_MS,
)
