import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { SubscriptionStatus } from '../observe/status.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import { FilterSet } from '../protocol/filters.ts'
import { PatternTree } from '../protocol/pattern-tree.ts'
import type { Received } from '../protocol/record.ts'
import { matches, validatePattern } from '../protocol/topics.ts'
import type { Held } from './holds.ts'
import { type Gap, Message, type Origin } from './message.ts'
import { type SubscribeHandler, type SubscribeOptions, Subscription } from './subscription.ts'
import type { Settle } from './verdict.ts'

const MAX_PATTERN_BYTES = 1024 * 1024
const MATCH_CACHE_TOPICS = 65_536
/** Messages dropped from a full queue are reported together this often, not one by one. */
const REPORT_DROPS_MS = 50
/** One sender may have as many bytes unsettled at one addressee here; a single larger message overdraws it. */
const WINDOW_BYTES = 4 * 1024 * 1024

const PLAIN: Addressee = { kind: 'node', name: '' }

export interface SubscriptionsOptions {
  readonly clock: Clock
  /** Something was added or removed; answers when every peer that is up has confirmed it. */
  changed(): Promise<void>
  /** A member takes more or less at a time than it has stated. */
  paced(): void
  /** A group will not want messages of this pattern any more. */
  withdrawn(group: string, pattern: string): void
  gap(gap: Gap): void
  fault(error: SkeinError): void
}

/** All subscriptions of this node: which of them want a topic, and what the node asks of its peers for them. */
export class Subscriptions {
  readonly #options: SubscriptionsOptions
  readonly #tree = new PatternTree<Subscription>()
  readonly #all = new Set<Subscription>()
  /** Members of groups and workers of queues, by the addressee whose part they do. */
  readonly #work = new Map<string, Set<Subscription>>()
  /** Those that were ended so that the node can close; their handlers may run on. */
  #drained: readonly Subscription[] = []
  #patternBytes = 0
  readonly #pressed = new Set<Subscription>()
  #matches = new Map<string, readonly Subscription[]>()
  /** A batch holds messages of one topic, so the last answer is most often the next one. */
  #lastTopic = ''
  #lastFound: readonly Subscription[] = []
  readonly #drops = new Map<string, { publisher: string; topic: string; count: number }>()

  constructor(options: SubscriptionsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#all.size
  }

  /** The interest of a node travels as a whole, in one frame: it must not become too large for one. */
  #assertRoom(pattern: string): void {
    if (this.#patternBytes + Buffer.byteLength(pattern) <= MAX_PATTERN_BYTES) return
    throw new SkeinError(
      'PATTERN_INVALID',
      `subscribe to '${pattern}': the patterns of this node have ${MAX_PATTERN_BYTES} bytes already; use wider ones`,
    )
  }

  /** Subscribes: for all that is published, or as a member of a group. */
  add(pattern: string, handler: SubscribeHandler | undefined, options: SubscribeOptions): Subscription {
    validatePattern(pattern)
    const { group } = options
    if (group === undefined) return this.#add(PLAIN, pattern, handler, options)
    return this.#add({ kind: 'group', name: group }, pattern, handler, options)
  }

  /** Works off a queue. */
  pull(queue: string, handler: SubscribeHandler | undefined, options: SubscribeOptions): Subscription {
    return this.#add({ kind: 'queue', name: queue }, queue, handler, options)
  }

  #add(
    addressee: Addressee,
    pattern: string,
    handler: SubscribeHandler | undefined,
    options: SubscribeOptions,
  ): Subscription {
    this.#assertRoom(pattern)
    this.#patternBytes += Buffer.byteLength(pattern)
    const ready = Promise.resolve().then(() => this.#options.changed())
    // Whoever does not wait for it need not handle its failure either.
    ready.catch(() => {})
    const subscription = new Subscription({
      ...{ concurrency: 1, queue: 1000, onOverflow: 'drop-oldest', echo: true, leaseMs: 60_000 },
      handlerTimeoutMs: undefined,
      ...options,
      clock: this.#options.clock,
      addressee,
      pattern,
      handler,
      ready,
      removed: (removed, withdraws) => this.#remove(removed, withdraws),
      paced: this.#options.paced,
      overfull: (overfull) => this.#overfull(overfull),
      dropped: (message) => this.#dropped(message),
      undecodable: ({ from, topic }, error) => {
        this.#options.fault(error)
        this.#options.gap({ publisher: from, topic, count: 1, reason: 'malformed' })
      },
      fault: this.#options.fault,
    })
    this.#all.add(subscription)
    if (addressee.kind === 'node') {
      this.#tree.add(pattern, subscription)
      this.#forgetMatches()
    } else {
      const key = addresseeKey(addressee)
      const members = this.#work.get(key)
      if (members === undefined) this.#work.set(key, new Set([subscription]))
      else members.add(subscription)
    }
    return subscription
  }

  match(topic: string): readonly Subscription[] {
    if (topic === this.#lastTopic) return this.#lastFound
    let found = this.#matches.get(topic)
    this.#lastTopic = topic
    if (found !== undefined) {
      this.#lastFound = found
      return found
    }
    found = this.#tree.match(topic)
    if (this.#matches.size >= MATCH_CACHE_TOPICS) this.#matches = new Map()
    this.#matches.set(topic, found)
    this.#lastFound = found
    return found
  }

  /** Each as a diagnosis sees it. */
  status(): SubscriptionStatus[] {
    return [...this.#all].map(({ pattern, pending, dropped, addressee: { kind, name } }) => ({
      ...{ pattern, queued: pending, dropped },
      ...(kind !== 'node' && { addressee: { kind, name } }),
    }))
  }

  /** What the plain subscriptions ask for. */
  patterns(): string[] {
    const plain = [...this.#all].filter(({ addressee }) => addressee.kind === 'node')
    return [...new Set(plain.map(({ pattern }) => pattern))]
  }

  /** The groups and queues that this node does a part of the work of, and how much of it at a time. */
  services(): Service[] {
    return [...this.#work.values()].map((members) => {
      const all = [...members]
      const { addressee } = all[0]!
      return {
        kind: addressee.kind as 'group' | 'queue',
        name: addressee.name,
        patterns: addressee.kind === 'group' ? [...new Set(all.map(({ pattern }) => pattern))] : [],
        messages: all.reduce((sum, { windowMessages }) => sum + windowMessages, 0),
        bytes: WINDOW_BYTES,
        leaseMs: Math.min(...all.map(({ leaseMs }) => leaseMs)),
      }
    })
  }

  filters(): FilterSet {
    return FilterSet.of(this.patterns())
  }

  /** Gives a message from a feed to each plain subscription that wants it. */
  deliver(topic: string, origin: Origin, generation: number, sequence: number, record: Received): void {
    this.#spread(this.match(topic), new Message(topic, origin, generation, sequence, record), record)
  }

  /**
   * Gives a message to those here who are its addressee: to each plain subscription, or to one member of a group or
   * queue. `settle` is called once: when all who got it have handled it, with the first error if there was one.
   */
  hand(addressee: Addressee, message: Message, record: Received, held?: Held, settle?: Settle): void {
    const found =
      addressee.kind === 'node' ? this.match(message.topic) : this.#memberFor(addressee, message.topic)
    const wanting = held === undefined ? found : found.filter((each) => !held.done.has(each))
    if (wanting.length > 0) this.#spread(wanting, message, record, held, settle)
    // Those that had not handled it are gone, and those that are there have.
    else if (found.length > 0) settle?.()
    else settle?.(new SkeinError('NO_SUBSCRIBERS', `nobody here takes '${message.topic}' any more`))
  }

  /** The member with the least to do. */
  #memberFor(addressee: Addressee, topic: string): readonly Subscription[] {
    let best: Subscription | undefined
    for (const member of this.#work.get(addresseeKey(addressee)) ?? []) {
      if (addressee.kind === 'group' && !matches(member.pattern, topic)) continue
      if (best === undefined || member.load < best.load) best = member
    }
    return best === undefined ? [] : [best]
  }

  #spread(
    to: readonly Subscription[],
    message: Message,
    record: Received,
    held?: Held,
    settle?: Settle,
  ): void {
    if (to.length === 1) {
      to[0]!.offer(message, settle)
      return
    }
    const each = settle === undefined ? undefined : settleAll(to.length, settle)
    // A message of its own for each, so that none sees what another did to the value.
    for (const [reader, subscription] of to.entries()) {
      const own = message.copy({ ...record, frame: record.frame.of(reader) })
      const settleOwn =
        each &&
        ((error?: SkeinError): void => {
          if (held !== undefined && error === undefined) held.done.add(subscription)
          each(error)
        })
      subscription.offer(own, settleOwn)
    }
  }

  /** Gives a message of this node to its own subscriptions. */
  echo(topic: string, origin: Origin, sequence: number, record: Received): void {
    for (const [reader, subscription] of this.match(topic).entries()) {
      if (!subscription.echo) continue
      const own = { ...record, frame: record.frame.of(reader) }
      subscription.offer(new Message(topic, origin, 'sent', sequence, own))
    }
  }

  /** Hands back the work that was not begun, and resolves when what runs has ended, at the latest after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const all = [...this.#all].filter(({ addressee }) => addressee.kind !== 'node')
    await Promise.all(all.map((subscription) => subscription.unsubscribe()))
    let cancel = (): void => {}
    const expired = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(timeoutMs, resolve)
    })
    await Promise.race([Promise.all(all.map((subscription) => subscription.idle())), expired])
    cancel()
    this.#drained = all
  }

  /** Nobody waits any longer for handlers that run. */
  async close(): Promise<void> {
    for (const subscription of [...this.#drained, ...this.#all]) subscription.abort()
    for (const each of this.#pressed) each.trim()
    this.#pressed.clear()
    this.#reportDrops()
    await Promise.all([...this.#all].map((subscription) => subscription.unsubscribe()))
  }

  /** Whether a queue is overfull, so that more should be read only when this turn has ended. */
  get isPressed(): boolean {
    return this.#pressed.size > 0
  }

  #overfull(subscription: Subscription): void {
    if (this.#pressed.size === 0) {
      this.#options.clock.turn(() => {
        const pressed = [...this.#pressed]
        this.#pressed.clear()
        for (const each of pressed) each.trim()
      })
    }
    this.#pressed.add(subscription)
  }

  #forgetMatches(): void {
    this.#matches = new Map()
    this.#lastTopic = ''
    this.#lastFound = []
  }

  #remove(subscription: Subscription, withdraws: boolean): void {
    const { addressee, pattern } = subscription
    this.#all.delete(subscription)
    this.#patternBytes -= Buffer.byteLength(pattern)
    if (addressee.kind === 'node') {
      this.#tree.delete(pattern, subscription)
      this.#forgetMatches()
    } else {
      const members = this.#work.get(addresseeKey(addressee))
      members?.delete(subscription)
      if (members?.size === 0) this.#work.delete(addresseeKey(addressee))
      if (withdraws && addressee.kind === 'group') this.#options.withdrawn(addressee.name, pattern)
    }
    this.#options.changed().catch(() => {})
  }

  #dropped(message: Message): void {
    if (this.#drops.size === 0) this.#options.clock.after(REPORT_DROPS_MS, () => this.#reportDrops())
    const key = `${message.from} ${message.topic}`
    const drop = this.#drops.get(key)
    if (drop === undefined) this.#drops.set(key, { publisher: message.from, topic: message.topic, count: 1 })
    else drop.count++
  }

  #reportDrops(): void {
    const drops = [...this.#drops.values()]
    this.#drops.clear()
    for (const drop of drops) this.#options.gap({ ...drop, reason: 'queue-full' })
  }
}

/** Calls `settle` when all have settled, with the first error if there was one. */
const settleAll = (count: number, settle: Settle): Settle => {
  let left = count
  let first: SkeinError | undefined
  return (error) => {
    first ??= error
    if (--left === 0) settle(first)
  }
}
