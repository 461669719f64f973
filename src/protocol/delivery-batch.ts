import { putU32, type Reader, type Writer } from './bytes.ts'
import type { Frame } from './frame.ts'
import { ID_BYTES, KIND, readPrefix, writePrefix } from './header.ts'
import { type Received, readRecord } from './record.ts'

/**
 * A delivery batch: prefix(4) · token(16) · boot(16) · number u48 · count u32 · deliveries.
 * The token is what the receiver gave the sender, `number` counts the batches of this lane from 1.
 * One delivery: sequence u48 · topic · record.
 */
const COUNT_AT = 4 + 2 * ID_BYTES + 6

export interface DeliveryHeader {
  readonly token: string
  readonly boot: string
  readonly number: number
  readonly count: number
}

export interface Delivery {
  readonly sequence: number
  readonly topic: string
  readonly record: Received
}

export const beginDeliveryBatch = (writer: Writer, token: string, boot: string, number: number): void => {
  writePrefix(writer, KIND.delivery)
  writer.bytes(Buffer.from(token, 'hex'))
  writer.bytes(Buffer.from(boot, 'hex'))
  writer.u48(number)
  writer.u32(0)
}

export const sealDeliveryBatch = (batch: Buffer, count: number): void => void putU32(batch, COUNT_AT, count)

export const readDeliveryHeader = (reader: Reader): DeliveryHeader => {
  readPrefix(reader, KIND.delivery)
  const token = reader.bytes(ID_BYTES).toString('hex')
  const boot = reader.bytes(ID_BYTES).toString('hex')
  return { token, boot, number: reader.u48(), count: reader.u32() }
}

export const readDelivery = (reader: Reader, frame: Frame, alone?: Frame): Delivery => {
  const sequence = reader.u48()
  const topic = reader.text8()
  return { sequence, topic, record: readRecord(reader, frame, alone) }
}
