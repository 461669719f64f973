import type { SkeinError } from '../errors.ts'
import { asOpenError } from './data-directory.ts'
import { codeOf, createWhole, type Files, readAll } from './files.ts'
import type { Ranges } from './ranges.ts'
import type { Segment } from './segments.ts'
import { type Damage, type Survey, surveyJournal } from './survey.ts'

/** The end of the last segment, which was being written when its writer ended: nobody was told that it counts. */
export interface Cut {
  readonly segment: string
  readonly offset: number
  readonly bytes: number
  /** Where a copy of it is, below the journal's directory; undefined if none could be made. */
  readonly copy: string | undefined
}

/** What was found when the journal was opened. */
export interface Recovery {
  /** Records that are owed. */
  readonly records: number
  readonly cut: Cut | undefined
  readonly damage: readonly Damage[]
  /** Sequences that are owed and cannot be read: `[from, to, …]`, both included. */
  readonly lost: Ranges
  /** Records above this sequence may be lost as well, and nothing says how many. */
  readonly lostAfter: number | undefined
  /** The time of day that was last recorded, or 0. */
  readonly lastWallMs: number
}

/** Reads the journal, repairs what a crash left, and says what it found. */
export const recover = async (
  files: Files,
  directory: string,
  nodeId: string,
  fault: (error: SkeinError) => void,
): Promise<{ survey: Survey; recovery: Recovery }> => {
  const survey = await surveyJournal(files, directory, nodeId)
  const attempt = async <T>(run: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await run()
    } catch (error) {
      // Nothing depends on it: the next segment says where this one ends, and what is left over means nothing.
      fault(asOpenError(directory, error))
      return undefined
    }
  }
  let cut: Cut | undefined
  const { torn } = survey
  if (torn !== undefined) {
    const { segment, from, to } = torn
    const copy = await attempt(() => cutTail(files, directory, segment, from, to))
    segment.isOverlong = copy === undefined
    cut = { segment: segment.name, offset: from, bytes: to - from, copy }
  }
  const last = survey.segments.list.at(-1)
  if (last !== undefined && (torn === undefined || cut?.copy === undefined))
    await attempt(() => syncSegment(files, last))
  for (const name of survey.unfinished) await attempt(() => files.remove(`${directory}/${name}`))
  const { damage, lost, lostAfter, lastWallMs } = survey
  return { survey, recovery: { records: survey.segments.live, cut, damage, lost, lostAfter, lastWallMs } }
}

/** What the page cache shows of the last segment counts from now on, so the disk must have it, too. */
const syncSegment = async (files: Files, segment: Segment): Promise<void> => {
  const file = await files.open(segment.path, 'change')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** What was damaged is kept in here, for who wants to look into it. */
export const DAMAGED = 'damaged'
/** Of many crashes only the traces of the last ones are kept (G6). */
const MOST_KEPT = 16

/** Cuts a torn end off a segment, keeping a copy of it; answers the copy's path below the journal. */
export const cutTail = async (
  files: Files,
  directory: string,
  segment: Segment,
  from: number,
  to: number,
): Promise<string> => {
  await prepare(files, directory)
  const name = `${segment.name}.${from}.torn`
  const file = await files.open(segment.path, 'change')
  try {
    const tail = Buffer.alloc(to - from)
    await createWhole(files, `${directory}/${DAMAGED}`, name, [
      tail.subarray(0, await readAll(file, tail, from)),
    ])
    await file.truncate(from)
    await file.sync()
  } finally {
    await file.close()
  }
  return `${DAMAGED}/${name}`
}

/** Puts a damaged segment away of which nothing is owed any more that can be read. */
export const keepDamaged = async (files: Files, directory: string, name: string): Promise<void> => {
  await prepare(files, directory)
  try {
    await files.rename(`${directory}/${name}`, `${directory}/${DAMAGED}/${name}`)
  } catch (error) {
    // An earlier attempt came further than it could tell.
    if (codeOf(error) !== 'ENOENT') throw error
  }
  await files.syncDirectory(`${directory}/${DAMAGED}`)
}

const prepare = async (files: Files, directory: string): Promise<void> => {
  const path = `${directory}/${DAMAGED}`
  if (await files.makeDirectory(path)) await files.syncDirectory(directory)
  const names = (await files.list(path)).sort()
  for (const name of names.slice(0, Math.max(0, names.length - MOST_KEPT + 1)))
    await files.remove(`${path}/${name}`)
}
