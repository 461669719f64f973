import { mkdtempSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { type Durability, Journal } from '../../src/journal/journal.ts'

export interface Append {
  readonly durability: Durability
  /** Records that are appended together, before the next group follows. */
  readonly group: number
  readonly recordsPerSecond: number
  /** The same bytes written and synced by hand: no CRC, no index, no promises. */
  readonly barePerSecond: number
  /** From the append to the promise that the group is durable. */
  readonly p50Us: number
  readonly p99Us: number
  readonly bareP50Us: number
}

const BODY_BYTES = 100
const HEAD_BYTES = 16
/** Each group is settled when so many have followed: the journal does its housekeeping meanwhile. */
const BEHIND = 50

/** Appends groups one after the other, and the same number of bytes by hand, in turns of the same length. */
export const measureAppend = async (
  durability: Durability,
  group: number,
  measureMs: number,
): Promise<Append> => {
  const directory = mkdtempSync(join(process.env.BENCH_DIR ?? tmpdir(), 'skein-bench-journal-'))
  try {
    const ours = await timeGroups(await journalGroups(directory, durability, group), group, measureMs)
    const bare = await timeGroups(await bareGroups(directory, durability, group), group, measureMs)
    return {
      durability,
      group,
      recordsPerSecond: ours.perSecond,
      barePerSecond: bare.perSecond,
      p50Us: ours.p50Us,
      p99Us: ours.p99Us,
      bareP50Us: bare.p50Us,
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

interface Groups {
  write(): Promise<void>
  close(): Promise<unknown>
}

const journalGroups = async (directory: string, durability: Durability, group: number): Promise<Groups> => {
  const { journal } = await Journal.open({
    ...(durability === 'memory' ? {} : { directory: join(directory, 'data') }),
    durability,
    clock: systemClock,
    fault(error) {
      throw error
    },
  })
  const body = Buffer.alloc(BODY_BYTES, 'x')
  const firsts: number[] = []
  return {
    async write() {
      let first = 0
      let durable = Promise.resolve()
      for (let each = 0; each < group; each++) {
        const appended = journal.append(1, [body])
        if (each === 0) first = appended.sequence
        durable = appended.durable
      }
      await durable
      firsts.push(first)
      if (firsts.length > BEHIND) {
        const old = firsts.shift()!
        void journal.settle(old, old + group - 1)
      }
    },
    close: () => journal.close(),
  }
}

const bareGroups = async (directory: string, durability: Durability, group: number): Promise<Groups> => {
  const file = durability === 'memory' ? undefined : await open(join(directory, 'bare'), 'w')
  const body = Buffer.alloc(BODY_BYTES + HEAD_BYTES, 'x')
  return {
    async write() {
      const buffer = Buffer.allocUnsafe(group * body.length)
      for (let each = 0; each < group; each++) buffer.set(body, each * body.length)
      await writeBare(file, buffer, durability)
    },
    close: async () => await file?.close(),
  }
}

const writeBare = async (
  file: FileHandle | undefined,
  buffer: Buffer,
  durability: Durability,
): Promise<void> => {
  await file?.write(buffer)
  if (durability === 'disk') await file?.datasync()
}

const timeGroups = async (
  groups: Groups,
  group: number,
  measureMs: number,
): Promise<{ perSecond: number; p50Us: number; p99Us: number }> => {
  const run = async (ms: number): Promise<{ times: number[]; tookMs: number }> => {
    const times: number[] = []
    const start = performance.now()
    let now = start
    while (now - start < ms) {
      const before = now
      await groups.write()
      now = performance.now()
      times.push(now - before)
      // Timers and the journal's own work need a turn now and then, as in a program.
      if (times.length % 64 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return { times, tookMs: now - start }
  }
  await run(measureMs / 4)
  const { times, tookMs } = await run(measureMs)
  await groups.close()
  times.sort((a, b) => a - b)
  const at = (share: number): number => 1000 * times[Math.floor(share * (times.length - 1))]!
  return { perSecond: (1000 * times.length * group) / tookMs, p50Us: at(0.5), p99Us: at(0.99) }
}
