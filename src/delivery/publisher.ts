import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import { encodePayload, receivedLocally } from '../protocol/payload.ts'
import type { Headers, Payload } from '../protocol/record.ts'
import { matches, validateQueue, validateTopic } from '../protocol/topics.ts'
import type { Feed } from '../transport/feed.ts'
import type { SendOptions } from './admission.ts'
import type { Lanes } from './lanes.ts'
import { Message, type Origin } from './message.ts'
import type { Outbox } from './outbox.ts'
import type { Receipt } from './receipt.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface PublishOptions {
  /** Short texts that travel beside the value. */
  headers?: Headers
  /** The caller will not change the bytes any more, so large ones need not be copied. Default false. */
  lend?: boolean
  /**
   * `at-most-once`: as fast as can be, what is missed is counted. `at-least-once`: journaled, and owed to everybody who
   * wants it until it is handled. Default `at-most-once`.
   */
  delivery?: 'at-most-once' | 'at-least-once'
}

/** Of a publish at least once. */
export interface PublishOwedOptions extends SendOptions {
  delivery: 'at-least-once'
  lend?: boolean
  /** That nobody wants it is no error. Default false. */
  allowNobody?: boolean
  /** Groups that are owed it even if no member of them was ever seen. */
  owedTo?: readonly string[]
}

export interface PushOptions extends SendOptions {
  lend?: boolean
}

export interface PublisherOptions {
  readonly self: Origin
  readonly maxValueBytes: number
  readonly feedValueBytes: number
  readonly roomTimeoutMs: number
  readonly feed: Feed
  /** A node that does not listen has no feed that anybody could dial. */
  readonly hasFeed: boolean
  readonly lanes: Lanes
  readonly outbox: Outbox
  readonly subscriptions: Subscriptions
  members(): Peer[]
  peer(id: string): Peer | undefined
}

/** Chooses the road of each message, once: no copy changes roads. */
export class Publisher {
  readonly #options: PublisherOptions
  /** Of what was sent to somebody in particular. */
  #sequence = 0

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  publish(topic: string, value: unknown, options: PublishOptions | undefined): Promise<void> {
    const { feed, hasFeed, maxValueBytes, feedValueBytes, subscriptions, outbox } = this.#options
    if (!feed.knows(topic)) validateTopic(topic)
    const lend = options?.lend === true
    const payload = encodePayload(value, options?.headers, lend, maxValueBytes, () => `publish to '${topic}'`)
    const sequence = ++this.#sequence
    if (subscriptions.size > 0 && subscriptions.match(topic).length > 0) this.#echo(topic, payload, sequence)
    if (outbox.hasGroups) this.#toGroups(topic, payload, sequence)
    if (!hasFeed) return this.#handOver(topic, payload, sequence)
    if (payload.sizeBytes <= feedValueBytes) return feed.publish(topic, payload)
    this.#sendLarge(topic, payload, sequence)
    return DONE
  }

  /** Publishes to all that want it now or are remembered; resolves when it is owed to them. */
  publishOwed(topic: string, value: unknown, options: PublishOwedOptions): Promise<Receipt> {
    const { outbox, subscriptions } = this.#options
    const payload = this.#encode('publish', topic, value, options)
    const echo = subscriptions.match(topic).some((subscription) => subscription.echo)
    return outbox.publish(topic, payload, options, echo)
  }

  /** Puts something into a queue; resolves when it is owed. */
  push(queue: string, value: unknown, options: PushOptions): Promise<Receipt> {
    return this.#options.outbox.push(queue, this.#encode('push', queue, value, options), options)
  }

  #encode(what: string, topic: string, value: unknown, options: PushOptions): Payload {
    const validate = what === 'push' ? validateQueue : validateTopic
    if (!this.#options.outbox.knows(topic)) validate(topic)
    return encodePayload(
      value,
      options.headers,
      options.lend === true,
      this.#options.maxValueBytes,
      () => what,
    )
  }

  /** Of each group that wants it one member gets a copy: on the delivery road, unjournaled and unacked. */
  #toGroups(topic: string, payload: Payload, sequence: number): void {
    const { outbox, lanes, subscriptions, self } = this.#options
    for (const { group, peer } of outbox.membersFor(topic)) {
      if (peer !== undefined) lanes.send(peer, topic, payload, sequence, group)
      else {
        const record = receivedLocally(payload)
        const message = new Message(topic, self, 'sent', sequence, record)
        queueMicrotask(() => subscriptions.hand({ kind: 'group', name: group }, message, record))
      }
    }
  }

  /** How many other nodes are sure to get messages of this topic, or take part in a group that is. */
  subscribersOf(topic: string): number {
    const { feed, hasFeed, members } = this.#options
    const plain = this.#interested(topic)
    const others = members().filter((peer) => !plain.includes(peer) && isInGroupFor(peer, topic))
    return (hasFeed ? feed.listenersOf(topic) : plain.length) + others.length
  }

  /** Own subscriptions get a copy, in a turn of their own as a remote message would. */
  #echo(topic: string, payload: Payload, sequence: number): void {
    const { subscriptions, self } = this.#options
    const record = receivedLocally(payload)
    queueMicrotask(() => subscriptions.echo(topic, self, sequence, record))
  }

  #sendLarge(topic: string, payload: Payload, sequence: number): void {
    const { feed, lanes, peer } = this.#options
    for (const id of feed.subscribersOf(topic)) {
      const subscriber = peer(id)
      if (subscriber !== undefined) lanes.send(subscriber, topic, payload, sequence)
    }
  }

  #interested(topic: string): Peer[] {
    const { members } = this.#options
    return members().filter((peer) => peer.interest.patterns.some((pattern) => matches(pattern, topic)))
  }

  async #handOver(topic: string, payload: Payload, sequence: number): Promise<void> {
    const { lanes, roomTimeoutMs } = this.#options
    const handed = await Promise.allSettled(
      this.#interested(topic).map((peer) => lanes.handOver(peer, topic, payload, sequence, roomTimeoutMs)),
    )
    const failed = handed.filter((result) => result.status === 'rejected')
    if (failed.length === 0) return
    const first = failed[0]!.reason as SkeinError
    if (failed.length === handed.length && handed.length === 1) throw first
    throw new SkeinError(
      first.code,
      `${failed.length} of ${handed.length} subscribers did not handle it; the first: ${first.message}`,
      { cause: first, partial: failed.length < handed.length },
    )
  }
}

const isInGroupFor = ({ interest }: Peer, topic: string): boolean =>
  interest.services.some(
    ({ kind, patterns }) => kind === 'group' && patterns.some((pattern) => matches(pattern, topic)),
  )

const DONE: Promise<void> = Promise.resolve()
