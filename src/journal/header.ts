import { getU32, putU16, putU32, putU48 } from '../protocol/bytes.ts'
import { crc32 } from './crc.ts'

export const FORMAT_VERSION = 1

/** A segment begins with its header twice, so that no single flipped bit takes what it says. */
const COPY_BYTES = 64
export const HEADER_BYTES = 2 * COPY_BYTES

const MAGIC = Buffer.from('SKEINJNL')
const CHECKED_BYTES = 60

/** What a segment says of itself. */
export interface Header {
  readonly nodeId: string
  /** The numbers it stands for: one, or those of all the segments that were put together in it. */
  readonly first: number
  readonly last: number
  /** 0 as it was first written; each time segments are put together it is one more than theirs. */
  readonly generation: number
  /** The segment that was written before, and where it ends: what stands behind that never counted. 0: none. */
  readonly previous: number
  readonly previousEnd: number
  /** Its own length if it was written in one go, or 0. */
  readonly bytes: number
}

export type Place = Pick<Header, 'first' | 'last' | 'generation'>

export const putHeader = (buffer: Buffer, header: Header): void => {
  MAGIC.copy(buffer, 0)
  putU16(buffer, 8, FORMAT_VERSION)
  putU32(buffer, 10, header.generation)
  putU48(buffer, 14, header.first)
  putU48(buffer, 20, header.last)
  buffer.write(header.nodeId, 26, 'hex')
  putU48(buffer, 42, header.previous)
  putU48(buffer, 48, header.previousEnd)
  putU48(buffer, 54, header.bytes)
  putU32(buffer, CHECKED_BYTES, crc32(buffer, 0, CHECKED_BYTES, 0))
  buffer.copy(buffer, COPY_BYTES, 0, COPY_BYTES)
}

export interface ReadHeader {
  readonly header: Header
  /** One of the two copies was damaged. */
  readonly damaged: boolean
}

/** The header, undefined where both copies are damaged, or the version of a format that this code does not know. */
export const readHeader = (buffer: Buffer): ReadHeader | number | undefined => {
  const copies = [0, COPY_BYTES].filter((at) => isCopy(buffer, at))
  const at = copies[0]
  if (at === undefined) return undefined
  const version = buffer.readUInt16LE(at + 8)
  if (version !== FORMAT_VERSION) return version
  const header: Header = {
    generation: getU32(buffer, at + 10),
    first: buffer.readUIntLE(at + 14, 6),
    last: buffer.readUIntLE(at + 20, 6),
    nodeId: buffer.toString('hex', at + 26, at + 42),
    previous: buffer.readUIntLE(at + 42, 6),
    previousEnd: buffer.readUIntLE(at + 48, 6),
    bytes: buffer.readUIntLE(at + 54, 6),
  }
  return { header, damaged: copies.length < 2 }
}

const isCopy = (buffer: Buffer, at: number): boolean =>
  buffer.length >= at + COPY_BYTES &&
  buffer.subarray(at, at + MAGIC.length).equals(MAGIC) &&
  getU32(buffer, at + CHECKED_BYTES) === crc32(buffer, at, at + CHECKED_BYTES, 0)

/** Where the CRCs of a segment's records begin. It follows from the name, so that no header is needed to read them. */
export const saltOf = (nodeId: string, place: Place): number => {
  const bytes = Buffer.alloc(32)
  bytes.write(nodeId, 0, 'hex')
  putU48(bytes, 16, place.first)
  putU48(bytes, 22, place.last)
  putU32(bytes, 28, place.generation)
  return crc32(bytes, 0, bytes.length, 0)
}

const SUFFIX = '.segment'

/** `12.segment`, or `12-15.2.segment` where several were put together. */
export const nameOf = ({ first, last, generation }: Place): string =>
  `${padded(first)}${generation === 0 ? '' : `-${padded(last)}.${generation}`}${SUFFIX}`

/** As people sort them. */
const padded = (number: number): string => String(number).padStart(12, '0')

export const placeOf = (name: string): Place | undefined => {
  const match = /^(\d{12,15})(?:-(\d{12,15})\.(\d{1,9}))?\.segment$/.exec(name)
  if (match === null) return undefined
  const first = Number(match[1])
  return { first, last: Number(match[2] ?? first), generation: Number(match[3] ?? 0) }
}

/** What `place` stands for is all in `other`, which was made of it. */
export const isSuperseded = (place: Place, other: Place): boolean =>
  other.generation > place.generation && other.first <= place.first && place.last <= other.last
