import { getU32, putU16, putU32 } from '../protocol/bytes.ts'
import { crc32 } from './crc.ts'

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
