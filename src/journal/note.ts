import { putU48 } from '../protocol/bytes.ts'
import { boundOf, getRanges, putRanges, type Ranges } from './ranges.ts'
import { HEAD_BYTES, NOTE_TYPE, putHead, spanOf } from './record.ts'

/** What a note's ranges are. */
export const NOTE = {
  /** Sequences that are settled: nobody needs them any more, or they never counted. */
  settled: 0,
  /** All sequences before this note that are owed: whatever is not among them is settled. */
  owed: 1,
} as const

export type NoteKind = (typeof NOTE)[keyof typeof NOTE]

/** The journal's own record; its sequence is the last one that was given out before it. */
export interface Note {
  readonly kind: NoteKind
  /** The time of day when it was written. */
  readonly wallMs: number
  /** Everything before this offset of the segment was accepted for good when the note was written. */
  readonly accepted: number
  readonly ranges: Ranges
}

const FIXED_BYTES = 13

/** More than the record of such a note needs. */
export const noteBound = (ranges: Ranges): number => spanOf(FIXED_BYTES + boundOf(ranges))

/** The record of a note, without its CRC. */
export const encodeNote = (note: Note, sequence: number): Buffer => {
  const buffer = Buffer.alloc(noteBound(note.ranges))
  buffer[HEAD_BYTES] = note.kind
  putU48(buffer, HEAD_BYTES + 1, Math.max(0, Math.floor(note.wallMs)))
  putU48(buffer, HEAD_BYTES + 7, note.accepted)
  const end = putRanges(buffer, HEAD_BYTES + FIXED_BYTES, note.ranges)
  putHead(buffer, 0, end - HEAD_BYTES, sequence, NOTE_TYPE)
  return buffer.subarray(0, spanOf(end - HEAD_BYTES))
}

export const decodeNote = (buffer: Buffer, start: number, end: number): Note | undefined => {
  if (end - start < FIXED_BYTES) return undefined
  const kind = buffer[start]!
  const ranges = getRanges(buffer, start + FIXED_BYTES, end)
  if (kind > NOTE.owed || ranges === undefined) return undefined
  return {
    kind: kind as NoteKind,
    wallMs: buffer.readUIntLE(start + 1, 6),
    accepted: buffer.readUIntLE(start + 7, 6),
    ranges,
  }
}
