import { randomBytes } from 'node:crypto'
import { SkeinError } from '../errors.ts'
import type { Reader, Writer } from './bytes.ts'

/** Every skein batch begins with these: what it is, in which version, of which kind. */
const MAGIC_0 = 0x53
const MAGIC_1 = 0x4b
export const VERSION = 1

export const KIND = { control: 1, feed: 2, barrier: 3, delivery: 4 } as const
export type Kind = (typeof KIND)[keyof typeof KIND]

export const ID_BYTES = 16

/** A call for each id would be a tenth of what it costs to join a large mesh. */
const chance = { bytes: Buffer.alloc(0), at: 0 }

/** A node id, a boot or a token: 128 random bits, as 32 hex digits outside the wire. */
export const newId = (): string => {
  if (chance.at === chance.bytes.length) Object.assign(chance, { bytes: randomBytes(256 * ID_BYTES), at: 0 })
  const from = chance.at
  chance.at += ID_BYTES
  return chance.bytes.toString('hex', from, chance.at)
}

/** Nearly all ids that a node writes are its own boot: turning that into bytes again would cost as much as a message. */
const lastId = { hex: '', bytes: Buffer.alloc(0) }

/** The bytes of an id; they are not to be changed. */
export const idBytes = (hex: string): Buffer => {
  if (hex !== lastId.hex) Object.assign(lastId, { hex, bytes: Buffer.from(hex, 'hex') })
  return lastId.bytes
}

export const isId = (value: unknown): value is string =>
  typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)

export const writePrefix = (writer: Writer, kind: Kind): void => {
  writer.u8(MAGIC_0)
  writer.u8(MAGIC_1)
  writer.u8(VERSION)
  writer.u8(kind)
}

/** Steps over magic, version and kind; anything else than the expected kind in our version is refused. */
export const readPrefix = (reader: Reader, ...expected: Kind[]): Kind => {
  if (reader.u8() !== MAGIC_0 || reader.u8() !== MAGIC_1) {
    throw new SkeinError(
      'MALFORMED',
      'a batch does not begin as a skein batch; something else dials this port',
    )
  }
  const version = reader.u8()
  if (version !== VERSION) {
    throw new SkeinError(
      'VERSION_MISMATCH',
      `a batch speaks version ${version} of the wire, this node speaks ${VERSION}; update the older of the two`,
    )
  }
  const kind = reader.u8() as Kind
  if (!expected.includes(kind))
    throw new SkeinError('MALFORMED', `a batch of kind ${kind} came on another road`)
  return kind
}
