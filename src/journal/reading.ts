import { messageOf, SkeinError } from '../errors.ts'
import { Reader } from '../protocol/bytes.ts'
import { type File, readAll } from './files.ts'
import { bodyBytesAt, HEAD_BYTES, isSealed, spanOf, typeAt } from './record.ts'
import type { SegmentIndex } from './segment-index.ts'
import type { Segment, Segments } from './segments.ts'

/** Sees one record; the reader stands on its body and is valid during the call only. */
export type Visit = (sequence: number, type: number, body: Reader) => void

export interface JournalRecord {
  readonly type: number
  /** A view of memory that it may share with its neighbours: who keeps it for long copies it. */
  readonly body: Buffer
}

/**
 * Why there is no record: it is settled or never was; what stands there is not what was written; or the disk does not
 * show it now, and may later.
 */
export type Absence = 'settled' | 'damaged' | 'unreadable'

type Fault = (error: SkeinError) => void

/** What is read at once. */
const NEAR_BYTES = 256 * 1024

export const eachRecord = async (segments: Segments, visit: Visit, fault: Fault): Promise<void> => {
  const end = segments.lastSequence
  let next = 0
  while (next <= end) {
    // Looked up anew each time: what was a segment may have been put together with others meanwhile.
    const segment = segments.from(next)
    if (segment === undefined) return
    const { index } = segment
    const first = index.lowerBound(next)
    const count = index.lowerBound(end + 1)
    next = index.lastSequence + 1
    await reading(segment, fault, async (file) => {
      for await (const window of liveWindows(file, index, first, count))
        showAll(segment, window, visit, fault)
    })
  }
}

const showAll = (segment: Segment, window: ReadWindow, visit: Visit, fault: Fault): void => {
  const { buffer, base, from, to } = window
  const { index } = segment
  const reader = new Reader(buffer)
  for (let ordinal = from; ordinal < to; ordinal++) {
    if (!index.isLive(ordinal) || absenceOf(segment, window, ordinal, fault) !== undefined) continue
    const at = index.offsetAt(ordinal) - base
    reader.at = at + HEAD_BYTES
    reader.end = reader.at + bodyBytesAt(buffer, at)
    visit(index.sequenceAt(ordinal), typeAt(buffer, at), reader)
  }
}

export const readRecords = async (
  segments: Segments,
  sequences: readonly number[],
  fault: Fault,
): Promise<(JournalRecord | Absence)[]> => {
  const answers: (JournalRecord | Absence)[] = sequences.map(() => 'settled')
  const order = sequences.map((_, position) => position)
  order.sort((a, b) => sequences[a]! - sequences[b]!)
  let at = 0
  while (at < order.length) {
    const segment = segments.find(sequences[order[at]!]!)
    if (segment === undefined) {
      at++
      continue
    }
    const { index } = segment
    /** Positions in the question, and the ordinals that answer them. */
    const wanted: { position: number; ordinal: number }[] = []
    let base = -1
    for (; at < order.length; at++) {
      const position = order[at]!
      const ordinal = index.find(sequences[position]!)
      if (ordinal === -1 && sequences[position]! > index.lastSequence) break
      if (ordinal === -1 || !index.isLive(ordinal)) continue
      if (base === -1) base = index.offsetAt(ordinal)
      else if (index.boundAt(ordinal) - base > NEAR_BYTES) break
      wanted.push({ position, ordinal })
    }
    if (wanted.length === 0) continue
    for (const { position } of wanted) answers[position] = 'unreadable'
    await reading(segment, fault, async (file) => {
      const window = await readWindow(file, index, wanted[0]!.ordinal, wanted.at(-1)!.ordinal + 1)
      for (const { position, ordinal } of wanted)
        answers[position] = absenceOf(segment, window, ordinal, fault) ?? recordAt(segment, window, ordinal)
    })
  }
  return answers
}

/** Lends the segment's file, if it can be opened. */
const reading = async (segment: Segment, fault: Fault, run: (file: File) => Promise<void>): Promise<void> => {
  let isOpen = false
  try {
    await segment.use(async (file) => {
      isOpen = true
      await run(file)
    })
  } catch (error) {
    if (isOpen) throw error
    const sentence = `read "${segment.path}": ${messageOf(error)}; what is in it stays owed, look after the disk`
    fault(new SkeinError('JOURNAL_FAILED', sentence, { cause: error }))
  }
}

const absenceOf = (
  segment: Segment,
  { buffer, base, unreadable }: ReadWindow,
  ordinal: number,
  fault: Fault,
): Absence | undefined => {
  const offset = segment.index.offsetAt(ordinal)
  const at = offset - base
  const named = (): string => `read record ${segment.index.sequenceAt(ordinal)} of "${segment.path}"`
  if (unreadable.has(ordinal)) {
    const sentence = `${named()}: the disk does not show it; it stays owed, look after the disk`
    fault(new SkeinError('JOURNAL_FAILED', sentence))
    return 'unreadable'
  }
  if (
    spanOf(bodyBytesAt(buffer, at)) <= segment.index.boundAt(ordinal) - offset &&
    isSealed(buffer, at, segment.salt, offset)
  )
    return undefined
  segment.isDamaged = true
  const sentence = `${named()}: its bytes are not those that were written; the file is kept as it is`
  fault(new SkeinError('JOURNAL_DAMAGED', sentence))
  return 'damaged'
}

const recordAt = (segment: Segment, { buffer, base }: ReadWindow, ordinal: number): JournalRecord => {
  const at = segment.index.offsetAt(ordinal) - base
  const start = at + HEAD_BYTES
  return { type: typeAt(buffer, at), body: buffer.subarray(start, start + bodyBytesAt(buffer, at)) }
}

/** Some records that stand near each other, read together: those from `from` to before `to`. */
export interface ReadWindow {
  readonly buffer: Buffer
  /** Where the buffer begins in the segment. */
  readonly base: number
  readonly from: number
  readonly to: number
  /** Ordinals of those that the disk does not show; their bytes are zeros, which no CRC fits. */
  readonly unreadable: ReadonlySet<number>
}

/** Reads the live records from the ordinal `from` to before `to`, some at a time; those settled meanwhile come along. */
export async function* liveWindows(
  file: File,
  index: SegmentIndex,
  from: number,
  to: number,
): AsyncGenerator<ReadWindow> {
  let next = from
  while (next < to) {
    while (next < to && !index.isLive(next)) next++
    if (next === to) return
    const base = index.offsetAt(next)
    let last = next
    for (let at = next + 1; at < to && index.boundAt(at) - base <= NEAR_BYTES; at++) {
      if (index.isLive(at)) last = at
    }
    yield await readWindow(file, index, next, last + 1)
    next = last + 1
  }
}

const readWindow = async (file: File, index: SegmentIndex, from: number, to: number): Promise<ReadWindow> => {
  const base = index.offsetAt(from)
  const buffer = Buffer.allocUnsafe(index.boundAt(to - 1) - base)
  const unreadable = new Set<number>()
  const readInto = async (part: Buffer, at: number): Promise<void> => {
    part.fill(0, await readAll(file, part, at))
  }
  try {
    await readInto(buffer, base)
  } catch {
    // One bad sector does not take its neighbours along.
    for (let ordinal = from; ordinal < to; ordinal++) {
      const offset = index.offsetAt(ordinal)
      const part = buffer.subarray(offset - base, index.boundAt(ordinal) - base)
      await readInto(part, offset).catch(() => {
        part.fill(0)
        unreadable.add(ordinal)
      })
    }
  }
  return { buffer, base, from, to, unreadable }
}
