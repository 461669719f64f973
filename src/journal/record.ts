import { getU32, putU16, putU32, putU48 } from '../protocol/bytes.ts'
import { crc32 } from './crc.ts'
import { boundOf, getRanges, putRanges, type Ranges } from './ranges.ts'

/** crc u32 · body length u32 · sequence u48 · type u8 · 0 u8 · body · up to seven zero bytes; see README.md. */
export const HEAD_BYTES = 16

/** The journal's own record among those of its user. */
export const NOTE_TYPE = 0xff
export const MAX_USER_TYPE = 0xef

/** More cannot be written in one piece; quotas end far below. */
export const MAX_BODY_BYTES = 0x3fff_0000

const HIGH = 0x1_0000_0000

/** Bytes of a record with this body: records begin at multiples of eight, so a search steps by eight. */
export const spanOf = (bodyBytes: number): number => (bodyBytes + HEAD_BYTES + 7) & ~7

/** Each position has its own beginning of the CRC: bytes of another place or file never pass for a record. */
const seedOf = (salt: number, offset: number): number => (salt + offset) % HIGH

export const putHead = (
  buffer: Buffer,
  at: number,
  bodyBytes: number,
  sequence: number,
  type: number,
): number => {
  putU32(buffer, at + 4, bodyBytes)
  putU32(buffer, at + 8, sequence % HIGH)
  putU16(buffer, at + 12, Math.floor(sequence / HIGH))
  buffer[at + 14] = type
  buffer[at + 15] = 0
  return at + HEAD_BYTES
}

export const bodyBytesAt = (buffer: Buffer, at: number): number => getU32(buffer, at + 4)
export const typeAt = (buffer: Buffer, at: number): number => buffer[at + 14]!
export const sequenceAt = (buffer: Buffer, at: number): number =>
  getU32(buffer, at + 8) + HIGH * (buffer[at + 12]! | (buffer[at + 13]! << 8))

/** Fills in the CRC of a record that stands at `at` in memory and goes to `offset` in its segment. */
export const sealRecord = (buffer: Buffer, at: number, salt: number, offset: number): void => {
  putU32(buffer, at, crcAt(buffer, at, salt, offset))
}

export const isSealed = (buffer: Buffer, at: number, salt: number, offset: number): boolean =>
  getU32(buffer, at) === crcAt(buffer, at, salt, offset)

const crcAt = (buffer: Buffer, at: number, salt: number, offset: number): number =>
  crc32(buffer, at + 4, at + HEAD_BYTES + bodyBytesAt(buffer, at), seedOf(salt, offset))

/** Whether a head may be one, before its CRC is worked out; `room` is what is left of the segment. */
export const isPlausible = (buffer: Buffer, at: number, room: number): boolean => {
  if (buffer[at + 14] === 0 || buffer[at + 15] !== 0) return false
  const bodyBytes = bodyBytesAt(buffer, at)
  return bodyBytes <= MAX_BODY_BYTES && spanOf(bodyBytes) <= room
}

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
  setAccepted(buffer, note.accepted)
  const end = putRanges(buffer, HEAD_BYTES + FIXED_BYTES, note.ranges)
  putHead(buffer, 0, end - HEAD_BYTES, sequence, NOTE_TYPE)
  return buffer.subarray(0, spanOf(end - HEAD_BYTES))
}

/** A note that speaks of itself knows its length first. */
export const setAccepted = (note: Buffer, accepted: number): void => {
  putU48(note, HEAD_BYTES + 7, accepted)
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
