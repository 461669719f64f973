import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import { BATCH_BYTES, Reader } from '../protocol/bytes.ts'
import {
  BARRIER_BYTE,
  barrierKey,
  type FeedHeader,
  readFeedHeader,
  readTopicLast,
  type TopicLast,
} from '../protocol/feed-batch.ts'
import { FilterSet } from '../protocol/filters.ts'
import { Frame } from '../protocol/frame.ts'
import { KIND } from '../protocol/header.ts'
import { type Received, readRecord } from '../protocol/record.ts'
import { MAX_TOPIC_BYTES } from '../protocol/topics.ts'
import { REPORT_BATCHES, REPORT_BYTES, REPORT_MS } from './follower.ts'
import type { DialEvents, FeedDial } from './transport.ts'

const BARRIER_RETRY_MS = 250
const REOPEN_MS = 1000
const BARRIER_RETRY_MAX_MS = 5000

/** Why messages are missing: lost on the way, or their count is not known because a topic's state is gone. */
export type GapReason = 'lost' | 'evicted' | 'publisher-lost' | 'malformed'

interface TopicState {
  generation: number
  /** Sequence of the next message. */
  expected: number
  /** A beat has confirmed that nothing follows what was received. */
  settled: boolean
}

export interface FollowOptions {
  readonly ownId: string
  readonly boot: string
  readonly endpoint: string
  readonly clock: Clock
  readonly maxTopics: number
  dial(endpoint: string, on: DialEvents): FeedDial
  /** Takes one message; must not run longer than a handler's synchronous part. */
  deliver(topic: string, record: Received, generation: number, sequence: number): void
  gap(topic: string, count: number | undefined, reason: GapReason): void
  /** Tells the publisher how far this end has read, and how many messages it has missed. */
  report(number: number, missed: number): void
  confirmed(revision: number): void
  /** Whether more should be read only when this turn has ended. */
  isPressed(): boolean
  /** Whether any subscription still wants this topic. */
  wants(topic: string): boolean
  /** The feed at this endpoint belongs to another boot: it must be closed. */
  stranger(): void
  fault(error: unknown): void
}

/**
 * The subscribing end of one publisher's feed. It counts: from the answer to its barrier on, whatever does not
 * arrive in sequence is reported as a gap (G5).
 */
export class Follow {
  readonly #options: FollowOptions
  readonly #boot: Buffer
  readonly #ownId: Buffer
  readonly #topics = new Map<string, TopicState>()
  readonly #header: FeedHeader = { kind: KIND.feed, generation: 0, number: 0, first: 0, count: 0 }
  #filters = new FilterSet([])
  /** The filters at the barrier that was answered last: only under these a topic cannot have begun unseen. */
  #confirmedFilters = new FilterSet([])
  #dial: FeedDial | undefined
  #connected = false
  #revision = 0
  #confirmedRevision = -1
  #barrier: Buffer | undefined
  #attempt = 0
  #cancelRetry: (() => void) | undefined
  /** Topics of a higher generation began after the barrier, so their first sequence is 1. */
  #floor: number | undefined
  /** A connection was lost since the last answer; the topics that the next one lists are gathered until it is whole. */
  #isBack = false
  readonly #listed = new Set<string>()
  #number = 0
  #missed = 0
  #unreportedBatches = 0
  #unreportedBytes = 0
  #wanted = 0
  #reportedAt = 0
  #lastFrame: Buffer = Buffer.alloc(0)
  #lastTopic = ''
  #closed = false

  constructor(options: FollowOptions) {
    this.#options = options
    this.#boot = Buffer.from(options.boot, 'hex')
    this.#ownId = Buffer.from(options.ownId, 'hex')
  }

  get confirmedRevision(): number {
    return this.#confirmedRevision
  }

  /** Dials the feed; after `pause` again, wherever it is by then. */
  open(endpoint = this.#options.endpoint): void {
    this.#dial = this.#options.dial(endpoint, {
      up: () => {
        this.#connected = true
        this.#listed.clear()
        this.#isBack = this.#floor !== undefined
        this.#askBarrier(BARRIER_RETRY_MS)
      },
      down: () => {
        this.#connected = false
        this.#cancelRetry?.()
      },
      refused: () => this.#again(endpoint),
      frames: (frames) => {
        this.#take(frames)
        return this.#options.isPressed()
      },
      fault: this.#options.fault,
    })
    for (const filter of this.#filters.filters) this.#dial.subscribe(Buffer.from(filter, 'latin1'))
  }

  /** ZeroMQ dials again by itself; where it has no socket at all, for want of descriptors, one is asked for again. */
  #again(endpoint: string): void {
    const dial = this.#dial
    this.#options.clock.after(REOPEN_MS, () => {
      if (this.#closed || this.#connected || this.#dial !== dial || dial === undefined) return
      dial.close()
      this.open(endpoint)
    })
  }

  /** The publisher does not answer: if it returns under the same boot, what was missed meanwhile can be counted. */
  pause(): void {
    this.#connected = false
    this.#confirmedRevision = -1
    this.#barrier = undefined
    this.#cancelRetry?.()
    this.#dial?.close()
    this.#dial = undefined
  }

  /** States what this node listens to now, as a whole; `revision` is the number under which its peers learn it. */
  listen(filters: FilterSet, revision: number): void {
    const before = this.#filters
    this.#filters = filters
    this.#revision = revision
    for (const filter of filters.filters) {
      if (!before.filters.has(filter)) this.#dial?.subscribe(Buffer.from(filter, 'latin1'))
    }
    const removed = [...before.filters].filter((filter) => !filters.filters.has(filter))
    for (const filter of removed) this.#dial?.unsubscribe(Buffer.from(filter, 'latin1'))
    if (removed.length > 0) {
      for (const topic of this.#topics.keys()) if (!filters.passesTopic(topic)) this.#topics.delete(topic)
      // What is asked for again later may begin unseen meanwhile.
      this.#confirmedFilters = this.#confirmedFilters.and(filters)
    }
    if (this.#connected) this.#askBarrier(BARRIER_RETRY_MS)
    // Nothing is asked for, so there is nothing that the publisher would have to confirm.
    if (filters.filters.size === 0) this.#confirmedRevision = revision
  }

  /** The publisher wants to know when the batch of this number was read. */
  askedFor(number: number): void {
    if (this.#number >= number) this.#report()
    else this.#wanted = number
  }

  /** The publisher has left and said where its topics end. */
  finish(tails: readonly TopicLast[]): void {
    for (const { topic, generation, last } of tails) {
      const state = this.#state(topic, generation, last + 1)
      if (state !== undefined) this.#advance(topic, state, last + 1)
    }
    this.close()
  }

  /** The publisher is gone for good without a word: what may be missing cannot be counted. */
  lost(): void {
    for (const [topic, state] of this.#topics) {
      if (!state.settled) this.#gap(topic, undefined, 'publisher-lost')
    }
    this.close()
  }

  close(): void {
    this.#closed = true
    this.#cancelRetry?.()
    this.#dial?.close()
    this.#topics.clear()
  }

  #askBarrier(retryMs: number): void {
    this.#cancelRetry?.()
    if (this.#closed || !this.#connected || this.#filters.filters.size === 0) return
    this.#listed.clear()
    if (this.#barrier !== undefined) this.#dial?.unsubscribe(this.#barrier)
    this.#barrier = barrierKey(this.#ownId, this.#revision, ++this.#attempt)
    this.#dial?.subscribe(this.#barrier)
    this.#cancelRetry = this.#options.clock.after(retryMs, () =>
      this.#askBarrier(Math.min(2 * retryMs, BARRIER_RETRY_MAX_MS)),
    )
  }

  #take(frames: Buffer[]): void {
    if (this.#closed) return
    const [frame, batch, alone] = frames
    if (
      frame === undefined ||
      batch === undefined ||
      frames.length > 3 ||
      frame.length > MAX_TOPIC_BYTES + 1
    ) {
      throw new SkeinError(
        'MALFORMED',
        `a message of ${frames.length} frames came on the feed, the first of ${frame?.length} bytes`,
      )
    }
    const reader = new Reader(batch)
    const header = this.#header
    if (!readFeedHeader(reader, this.#boot, header)) {
      this.#options.stranger()
      return
    }
    this.#number = header.number
    this.#unreportedBatches++
    this.#unreportedBytes += batch.length + (alone?.length ?? 0)
    if (header.kind === KIND.barrier) this.#answered(frame, reader, header)
    else if (frame[0] !== BARRIER_BYTE) this.#records(this.#topicOf(frame), reader, header, alone)
    if (this.#isReportDue()) this.#report()
  }

  #isReportDue(): boolean {
    if (this.#unreportedBatches >= REPORT_BATCHES || this.#unreportedBytes >= REPORT_BYTES) return true
    if (this.#wanted > 0 && this.#number >= this.#wanted) return true
    return this.#unreportedBytes >= BATCH_BYTES && this.#options.clock.now() - this.#reportedAt >= REPORT_MS
  }

  #report(): void {
    this.#reportedAt = this.#options.clock.now()
    this.#wanted = 0
    this.#unreportedBatches = 0
    this.#unreportedBytes = 0
    this.#options.report(this.#number, this.#missed)
  }

  #topicOf(frame: Buffer): string {
    if (!frame.equals(this.#lastFrame)) {
      this.#lastFrame = frame
      this.#lastTopic = frame.toString('utf8', 0, frame.length - 1)
    }
    return this.#lastTopic
  }

  #records(topic: string, reader: Reader, header: FeedHeader, alone: Buffer | undefined): void {
    const { generation, first, count } = header
    const state = this.#state(topic, generation, first)
    if (state === undefined) return
    this.#advance(topic, state, first)
    state.settled = count === 0
    const seen = state.expected - first
    if (seen >= count && count > 0) return
    state.expected = first + count
    const body = alone === undefined ? undefined : new Frame(alone, true)
    for (let i = 0; i < count; i++) {
      let record: Received
      try {
        record = readRecord(reader, reader.frame, body)
      } catch (error) {
        this.#miss(topic, count - i, 'malformed')
        throw error
      }
      if (i >= seen) this.#options.deliver(topic, record, generation, first + i)
    }
  }

  /** The state of a topic in this generation; what came before it and was not received is reported. */
  #state(topic: string, generation: number, first: number): TopicState | undefined {
    const known = this.#topics.get(topic)
    if (known !== undefined && known.generation === generation) return known
    if (known !== undefined && known.generation > generation) return undefined
    const counted = this.#isCounted(topic)
    const begins = counted && generation > this.#floor! ? 1 : first
    // Counted since the barrier, yet unknown: its state was forgotten here to stay within maxTopics.
    const forgotten = known === undefined && counted && generation <= this.#floor!
    if (forgotten || (known !== undefined && !known.settled)) this.#gap(topic, undefined, 'evicted')
    const state = { generation, expected: begins, settled: false }
    this.#remember(topic, state)
    return state
  }

  #remember(topic: string, state: TopicState): void {
    this.#topics.delete(topic)
    if (this.#topics.size >= this.#options.maxTopics) this.#forgetOldest()
    this.#topics.set(topic, state)
  }

  /** Forgets one topic to stay within maxTopics: none as old as it can be told from one that has just begun any more. */
  #forgetOldest(): void {
    const [oldest] = this.#topics
    if (oldest === undefined) return
    this.#topics.delete(oldest[0])
    if (this.#floor !== undefined) this.#floor = Math.max(this.#floor, oldest[1].generation)
  }

  /** Whether a topic like this cannot have begun unseen since the barrier that was answered last. */
  #isCounted(topic: string): boolean {
    return this.#floor !== undefined && this.#confirmedFilters.passesTopic(topic)
  }

  #advance(topic: string, state: TopicState, next: number): void {
    if (next <= state.expected) return
    this.#miss(topic, next - state.expected, 'lost')
    state.expected = next
  }

  #miss(topic: string, count: number, reason: GapReason): void {
    this.#missed += count
    this.#gap(topic, count, reason)
  }

  #gap(topic: string, count: number | undefined, reason: GapReason): void {
    if (this.#options.wants(topic)) this.#options.gap(topic, count, reason)
  }

  #answered(key: Buffer, reader: Reader, header: FeedHeader): void {
    if (this.#barrier === undefined || !key.equals(this.#barrier)) return
    for (let left = header.count; left > 0; left--) {
      const { topic, generation, last } = readTopicLast(reader)
      const known = this.#topics.get(topic)
      if (this.#isBack) this.#listed.add(topic)
      if (known?.generation === generation) {
        this.#advance(topic, known, last + 1)
        known.settled = true
        continue
      }
      if (known !== undefined && !known.settled) this.#gap(topic, undefined, 'evicted')
      // It began behind the barrier before this one, and nothing of it has come: all of it was lost with a connection.
      if (last > 0 && this.#isCounted(topic) && generation > this.#floor!) this.#miss(topic, last, 'lost')
      if (this.#filters.passesTopic(topic))
        this.#remember(topic, { generation, expected: last + 1, settled: true })
    }
    if (header.first !== 1) return
    this.#cancelRetry?.()
    if (this.#isBack) this.#missUnlisted()
    this.#floor = header.generation
    this.#confirmedFilters = this.#filters
    this.#confirmedRevision = this.#revision
    this.#options.confirmed(this.#revision)
  }

  /** After a reset: what the publisher has forgotten meanwhile may have ended with messages that never came. */
  #missUnlisted(): void {
    this.#isBack = false
    for (const topic of [...this.#topics.keys()]) {
      if (this.#listed.has(topic)) continue
      this.#topics.delete(topic)
      this.#gap(topic, undefined, 'evicted')
    }
    this.#listed.clear()
  }
}
