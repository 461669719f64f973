import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import { encodePayload, receivedLocally } from '../protocol/payload.ts'
import type { Headers, Payload } from '../protocol/record.ts'
import { matches, validateTopic } from '../protocol/topics.ts'
import type { Feed } from '../transport/feed.ts'
import type { Origin } from './message.ts'
import type { Outbox } from './outbox.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface PublishOptions {
  /** Short texts that travel beside the value. */
  headers?: Headers
  /** The caller will not change the bytes any more, so large ones need not be copied. Default false. */
  lend?: boolean
  /** Only 'at-most-once' in this version. */
  delivery?: 'at-most-once'
}

export interface PublisherOptions {
  readonly self: Origin
  readonly maxValueBytes: number
  readonly feedValueBytes: number
  readonly roomTimeoutMs: number
  readonly feed: Feed
  /** A node that does not listen has no feed that anybody could dial. */
  readonly hasFeed: boolean
  readonly outbox: Outbox
  readonly subscriptions: Subscriptions
  members(): Peer[]
  peer(id: string): Peer | undefined
}

/** Chooses the road of each message, once: no copy changes roads. */
export class Publisher {
  readonly #options: PublisherOptions
  #echoed = 0

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  publish(topic: string, value: unknown, options: PublishOptions | undefined): Promise<void> {
    const { feed, hasFeed, maxValueBytes, feedValueBytes, subscriptions } = this.#options
    if (!feed.knows(topic)) validateTopic(topic)
    const lend = options?.lend === true
    const payload = encodePayload(value, options?.headers, lend, maxValueBytes, () => `publish to '${topic}'`)
    if (subscriptions.size > 0 && subscriptions.match(topic).length > 0) this.#echo(topic, payload)
    if (!hasFeed) return this.#handOver(topic, payload)
    if (payload.sizeBytes <= feedValueBytes) return feed.publish(topic, payload)
    this.#sendLarge(topic, payload)
    return DONE
  }

  /** How many other nodes are sure to get messages of this topic. */
  subscribersOf(topic: string): number {
    const { feed, hasFeed } = this.#options
    return hasFeed ? feed.listenersOf(topic) : this.#interested(topic).length
  }

  /** Own subscriptions get a copy, in a turn of their own as a remote message would. */
  #echo(topic: string, payload: Payload): void {
    const { subscriptions, self } = this.#options
    const record = receivedLocally(payload)
    const sequence = ++this.#echoed
    queueMicrotask(() => subscriptions.echo(topic, self, 0, sequence, record))
  }

  #sendLarge(topic: string, payload: Payload): void {
    const { feed, outbox, peer } = this.#options
    for (const id of feed.subscribersOf(topic)) {
      const subscriber = peer(id)
      if (subscriber !== undefined) outbox.send(subscriber, topic, payload)
    }
  }

  #interested(topic: string): Peer[] {
    const { members } = this.#options
    return members().filter((peer) => peer.interest.patterns.some((pattern) => matches(pattern, topic)))
  }

  async #handOver(topic: string, payload: Payload): Promise<void> {
    const { outbox, roomTimeoutMs } = this.#options
    const handed = await Promise.allSettled(
      this.#interested(topic).map((peer) => outbox.handOver(peer, topic, payload, roomTimeoutMs)),
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

const DONE: Promise<void> = Promise.resolve()
