import { SkeinError } from '../errors.ts'
import { type Files, TEMPORARY, writeAll } from './files.ts'
import { HEADER_BYTES, putHeader } from './header.ts'
import { liveWindows } from './reading.ts'
import { bodyBytesAt, isSealed, sealRecord, spanOf } from './record.ts'
import { MOST_SPREAD } from './segment-index.ts'
import { Segment } from './segments.ts'

/** What is known of a segment that may be put together with its neighbours. */
export interface Candidate {
  readonly bytes: number
  readonly liveBytes: number
  readonly firstSequence: number
  readonly lastSequence: number
  readonly isMovable: boolean
}

export interface CompactionLimits {
  /** No segment becomes larger than this. */
  readonly segmentBytes: number
  /** Most that may be written. */
  readonly roomBytes: number
  /** How much of what is read must be gained. */
  readonly share: number
}

/** A file costs a handle to open and a read at recovery: as much as so many bytes. */
const FILE_SHARE = 1 / 64
const MOST_TOGETHER = 64

/** Which segments side by side are best put together: from … to, both included. */
export const chooseRun = (
  candidates: readonly Candidate[],
  { segmentBytes, roomBytes, share }: CompactionLimits,
): { from: number; to: number } | undefined => {
  const fileBytes = segmentBytes * FILE_SHARE
  let best: { from: number; to: number } | undefined
  let bestGain = 0
  for (let from = 0; from < candidates.length; from++) {
    let cost = fileBytes + HEADER_BYTES
    let live = HEADER_BYTES
    let bytes = 0
    for (let to = from; to < candidates.length && to - from < MOST_TOGETHER; to++) {
      const candidate = candidates[to]!
      bytes += candidate.bytes + fileBytes
      live += candidate.liveBytes
      cost += candidate.liveBytes
      if (!candidate.isMovable || live > segmentBytes || live > roomBytes) break
      if (candidate.lastSequence - candidates[from]!.firstSequence > MOST_SPREAD) break
      const gain = bytes - cost
      // A byte written must earn its keep: of two runs the one that gains more for what it writes.
      if (gain < share * bytes || gain / cost <= bestGain) continue
      bestGain = gain / cost
      best = { from, to }
    }
  }
  return best
}

export interface MergeOptions {
  readonly files: Files
  readonly directory: string
  readonly nodeId: string
  /** Makes durable what was settled so far; answers whether it is, or nothing better can be hoped for. */
  readonly record: () => Promise<boolean>
  readonly isStopped: () => boolean
}

/** A record that is owed is not there any more as it was written. */
export class MergeDamage extends SkeinError {
  readonly segment: Segment

  constructor(segment: Segment, sequence: number) {
    super(
      'JOURNAL_DAMAGED',
      `compact "${segment.path}": record ${sequence} is damaged; the file is left as it is`,
    )
    this.segment = segment
  }
}

/**
 * Writes what is live in segments that stand side by side into one that takes their place. Nothing is removed: that is
 * for the caller, who has the new one's name on the disk when this resolves. Undefined if it was stopped.
 */
export const mergeSegments = async (
  run: readonly Segment[],
  options: MergeOptions,
): Promise<Segment | undefined> => {
  const { files, directory, nodeId } = options
  const place = {
    first: run[0]!.place.first,
    last: run.at(-1)!.place.last,
    generation: 1 + Math.max(...run.map((segment) => segment.place.generation)),
  }
  const merged = new Segment(files, directory, nodeId, place, HEADER_BYTES)
  const temporary = `${merged.path}${TEMPORARY}`
  let isNamed = false
  try {
    // What is not copied is settled, and that has to outlast it, or a reader would take it for lost.
    if (!(await copyInto(merged, temporary, run, options)) || !(await options.record())) {
      await files.remove(temporary)
      return undefined
    }
    isNamed = true
    await files.rename(temporary, merged.path)
    await files.syncDirectory(directory)
    return merged
  } catch (error) {
    await files.remove(temporary).catch(() => {})
    if (isNamed) await takeBack(files, directory, merged.path)
    throw error
  }
}

const copyInto = async (
  merged: Segment,
  temporary: string,
  run: readonly Segment[],
  { files, nodeId, isStopped }: MergeOptions,
): Promise<boolean> => {
  const file = await files.open(temporary, 'create')
  try {
    for (const source of run) {
      const isWhole = await source.use(async (from) => {
        for await (const window of liveWindows(from, source.index, 0, source.index.count)) {
          if (isStopped()) return false
          const start = merged.bytes
          const pieces = [copyRecords(window.buffer, window.base, source, window.from, window.to, merged)]
          await writeAll(file, pieces, start)
        }
        return true
      })
      if (!isWhole) return false
    }
    const header = Buffer.alloc(HEADER_BYTES)
    putHeader(header, { ...merged.place, nodeId, previous: 0, previousEnd: 0, bytes: merged.bytes })
    await writeAll(file, [header], 0)
    await file.sync()
    return true
  } finally {
    await file.close()
  }
}

/** The live records of a window, sealed for where they will stand. */
const copyRecords = (
  buffer: Buffer,
  base: number,
  source: Segment,
  from: number,
  to: number,
  merged: Segment,
): Buffer => {
  const copy = Buffer.allocUnsafe(buffer.length)
  let length = 0
  for (let ordinal = from; ordinal < to; ordinal++) {
    if (!source.index.isLive(ordinal)) continue
    const offset = source.index.offsetAt(ordinal)
    const at = offset - base
    const span = spanOf(bodyBytesAt(buffer, at))
    const sequence = source.index.sequenceAt(ordinal)
    if (span > source.index.boundAt(ordinal) - offset || !isSealed(buffer, at, source.salt, offset))
      throw new MergeDamage(source, sequence)
    buffer.copy(copy, length, at, at + span)
    sealRecord(copy, length, merged.salt, merged.bytes)
    merged.index.push(sequence, merged.bytes, merged.bytes + span)
    merged.bytes += span
    length += span
  }
  return copy.subarray(0, length)
}

/** The new name may be on the disk or not: either it certainly is not, or nothing may be put together any more. */
const takeBack = async (files: Files, directory: string, path: string): Promise<void> => {
  try {
    await files.remove(path)
    await files.syncDirectory(directory)
  } catch (error) {
    throw new MergeStuck(path, error)
  }
}

export class MergeStuck extends SkeinError {
  constructor(path: string, cause: unknown) {
    super(
      'JOURNAL_FAILED',
      `compact into "${path}": it can be neither finished nor taken back; look after the disk`,
      {
        cause,
      },
    )
  }
}
