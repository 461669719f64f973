import { getU32, putU16, putU32, putU48, type Reader, type Writer } from './bytes.ts'
import { ID_BYTES, KIND, type Kind, readPrefix, writePrefix } from './header.ts'

/**
 * A feed batch follows its topic frame:
 * prefix(4) · boot(16) · generation u32 · number u48 · first u48 · count u32 · records.
 *
 * `number` counts every batch of the feed, `first` is the sequence of the first record in its topic. A batch
 * without records is a beat: it only says which sequence comes next. In the answer to a barrier `count` is the
 * number of topics listed, `first` is 1 in the last part, and `generation` the highest one given out so far.
 */
export const FEED_HEADER_BYTES = 4 + ID_BYTES + 4 + 6 + 6 + 4

export interface FeedHeader {
  kind: Kind
  generation: number
  number: number
  first: number
  count: number
}

const GENERATION_AT = 4 + ID_BYTES

/** Leaves room for the header; it is filled in when the batch is sealed and its numbers are known. */
export const beginFeedBatch = (writer: Writer, boot: Buffer, kind: Kind = KIND.feed): void => {
  writer.reserve(FEED_HEADER_BYTES)
  writePrefix(writer, kind)
  writer.bytes(boot)
  writer.at += FEED_HEADER_BYTES - GENERATION_AT
}

export const sealFeedBatch = (
  batch: Buffer,
  generation: number,
  number: number,
  first: number,
  count: number,
): void => {
  let at = putU32(batch, GENERATION_AT, generation)
  at = putU48(batch, at, number)
  at = putU48(batch, at, first)
  putU32(batch, at, count)
}

/** Reads the header into `header`, so that a batch costs no object; answers false for a batch of another boot. */
export const readFeedHeader = (reader: Reader, boot: Buffer, header: FeedHeader): boolean => {
  header.kind = readPrefix(reader, KIND.feed, KIND.barrier)
  const same = boot.equals(reader.bytes(ID_BYTES))
  header.generation = reader.u32()
  header.number = reader.u48()
  header.first = reader.u48()
  header.count = reader.u32()
  return same
}

/** Topics never begin with a control character, so that this byte tells barriers from topics. */
export const BARRIER_BYTE = 0x01
const BARRIER_BYTES = 1 + ID_BYTES + 4 + 4

export interface Barrier {
  readonly id: string
  /** The number of the interest that must be known before this barrier is answered. */
  readonly revision: number
}

/**
 * What a subscriber subscribes to behind its patterns: its id, the number of its interest, and an attempt, so that
 * no two are alike: only a fresh subscription is sure to arrive behind those that ZeroMQ replays.
 */
export const barrierKey = (id: Buffer, revision: number, attempt: number): Buffer => {
  const key = Buffer.allocUnsafe(BARRIER_BYTES)
  key[0] = BARRIER_BYTE
  key.set(id, 1)
  putU32(key, putU32(key, 1 + ID_BYTES, revision), attempt)
  return key
}

export const readBarrierKey = (key: Buffer): Barrier | undefined =>
  key.length === BARRIER_BYTES && key[0] === BARRIER_BYTE
    ? { id: key.toString('hex', 1, 1 + ID_BYTES), revision: getU32(key, 1 + ID_BYTES) }
    : undefined

/** One topic in the answer to a barrier: its frame, generation and last sequence. */
export const writeTopicLast = (
  writer: Writer,
  topicFrame: Buffer,
  generation: number,
  last: number,
): void => {
  const bytes = topicFrame.length - 1
  writer.reserve(2 + bytes + 10)
  writer.at = putU16(writer.buffer, writer.at, bytes)
  writer.buffer.set(topicFrame.subarray(0, bytes), writer.at)
  writer.at += bytes
  writer.u32(generation)
  writer.u48(last)
}

export interface TopicLast {
  readonly topic: string
  readonly generation: number
  readonly last: number
}

export const readTopicLast = (reader: Reader): TopicLast => {
  const topic = reader.text(reader.u16())
  return { topic, generation: reader.u32(), last: reader.u48() }
}
