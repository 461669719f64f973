import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/clock.ts'
import { Journal } from '../../src/journal/journal.ts'

export interface Reopening {
  readonly records: number
  /** Until `open` resolves. */
  readonly openMs: number
  /** Until each record has been shown once as well. */
  readonly shownMs: number
  readonly rssMiB: number
  /** Of a process that did nothing else. */
  readonly emptyRssMiB: number
}

const BODY_BYTES = 100

/** Writes so many owed records and opens the journal in a fresh process. */
export const measureRecovery = async (records: number): Promise<Reopening> => {
  const directory = mkdtempSync(join(process.env.BENCH_DIR ?? tmpdir(), 'skein-bench-journal-'))
  try {
    await fill(join(directory, 'data'), records)
    await fill(join(directory, 'empty'), 1)
    const full = reopen(join(directory, 'data'))
    if (full.records !== records)
      throw new Error(`${records} records were appended, ${full.records} are there`)
    return { ...full, emptyRssMiB: reopen(join(directory, 'empty')).rssMiB }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const fill = async (directory: string, records: number): Promise<void> => {
  const { journal } = await openJournal(directory)
  const body = Buffer.alloc(BODY_BYTES, 'x')
  for (let at = 0; at < records; at += 5000) {
    let durable = Promise.resolve()
    for (let each = at; each < Math.min(records, at + 5000); each++)
      durable = journal.append(1, [body]).durable
    await durable
  }
  await journal.close()
}

const openJournal = (directory: string): ReturnType<typeof Journal.open> =>
  Journal.open({
    directory,
    durability: 'os',
    clock: systemClock,
    fault(error) {
      throw error
    },
  })

const reopen = (directory: string): Omit<Reopening, 'emptyRssMiB'> =>
  JSON.parse(
    execFileSync(process.execPath, ['--import', 'tsx', fileURLToPath(import.meta.url), directory], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  )

const [, main, directory] = process.argv
if (main === fileURLToPath(import.meta.url) && directory !== undefined) {
  const start = performance.now()
  const { journal } = await openJournal(directory)
  const openMs = performance.now() - start
  let records = 0
  await journal.each(() => {
    records++
  })
  const shownMs = performance.now() - start
  const rssMiB = process.resourceUsage().maxRSS / 1024
  await journal.close()
  console.log(JSON.stringify({ records, openMs, shownMs, rssMiB }))
}
