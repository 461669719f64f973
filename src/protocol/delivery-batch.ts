import { type Addressee, kindNumber, kindOf } from './addressee.ts'
import { putU32, type Reader, type Writer } from './bytes.ts'
import { ID_BYTES, KIND, readPrefix, writePrefix } from './header.ts'

/**
 * A delivery batch: prefix(4) · token(16) · boot(16) · number u48 · recorded u48 · count u32 · hand-overs.
 * The token is what the receiver gave the sender, `number` counts the batches of this lane from 1, and `recorded` is
 * the last settlement of the receiver that the sender will not forget any more.
 */
const COUNT_AT = 4 + 2 * ID_BYTES + 12

/** In the low two bits of a hand-over's flags: what kind of addressee. */
const ADDRESSEE_MASK = 0x03
const OWED_FLAG = 0x04
const BOOT_FLAG = 0x08
const KEY_FLAG = 0x10
const REPEAT_FLAG = 0x20
const LAST_FLAG = 0x40

export interface DeliveryHeader {
  readonly token: string
  readonly boot: string
  readonly number: number
  readonly recorded: number
  readonly count: number
}

/** Which message a hand-over is of, whatever number it is handed over by: unique among what is owed, and what is not. */
export interface MessageId {
  /** The boot of its sender that accepted it. */
  readonly boot: string
  readonly sequence: number
}

/** One giving of a message to one member: number u48 · flags u8 · [group] · topic · sequence u48 · [boot] · [attempt u16] · [key] · record. */
export interface HandOver extends MessageId {
  readonly number: number
  readonly kind: Addressee['kind']
  /** Empty unless the addressee is a group: a queue's name is the topic. */
  readonly group: string
  readonly topic: string
  readonly key: string | undefined
  /** It is journaled and comes again until it is settled. */
  readonly isOwed: boolean
  /** Failures before this hand-over, plus one. */
  readonly attempt: number
  readonly redelivered: boolean
  /** If it fails this time, too, it is given up. */
  readonly isLast: boolean
}

export const beginDeliveryBatch = (
  writer: Writer,
  token: string,
  boot: string,
  number: number,
  recorded: number,
): void => {
  writePrefix(writer, KIND.delivery)
  writer.bytes(Buffer.from(token, 'hex'))
  writer.bytes(Buffer.from(boot, 'hex'))
  writer.u48(number)
  writer.u48(recorded)
  writer.u32(0)
}

export const sealDeliveryBatch = (batch: Buffer, count: number): void => void putU32(batch, COUNT_AT, count)

export const readDeliveryHeader = (reader: Reader): DeliveryHeader => {
  readPrefix(reader, KIND.delivery)
  const token = reader.bytes(ID_BYTES).toString('hex')
  const boot = reader.bytes(ID_BYTES).toString('hex')
  return { token, boot, number: reader.u48(), recorded: reader.u48(), count: reader.u32() }
}

/** Everything of a hand-over but its record; `boot` is the sender's, which needs no repeating in what it accepted. */
export const writeHandOver = (
  writer: Writer,
  number: number,
  handOver: Omit<HandOver, 'number'>,
  boot: string,
): void => {
  const { kind, group, topic, key, sequence, isOwed, attempt, redelivered, isLast } = handOver
  const isOld = handOver.boot !== boot
  writer.u48(number)
  writer.u8(
    kindNumber(kind) |
      (isOwed ? OWED_FLAG : 0) |
      (isOld ? BOOT_FLAG : 0) |
      (key === undefined ? 0 : KEY_FLAG) |
      (redelivered ? REPEAT_FLAG : 0) |
      (isLast ? LAST_FLAG : 0),
  )
  if (kind === 'group') writer.text8(group)
  writer.text8(topic)
  writer.u48(sequence)
  if (isOld) writer.bytes(Buffer.from(handOver.boot, 'hex'))
  if (isOwed) writer.u16(attempt)
  if (key !== undefined) writer.text8(key)
}

export const readHandOver = (reader: Reader, sender: string): HandOver => {
  const number = reader.u48()
  const flags = reader.u8()
  const kind = kindOf(flags & ADDRESSEE_MASK)
  const group = kind === 'group' ? reader.text8() : ''
  const topic = reader.text8()
  const sequence = reader.u48()
  const boot = (flags & BOOT_FLAG) === 0 ? sender : reader.bytes(ID_BYTES).toString('hex')
  const isOwed = (flags & OWED_FLAG) !== 0
  const attempt = isOwed ? reader.u16() : 1
  const key = (flags & KEY_FLAG) === 0 ? undefined : reader.text8()
  const redelivered = (flags & REPEAT_FLAG) !== 0
  const isLast = (flags & LAST_FLAG) !== 0
  return { number, kind, group, topic, boot, sequence, key, isOwed, attempt, redelivered, isLast }
}
