import { Reader } from '../../src/protocol/bytes.ts'
import {
  type FeedHeader,
  readFeedHeader,
  readTopicLast,
  type TopicLast,
} from '../../src/protocol/feed-batch.ts'
import { Frame } from '../../src/protocol/frame.ts'
import { KIND } from '../../src/protocol/header.ts'
import { decodeReceived, encodePayload } from '../../src/protocol/payload.ts'
import type { Payload } from '../../src/protocol/record.ts'
import { readRecord } from '../../src/protocol/record.ts'

export const BOOT = 'b'.repeat(32)

export const payloadOf = (value: unknown): Payload =>
  encodePayload(value, undefined, false, 1 << 24, () => 'test')

export interface Batch extends FeedHeader {
  readonly topic: string
  readonly values: unknown[]
  readonly frames: number
  /** In the answer to a barrier. */
  readonly tails: TopicLast[]
}

/** A feed batch as its subscriber would read it. */
export const readBatch = (frames: Buffer[]): Batch => {
  const [topic, bytes, alone] = frames
  const header: FeedHeader = { kind: KIND.feed, generation: 0, number: 0, first: 0, count: 0 }
  const reader = new Reader(bytes!)
  readFeedHeader(reader, Buffer.from(BOOT, 'hex'), header)
  const values: unknown[] = []
  const tails: TopicLast[] = []
  for (let i = 0; i < header.count; i++) {
    if (header.kind === KIND.barrier) tails.push(readTopicLast(reader))
    else values.push(decodeReceived(readRecord(reader, new Frame(bytes!), alone && new Frame(alone, true))))
  }
  const name = header.kind === KIND.barrier ? '' : topic!.toString('utf8', 0, topic!.length - 1)
  return { ...header, topic: name, values, frames: frames.length, tails }
}
