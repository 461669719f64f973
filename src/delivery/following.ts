import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import { endpointOf, FRAME } from '../protocol/control-frames.ts'
import type { TopicLast } from '../protocol/feed-batch.ts'
import { FilterSet } from '../protocol/filters.ts'
import type { Received } from '../protocol/record.ts'
import { Follow } from '../transport/follow.ts'
import type { Transport } from '../transport/transport.ts'
import type { Gap, Origin } from './message.ts'

/** After a goodbye the feed's last batches may still be unread: they get this long. */
const LAST_BATCHES_MS = 200
const READY_TIMEOUT_MS = 10_000

export interface FollowingOptions {
  readonly id: string
  readonly transport: Transport
  readonly clock: Clock
  readonly changes: Changes
  readonly maxTopics: number
  wants(topic: string): boolean
  deliver(topic: string, origin: Origin, generation: number, sequence: number, record: Received): void
  gap(gap: Gap): void
  isPressed(): boolean
  heard(peer: Peer): void
  fault(error: unknown): void
}

/** The feeds that this node follows: one for each peer, while it subscribes to anything. */
export class Following {
  readonly #options: FollowingOptions
  readonly #follows = new Map<Peer, Follow>()
  /** Those whose publisher does not answer: it may come back under the same boot. */
  readonly #paused = new Map<Peer, Follow>()
  readonly #peers = new Set<Peer>()
  #filters = new FilterSet([])
  #revision = 0

  constructor(options: FollowingOptions) {
    this.#options = options
  }

  /** What this node listens to from now on. */
  listen(filters: FilterSet, revision: number): void {
    this.#filters = filters
    this.#revision = revision
    for (const follow of this.#paused.values()) follow.listen(filters, revision)
    for (const peer of this.#peers) this.#follow(peer)
    this.#options.changes.notify()
  }

  up(peer: Peer): void {
    if (peer.visitor || peer.link === undefined) return
    this.#peers.add(peer)
    this.#follow(peer)
  }

  down(peer: Peer, tails: readonly TopicLast[] | undefined): void {
    this.#peers.delete(peer)
    const follow = this.#follows.get(peer)
    this.#follows.delete(peer)
    if (follow !== undefined && tails === undefined) {
      follow.pause()
      this.#paused.set(peer, follow)
    } else if (follow !== undefined) this.#options.clock.after(LAST_BATCHES_MS, () => follow.finish(tails!))
    this.#options.changes.notify()
  }

  /** It will not return under this boot: what was missed since it was lost can never be counted. */
  gone(peer: Peer): void {
    this.#paused.get(peer)?.lost()
    this.#paused.delete(peer)
  }

  askedFor(peer: Peer, number: number): void {
    this.#follows.get(peer)?.askedFor(number)
  }

  /** Resolves when every peer that is up has confirmed the interest of this revision. */
  async ready(revision: number): Promise<void> {
    const missing = (): [Peer, Follow][] =>
      [...this.#follows].filter(([, follow]) => follow.confirmedRevision < revision)
    if (await this.#options.changes.until(() => missing().length === 0, READY_TIMEOUT_MS)) return
    const names = missing()
      .map(([peer]) => peer.label)
      .join(', ')
    throw new SkeinError(
      'WAIT_TIMEOUT',
      `a subscription was not confirmed within ${READY_TIMEOUT_MS} ms by ${names}; is its feed port reachable from here?`,
    )
  }

  close(): void {
    for (const follow of this.#follows.values()) follow.close()
    for (const follow of this.#paused.values()) follow.close()
    this.#follows.clear()
    this.#paused.clear()
    this.#peers.clear()
    this.#options.changes.notify()
  }

  #follow(peer: Peer): void {
    let follow = this.#follows.get(peer)
    if (follow === undefined) {
      if (this.#filters.filters.size === 0) return
      follow = this.#resume(peer) ?? this.#open(peer)
    }
    follow.listen(this.#filters, this.#revision)
  }

  #resume(peer: Peer): Follow | undefined {
    const follow = this.#paused.get(peer)
    if (follow === undefined) return undefined
    this.#paused.delete(peer)
    this.#follows.set(peer, follow)
    follow.open(feedEndpoint(peer))
    return follow
  }

  #open(peer: Peer): Follow {
    const { id, transport, clock, maxTopics, wants, deliver, gap, isPressed, heard, fault } = this.#options
    const follow = new Follow({
      ownId: id,
      boot: peer.boot,
      endpoint: feedEndpoint(peer),
      clock,
      maxTopics,
      dial: (endpoint, on) => transport.dialFeed(endpoint, on),
      deliver: (topic, record, generation, sequence) => deliver(topic, peer, generation, sequence, record),
      gap: (topic, count, reason) =>
        gap({ publisher: peer.id, topic, ...(count === undefined ? {} : { count }), reason }),
      report: (number, missed) => {
        heard(peer)
        peer.link?.send(FRAME.report, (writer) => {
          writer.u48(number)
          writer.u48(missed)
        })
      },
      confirmed: () => this.#options.changes.notify(),
      isPressed,
      wants,
      stranger: () => this.down(peer, undefined),
      fault,
    })
    this.#follows.set(peer, follow)
    follow.open()
    return follow
  }
}

/** All roads use the address that the control connection has proved. */
const feedEndpoint = (peer: Peer): string => endpointOf(hostOf(peer), peer.address!.feed)

export const hostOf = (peer: Peer): string => new URL(peer.link!.endpoint).hostname.replace(/^\[|\]$/g, '')
