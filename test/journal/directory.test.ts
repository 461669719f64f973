import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { SkeinError } from '../../src/errors.ts'
import { inspectJournal } from '../../src/journal/inspection.ts'
import { Journal, type JournalOptions } from '../../src/journal/journal.ts'

const CHILD = fileURLToPath(new URL('../support/children/journal.js', import.meta.url))

/** Half a second on an idle machine. */
const SOON_MS = 2000

const undo: (() => unknown)[] = []

afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each()
})

const newDirectory = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'skein-journal-'))
  undo.push(() => rmSync(path, { recursive: true, force: true }))
  return join(path, 'data')
}

const open = async (directory: string, options: Partial<JournalOptions> = {}) => {
  const opened = await Journal.open({
    directory,
    durability: 'disk',
    clock: systemClock,
    limits: { segmentBytes: 64 * 1024, totalBytes: 1024 * 1024 },
    fault(error) {
      throw error
    },
    ...options,
  })
  undo.push(() => opened.journal.close())
  return opened
}

const refusalOf = async (directory: string): Promise<SkeinError> => {
  try {
    await open(directory)
  } catch (error) {
    return error as SkeinError
  }
  throw new Error('it was opened twice')
}

interface Child {
  readonly process: ChildProcess
  /** What it wrote, line by line. */
  readonly lines: string[]
  wrote(count: number): Promise<void>
  /** Resolves when it is gone. */
  kill(): Promise<void>
}

const startChild = async (directory: string, groups = 0): Promise<Child> => {
  const child = spawn(process.execPath, [CHILD, directory, `${groups}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const lines: string[] = []
  let changed: () => void = () => {}
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    changed()
  })
  const wrote = async (count: number): Promise<void> => {
    while (lines.length < count) {
      await new Promise<void>((resolve) => {
        changed = resolve
      })
    }
  }
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await gone
  }
  undo.push(kill)
  await wrote(1)
  return { process: child, lines, wrote, kill }
}

describe('data directory', () => {
  test('it has an id of its own, the same as long as it lives', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory)
    expect(journal.nodeId).toMatch(/^[0-9a-f]{32}$/)
    await journal.close()
    expect((await open(directory)).journal.nodeId).toBe(journal.nodeId)
    expect((await open(newDirectory())).journal.nodeId).not.toBe(journal.nodeId)
  })

  test('only its owner may read what is on its way', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory)
    await journal.append(1, ['private']).durable
    const modes = [directory, join(directory, 'journal'), join(directory, 'node-id')].map(
      (path) => statSync(path).mode,
    )
    const segments = readdirSync(join(directory, 'journal')).map(
      (name) => statSync(join(directory, 'journal', name)).mode,
    )
    expect([...modes, ...segments].every((mode) => (mode & 0o077) === 0)).toBe(true)
  })

  test('records survive on a real disk, and a path may be as long as the system allows', async () => {
    const directory = join(newDirectory(), 'deep'.repeat(30), 'deeper'.repeat(20))
    const { journal } = await open(directory)
    for (let each = 0; each < 100; each++) await journal.append(3, [`${each}`, Buffer.alloc(5000)]).durable
    for (let each = 1; each <= 90; each++) void journal.settle(each)
    await journal.close()
    const { journal: again, recovery } = await open(directory)
    expect(recovery).toMatchObject({ records: 10, damage: [], lost: [], cut: undefined })
    const first = await again.read(91)
    expect(first).toMatchObject({ type: 3, body: Buffer.concat([Buffer.from('90'), Buffer.alloc(5000)]) })
  })

  test('close leaves no lock behind (G10)', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory)
    await journal.close()
    expect(readdirSync(directory).filter((name) => name.endsWith('.socket'))).toEqual([])
  })
})

describe('data directory - one owner', () => {
  test('a second one is refused soon; the error names the holder and the remedy, and no byte is touched', async () => {
    const directory = newDirectory()
    const child = await startChild(directory, 1)
    await child.wrote(2)
    const journalOf = (): string[] =>
      readdirSync(join(directory, 'journal')).map((name) => {
        const path = join(directory, 'journal', name)
        return `${name} ${name === 'reserve' ? '' : readFileSync(path).toString('hex')}`
      })
    const before = journalOf()
    const start = performance.now()
    const refusal = await refusalOf(directory)
    expect(performance.now() - start).toBeLessThan(SOON_MS)
    expect(refusal.code).toBe('JOURNAL_LOCKED')
    expect(refusal.message).toBe(
      `open the journal in "${directory}": it belongs to process ${child.process.pid} that is running; give each instance a dataDir of its own`,
    )
    expect(journalOf()).toEqual(before)
  })

  test('kill -9 releases it: the next one does not wait, and has everything that was durable (G1, G10)', async () => {
    const directory = newDirectory()
    const child = await startChild(directory, 1_000_000)
    await child.wrote(30)
    await child.kill()
    const durable = Number(child.lines.at(-1))
    const start = performance.now()
    const { journal, recovery } = await open(directory)
    expect(performance.now() - start).toBeLessThan(SOON_MS)
    expect(recovery.damage).toEqual([])
    expect(recovery.records).toBeGreaterThanOrEqual(durable)
    let next = 1
    await journal.each((sequence, _, body) => {
      expect([sequence, body.text(body.left)]).toEqual([
        next,
        `record ${Math.floor((next - 1) / 10)}.${(next - 1) % 10}`,
      ])
      next++
    })
    expect(journal.append(1, ['next']).sequence).toBeGreaterThan(durable)
  })

  test('who is stopped still holds it', async () => {
    const directory = newDirectory()
    const child = await startChild(directory)
    child.process.kill('SIGSTOP')
    expect((await refusalOf(directory)).code).toBe('JOURNAL_LOCKED')
    await child.kill()
    await open(directory)
  })

  test('of many that come at once one gets it at most, and afterwards it is free', async () => {
    const directory = newDirectory()
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => open(directory)))
    const held = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    expect(held.length).toBeLessThanOrEqual(1)
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'JOURNAL_LOCKED' })
    for (const { value } of held) await value.journal.close()
    await open(directory)
  })

  test('who loses the directory to another owner writes no further segment', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory, { fault() {} })
    const { writeFileSync } = await import('node:fs')
    writeFileSync(join(directory, 'owner'), 'another host\n')
    await journal.append(1, ['into the segment that is there']).durable
    const outcomes = await Promise.allSettled(
      Array.from({ length: 5 }, () => journal.append(1, [Buffer.alloc(60_000)]).durable),
    )
    expect(outcomes.some((each) => each.status === 'rejected' && each.reason.code === 'JOURNAL_LOCKED')).toBe(
      true,
    )
  })
})

describe('inspection', () => {
  test('beside its running owner a journal is read without a lock, and nothing is added to it', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory)
    for (let each = 0; each < 50; each++) await journal.append(5, [`${each}`, Buffer.alloc(4000)]).durable
    for (let each = 1; each <= 20; each++) void journal.settle(each)
    await journal.append(5, ['last']).durable
    const names = (): string[] => readdirSync(join(directory, 'journal'))
    const seen: number[] = []
    const before = names()
    const inspection = await inspectJournal({ directory, visit: (sequence) => seen.push(sequence) })
    // Its owner may have removed something meanwhile.
    expect(before).toEqual(expect.arrayContaining(names()))
    expect(inspection).toMatchObject({
      nodeId: journal.nodeId,
      liveRecords: 31,
      damage: [],
      lost: [],
      lostAfter: undefined,
    })
    expect(inspection.segments.reduce((sum, { live }) => sum + live, 0)).toBe(31)
    expect(seen).toEqual(Array.from({ length: 31 }, (_, at) => at + 21))
  })

  test('while its owner appends, settles and compacts it shows a state that there was', async () => {
    const directory = newDirectory()
    const { journal } = await open(directory)
    let stop = false
    const working = (async () => {
      for (let each = 1; !stop; each++) {
        const { sequence, durable } = journal.append(5, [Buffer.alloc(3000)])
        await durable
        if (sequence > 20) void journal.settle(sequence - (each % 5 === 0 ? 20 : 10))
        if (journal.stats().bytes > 700_000) void journal.settle(1, sequence - 10)
      }
    })()
    for (let each = 0; each < 15; each++) {
      const { damage, lost } = await inspectJournal({ directory })
      expect({ damage, lost }).toEqual({ damage: [], lost: [] })
    }
    stop = true
    await working
  })

  test('where there is no journal it says so, and makes none', async () => {
    const directory = newDirectory()
    const why = async (path: string) => {
      const code = 'JOURNAL_FAILED'
      await expect(inspectJournal({ directory: path })).rejects.toMatchObject({ code })
      return inspectJournal({ directory: path }).catch(({ message }: Error) => message)
    }
    expect(await why(directory)).toBe(
      `open the journal in "${directory}": there is no such directory; name the data directory of a node`,
    )
    expect(existsSync(directory)).toBe(false)
    mkdirSync(directory)
    expect(await why(directory)).toContain('it is no data directory, there is no "node-id" in it')
    expect(readdirSync(directory)).toEqual([])
  })

  test('a file is no directory, and that is said by whoever opens or reads it', async () => {
    const file = newDirectory()
    writeFileSync(file, '')
    const error = { code: 'JOURNAL_FAILED', message: expect.stringContaining('it is a file') }
    for (const path of [file, join(file, 'below')]) {
      expect(await refusalOf(path)).toMatchObject(error)
      await expect(inspectJournal({ directory: path })).rejects.toMatchObject(error)
    }
  })

  test.skipIf(process.getuid?.() === 0)('whoever may not read it is told what to do', async () => {
    const directory = newDirectory()
    mkdirSync(directory, { mode: 0 })
    expect((await refusalOf(directory)).message).toMatch(/EACCES.*run as its owner/)
    await expect(inspectJournal({ directory })).rejects.toThrow(/EACCES.*run as its owner/)
  })
})
