import { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import { BATCH_BYTES, Writer } from '../protocol/bytes.ts'
import { beginFeedBatch, FEED_HEADER_BYTES, sealFeedBatch, writeTopicLast } from '../protocol/feed-batch.ts'
import { KIND } from '../protocol/header.ts'
import { type Payload, writeRecord, writeRecordHead } from '../protocol/record.ts'
import { topicFrame } from '../protocol/topics.ts'
import { Audience } from './audience.ts'
import { type Beating, Beats } from './beat.ts'
import { Cork } from './cork.ts'
import type { Follower } from './follower.ts'
import type { Sent } from './transport.ts'

/** A payload of this size travels in a frame of its own, uncopied. */
const ALONE_BYTES = 32 * 1024
/** After this long a publisher gives the event loop a turn, or its timers would starve; the clock is read now and then. */
const TURN_MS = 5
const CLOCK_EVERY = 64
/** … or after this much; more when many topics share it, or each batch would hold one message. */
const TURN_BYTES = 8 * BATCH_BYTES
const TURN_BYTES_MAX = 8 * TURN_BYTES
const TURN_BYTES_PER_TOPIC = 1024
const BATCHES_PER_TURN = 256
/** How often a feed that waits for a full subscriber looks again. */
const LOOK_AGAIN_MS = 2
/** Topics listed in one part of the answer to a barrier. */
const ANSWER_BYTES = BATCH_BYTES

const MAX_TAILS = 16_384

const READY: Promise<void> = Promise.resolve()

interface Topic extends Beating {
  readonly name: string
  readonly frame: Buffer
  readonly key: string
  readonly generation: number
  readonly writer: Writer
  sequence: number
  /** Records in the open batch. */
  count: number
  /** Which state of the audience `heard` and `followers` were computed for. */
  version: number
  heard: boolean
  followers: Follower[]
  touched: boolean
}

interface Sealed {
  readonly frames: Buffer[]
  readonly topic: Topic | undefined
  readonly number: number
  readonly count: number
  readonly bytes: number
}

export interface FeedOptions {
  readonly id: string
  readonly boot: string
  readonly clock: Clock
  readonly patienceMs: number
  readonly queueBytes: number
  readonly maxTopics: number
  publish(frames: Buffer[], patient: boolean): Promise<Sent>
  /** A subscriber's barrier was answered: from here on it counts. */
  confirmed(id: string): void
  /** Asks a subscriber to report once it has read the batch of this number. */
  askReport(id: string, number: number): void
}

/**
 * The publishing end of the feed: topics with their sequences, batches, and the patience with subscribers.
 * It promises order per topic, and that what a confirmed subscriber misses can be counted (G4, G5).
 */
export class Feed {
  readonly #options: FeedOptions
  readonly #boot: Buffer
  readonly #topics = new Map<string, Topic>()
  readonly #audience = new Audience()
  /** Subscribers that reported, came or went. */
  readonly #changes: Changes
  readonly #cork: Cork
  readonly #beats: Beats<Topic>
  #generation = 0
  #number = 0
  #open: Topic[] = []
  #openBytes = 0
  #sealed: Sealed[] = []
  #sealedBytes = 0
  #sending = false
  #turnBytes = 0
  #turnWatched = false
  #turnStartedAt = 0
  #room: Promise<void> = READY
  #reopen: (() => void) | undefined
  #closed = false
  #published = 0
  #refused = 0
  #lossy = 0
  #batches = 0

  constructor(options: FeedOptions) {
    this.#options = options
    this.#boot = Buffer.from(options.boot, 'hex')
    this.#changes = new Changes(options.clock)
    this.#cork = new Cork(() => this.#flush(), options.clock.turn)
    this.#beats = new Beats(options.clock, (topic) => this.#beat(topic))
  }

  /**
   * Accepts one message for whoever listens. The answer is the room in the lane: it resolves when the caller may
   * go on. Throws OUTBOX_FULL for a caller that never waits.
   */
  publish(name: string, payload: Payload): Promise<void> {
    const topic = this.#topics.get(name) ?? this.#begin(name)
    if (topic.version !== this.#audience.version) this.#refresh(topic)
    topic.touched = true
    this.#published++
    if (!topic.heard || this.#closed) {
      // Numbered all the same: those who listened, and will again after a reset, count what they missed meanwhile (G5).
      if (topic.count > 0) this.#seal(topic)
      topic.sequence++
      return this.#paced()
    }
    if (this.#sealedBytes + this.#openBytes + payload.sizeBytes > this.#options.queueBytes) {
      this.#refused++
      throw new SkeinError(
        'OUTBOX_FULL',
        `publish to '${name}': ${this.#options.queueBytes} bytes already wait to leave; await each publish, or raise limits.feedBytes`,
      )
    }
    if (payload.sizeBytes >= ALONE_BYTES) this.#alone(topic, payload)
    else this.#append(topic, payload)
    return this.#paced()
  }

  /** The room of the lane, which closes when this turn was long: with nobody listening, too, or nobody ever could. */
  #paced(): Promise<void> {
    if (!this.#turnWatched) this.#watchTurn()
    if (this.#sealedBytes + this.#openBytes > this.#options.queueBytes / 4) this.#closeRoom()
    else if (this.#turnBytes >= TURN_BYTES || this.#published % CLOCK_EVERY === 0) this.#limitTurn()
    return this.#room
  }

  /** Whether this topic was published before: then it is known to be valid. */
  knows(name: string): boolean {
    return this.#topics.has(name)
  }

  /** XPUB says that a prefix has a first listener, or lost its last. */
  listeners(prefix: Buffer, present: boolean): void {
    const id = this.#audience.listens(prefix, present)
    if (id !== undefined) this.#answer(id)
  }

  /** A peer stated what it subscribes to, as a whole. */
  follow(id: string, revision: number, patterns: readonly string[]): void {
    this.#audience.follow(id, revision, patterns)
    this.#answer(id)
    this.#changes.notify()
  }

  /** A peer left: nobody waits for it any more. */
  unfollow(id: string): void {
    this.#audience.unfollow(id)
    this.#changes.notify()
  }

  /** A subscriber has read every batch up to this number, and has missed so many messages in all. */
  reported(id: string, number: number, missed: number): void {
    const follower = this.#audience.get(id)
    if (follower === undefined) return
    follower.missed = missed
    follower.reported(number, this.#options.clock.now())
    this.#changes.notify()
  }

  /** Ids of the peers that have confirmed a subscription to this topic. */
  subscribersOf(name: string): string[] {
    return this.#audience.subscribersOf(name).map((follower) => follower.id)
  }

  /** How many of them have a socket that listens now. */
  listenersOf(name: string): number {
    return this.#audience.subscribersOf(name).filter((follower) => follower.isListening).length
  }

  isConfirmed(id: string): boolean {
    return this.#audience.get(id)?.isConfirmed === true
  }

  /** Resolves when every subscriber that keeps up has read everything, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const { clock } = this.#options
    const until = clock.now() + timeoutMs
    this.#flush()
    let asked = new Map<string, number>()
    while (clock.now() < until) {
      const behind = [...this.#audience.all()].filter(
        (follower) => follower.behind > 0 && follower.isConfirmed,
      )
      if (this.#sealed.length === 0 && !this.#sending && behind.length === 0) return
      for (const follower of behind) {
        if (asked.get(follower.id) === follower.last) continue
        asked = asked.set(follower.id, follower.last)
        this.#options.askReport(follower.id, follower.last)
      }
      await this.#changes.next(LOOK_AGAIN_MS)
    }
  }

  /** Last sequences of the topics that were active lately, for a peer to check against when this node leaves. */
  tails(id: string): { topic: string; generation: number; last: number }[] {
    const follower = this.#audience.get(id)
    if (follower === undefined) return []
    const active = [...this.#topics.values()].filter(
      (topic) => topic.stage !== -1 && follower.hears(topic.key),
    )
    // The most recent: a goodbye is one control frame.
    return active
      .slice(-MAX_TAILS)
      .map(({ name, generation, sequence }) => ({ topic: name, generation, last: sequence }))
  }

  stats(): {
    published: number
    refused: number
    lossy: number
    missed: number
    batches: number
    topics: number
    queuedBytes: number
  } {
    let missed = 0
    for (const follower of this.#audience.all()) missed += follower.missed
    return {
      published: this.#published,
      refused: this.#refused,
      lossy: this.#lossy,
      missed,
      batches: this.#batches,
      topics: this.#topics.size,
      queuedBytes: this.#sealedBytes + this.#openBytes,
    }
  }

  close(): void {
    this.#closed = true
    this.#beats.close()
    this.#sealed = []
    this.#changes.notify()
    this.#reopen?.()
  }

  #begin(name: string): Topic {
    if (this.#topics.size >= this.#options.maxTopics) this.#evict()
    const frame = topicFrame(name)
    const topic: Topic = {
      name,
      frame,
      key: frame.toString('latin1'),
      generation: ++this.#generation,
      writer: new Writer(),
      sequence: 0,
      count: 0,
      version: -1,
      heard: false,
      followers: [],
      touched: true,
      lastAt: 0,
      stage: -1,
    }
    this.#topics.set(name, topic)
    return topic
  }

  /**
   * Forgets a topic that was not used since it was last looked at; if all were, the one that is looked at again first.
   * It returns under a new generation; its open batch leaves.
   */
  #evict(): void {
    for (const [name, topic] of this.#topics) {
      this.#topics.delete(name)
      if (topic.touched) {
        topic.touched = false
        this.#topics.set(name, topic)
        continue
      }
      // Before anything of its next generation does.
      if (topic.count > 0) this.#seal(topic)
      // A last beat, if its last message was not confirmed by enough of them.
      if (topic.stage !== -1) this.#beat(topic)
      this.#beats.forget(topic)
      return
    }
  }

  #refresh(topic: Topic): void {
    topic.version = this.#audience.version
    topic.heard = this.#audience.hears(topic.key)
    topic.followers = this.#audience.followersOf(topic.key)
  }

  #append(topic: Topic, payload: Payload): void {
    const writer = topic.writer
    if (topic.count === 0) {
      beginFeedBatch(writer, this.#boot)
      this.#open.push(topic)
    }
    const before = writer.length
    writeRecord(writer, payload)
    const bytes = writer.length - before
    topic.count++
    topic.sequence++
    this.#openBytes += bytes
    this.#turnBytes += bytes
    if (writer.length >= BATCH_BYTES) {
      this.#seal(topic)
      void this.#pump()
    }
    this.#cork.touch()
  }

  #alone(topic: Topic, payload: Payload): void {
    if (topic.count > 0) this.#seal(topic)
    const body = typeof payload.body === 'string' ? Buffer.from(payload.body) : asBuffer(payload.body)
    const writer = topic.writer
    beginFeedBatch(writer, this.#boot)
    writeRecordHead(writer, payload)
    topic.sequence++
    this.#turnBytes += body.length
    this.#push(topic, writer.take(), 1, body)
    this.#cork.touch()
  }

  #seal(topic: Topic): void {
    const count = topic.count
    topic.count = 0
    const batch = topic.writer.take()
    this.#openBytes -= batch.length - FEED_HEADER_BYTES
    this.#push(topic, batch, count)
  }

  #push(topic: Topic, batch: Buffer, count: number, body?: Buffer): void {
    const number = ++this.#number
    sealFeedBatch(batch, topic.generation, number, topic.sequence - count + 1, count)
    const frames = body === undefined ? [topic.frame, batch] : [topic.frame, batch, body]
    const bytes = batch.length + (body?.length ?? 0)
    this.#sealedBytes += bytes
    this.#sealed.push({ frames, topic, number, count, bytes })
  }

  #flush(): void {
    const open = this.#open
    if (open.length > 0) {
      this.#open = []
      for (const topic of open) if (topic.count > 0) this.#seal(topic)
    }
    void this.#pump()
  }

  #watchTurn(): void {
    const { clock } = this.#options
    this.#turnWatched = true
    this.#turnStartedAt = clock.now()
    clock.turn(() => {
      this.#turnWatched = false
      this.#turnBytes = 0
      this.#giveRoom()
    })
  }

  /** Closes the room, if this turn was long enough, until it has ended and the lane has sent what it holds. */
  #limitTurn(): void {
    const enough = Math.max(TURN_BYTES, Math.min(TURN_BYTES_MAX, this.#open.length * TURN_BYTES_PER_TOPIC))
    if (this.#turnBytes < enough && this.#options.clock.now() - this.#turnStartedAt < TURN_MS) return
    this.#closeRoom()
  }

  #closeRoom(): void {
    if (this.#reopen !== undefined) return
    this.#room = new Promise((resolve) => {
      this.#reopen = resolve
    })
  }

  #giveRoom(): void {
    if (this.#reopen === undefined || this.#turnWatched || this.#sealedBytes > TURN_BYTES / 2) return
    const reopen = this.#reopen
    this.#reopen = undefined
    this.#room = READY
    reopen()
  }

  async #pump(): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    let batches = 0
    while (this.#sealed.length > 0 && !this.#closed) {
      // The queue is swapped out, so that neither shifting nor growing it costs more than the send.
      const queue = this.#sealed
      this.#sealed = []
      for (const sealed of queue) {
        const { topic } = sealed
        if (topic !== undefined && topic.version !== this.#audience.version) this.#refresh(topic)
        if (topic !== undefined && topic.followers.length > 0) await this.#untilRoom(topic)
        await this.#send(sealed)
        this.#sealedBytes -= sealed.bytes
        if (this.#closed) return
        if (++batches % BATCHES_PER_TURN === 0)
          await new Promise<void>((resolve) => this.#options.clock.turn(resolve))
      }
      this.#giveRoom()
    }
    this.#sending = false
    this.#changes.notify()
  }

  async #send(sealed: Sealed): Promise<void> {
    const followers = sealed.topic?.followers ?? []
    const dropping = followers.some((follower) => follower.dropping)
    const { clock, patienceMs } = this.#options
    const startedAt = clock.now()
    this.#batches++
    // Followers have room by their reports. What may still be full is a plain SUB socket: it is waited for, too, and
    // once it has missed a message ZeroMQ passes it over until it has caught up.
    while ((await this.#options.publish(sealed.frames, !dropping)) === 'full') {
      if (clock.now() - startedAt >= patienceMs) {
        await this.#options.publish(sealed.frames, false)
        this.#lossy += sealed.count
        break
      }
      await this.#changes.next(1)
      if (this.#closed) return
    }
    if (dropping) this.#lossy += sealed.count
    for (const follower of followers) follower.sent(sealed.number)
    if (sealed.topic !== undefined && sealed.count > 0) this.#beats.left(sealed.topic, startedAt)
  }

  /** Waits while a subscriber of the topic is full and patience with it lasts (G3). */
  async #untilRoom(topic: Topic): Promise<void> {
    const { clock, patienceMs } = this.#options
    let lookedAt = clock.now()
    for (;;) {
      const full = topic.followers.filter((follower) => follower.isFull && !follower.dropping)
      if (full.length === 0) return
      const now = clock.now()
      const hungry = topic.followers.some((follower) => !follower.dropping && follower.behind <= REST_BATCHES)
      for (const follower of full) follower.judge(now, now - lookedAt, hungry, patienceMs)
      lookedAt = now
      if (full.every((follower) => follower.dropping)) return
      await this.#changes.next(LOOK_AGAIN_MS)
      if (this.#closed) return
      if (topic.version !== this.#audience.version) this.#refresh(topic)
    }
  }

  #beat(topic: Topic): void {
    if (topic.version !== this.#audience.version) this.#refresh(topic)
    if (!topic.heard || topic.count > 0 || this.#closed) return
    beginFeedBatch(topic.writer, this.#boot)
    this.#push(topic, topic.writer.take(), 0)
    void this.#pump()
  }

  /** Answers the barrier of a subscriber whose interest of that number is known, behind all that was accepted before. */
  #answer(id: string): void {
    const confirmed = this.#audience.confirm(id)
    if (confirmed === undefined) return
    const { follower, key } = confirmed
    this.#flush()
    const writer = new Writer(BATCH_BYTES)
    let count = 0
    const seal = (last: boolean): void => {
      const batch = writer.take()
      sealFeedBatch(batch, this.#generation, ++this.#number, last ? 1 : 0, count)
      this.#sealedBytes += batch.length
      this.#sealed.push({
        frames: [key, batch],
        topic: undefined,
        number: this.#number,
        count: 0,
        bytes: batch.length,
      })
      count = 0
    }
    beginFeedBatch(writer, this.#boot, KIND.barrier)
    for (const topic of this.#topics.values()) {
      if (!follower.hears(topic.key)) continue
      writeTopicLast(writer, topic.frame, topic.generation, topic.sequence)
      count++
      if (writer.length < ANSWER_BYTES) continue
      seal(false)
      beginFeedBatch(writer, this.#boot, KIND.barrier)
    }
    seal(true)
    void this.#pump()
    this.#options.confirmed(id)
  }
}

/** At most this many unread batches: a subscriber that others keep waiting. */
const REST_BATCHES = 4

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
