import { inspectOwed, type OwedInspection } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { type JournalStats, renderOwedMessages, renderStats, renderVerdict } from './render-owed.ts'
import { type Globals, runAlone } from './run.ts'

const inspect = async ({ dataDir }: Globals): Promise<OwedInspection> => {
  if (dataDir) return inspectOwed(dataDir)
  throw new CliError(EXIT.usage, 'a journal is in the data directory of a node: name it with --data-dir')
}

/** `skein journal stats`: how much is owed, to whom, and what it takes. */
export const journalStats = (options: Globals): Promise<number> =>
  runAlone(options, async ({ output, format }) => {
    await output.write(renderStats(statsOf(await inspect(options), Date.now()), format))
    return EXIT.ok
  })

/** `skein journal ls`: every message that is owed. */
export const journalLs = (options: Globals): Promise<number> =>
  runAlone(options, async ({ output, format, stop, note }) => {
    const { owed } = await inspect(options)
    for (const message of owed) {
      if (stop.aborted) break
      await output.write(renderOwedMessages(message, format, Date.now()))
    }
    if (owed.length === 0) note('nothing is owed')
    return EXIT.ok
  })

/** `skein journal verify`: whether everything that is owed can be read. */
export const journalVerify = (options: Globals): Promise<number> =>
  runAlone(options, async ({ output, format }) => {
    const inspection = await inspect(options)
    await output.write(renderVerdict(inspection, format))
    const { damage, lost, lostAfter } = inspection
    return damage.length === 0 && lost.length === 0 && lostAfter === undefined ? EXIT.ok : EXIT.error
  })

const statsOf = (inspection: OwedInspection, now: number): JournalStats => {
  const { nodeId, segments, bytes, liveRecords, liveBytes, unfinishedBytes, owed, deadLetters, groups } =
    inspection
  const to = new Map<string, JournalStats['addressees'][number]>()
  for (const { acceptedAt, addressees } of owed) {
    for (const { kind, name, failures } of addressees) {
      const key = `${kind} ${name}`
      const before = to.get(key) ?? { kind, name, owed: 0, failing: 0, oldestMs: 0 }
      to.set(key, {
        ...before,
        owed: before.owed + 1,
        failing: before.failing + (failures > 0 ? 1 : 0),
        oldestMs: Math.max(before.oldestMs, now - acceptedAt),
      })
    }
  }
  return {
    ...{ nodeId, bytes, liveRecords, liveBytes, unfinishedBytes },
    segments: segments.length,
    owed: owed.length,
    deadLetters: deadLetters.length,
    addressees: [...to.values()],
    groups: groups.map(({ group, patterns, seenAt }) => ({ group, patterns, seenMs: now - seenAt })),
  }
}
