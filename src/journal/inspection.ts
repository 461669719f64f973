import { asOpenError, JOURNAL, readNodeId } from './data-directory.ts'
import { diskFiles } from './disk-files.ts'
import { codeOf, type Files } from './files.ts'
import type { Ranges } from './ranges.ts'
import { eachRecord, type Visit } from './reading.ts'
import type { Segment } from './segments.ts'
import { type Damage, type Survey, surveyJournal } from './survey.ts'

export interface InspectOptions {
  /** The data directory. */
  readonly directory: string
  readonly files?: Files
  /** Sees every record that is owed, in order. */
  readonly visit?: Visit
}

export interface InspectedSegment {
  readonly name: string
  readonly bytes: number
  readonly records: number
  readonly live: number
  readonly liveBytes: number
}

/** What stands in a journal, whether somebody has it open or not. */
export interface Inspection {
  readonly nodeId: string
  readonly segments: readonly InspectedSegment[]
  readonly bytes: number
  readonly liveRecords: number
  readonly liveBytes: number
  /** Bytes at the end that are being written, or were when the writer ended. */
  readonly unfinishedBytes: number
  readonly damage: readonly Damage[]
  /** Sequences that are owed and cannot be read: `[from, to, …]`, both included. */
  readonly lost: Ranges
  readonly lostAfter: number | undefined
  readonly lastWallMs: number
}

/** Its owner may remove a file between the listing and the reading of it. */
const MOST_TRIES = 10

/**
 * Reads a whole journal and changes nothing: safe beside its running owner, who may be ahead of what is read.
 * @throws JOURNAL_DAMAGED (the id), JOURNAL_FAILED, VERSION_MISMATCH
 */
export const inspectJournal = async ({
  directory,
  files = diskFiles,
  visit,
}: InspectOptions): Promise<Inspection> => {
  const nodeId = await readNodeId(files, directory)
  for (let tries = 1; ; tries++) {
    const held: Segment[] = []
    try {
      const survey = await surveyJournal(files, `${directory}/${JOURNAL}`, nodeId, held)
      if (visit !== undefined) {
        await eachRecord(survey.segments, visit, (error) => {
          throw error
        })
      }
      return summary(nodeId, survey)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || tries === MOST_TRIES) throw asOpenError(directory, error)
    } finally {
      for (const segment of held) await segment.seal()
    }
  }
}

const summary = (nodeId: string, survey: Survey): Inspection => {
  const { segments, damage, torn, lost, lostAfter, lastWallMs } = survey
  return {
    nodeId,
    segments: segments.list.map(({ name, bytes, index }) => ({
      name,
      bytes,
      records: index.count,
      live: index.live,
      liveBytes: index.liveBytes,
    })),
    bytes: segments.bytes,
    liveRecords: segments.live,
    liveBytes: segments.liveBytes,
    unfinishedBytes: torn === undefined ? 0 : torn.to - torn.from,
    damage,
    lost,
    lostAfter,
    lastWallMs,
  }
}
