import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import type { SubscriptionStatus } from '../observe/status.ts'
import { FilterSet } from '../protocol/filters.ts'
import { PatternTree } from '../protocol/pattern-tree.ts'
import type { Received } from '../protocol/record.ts'
import { validatePattern } from '../protocol/topics.ts'
import { type Gap, Message, type Origin } from './message.ts'

const MAX_PATTERN_BYTES = 1024 * 1024
const MATCH_CACHE_TOPICS = 65_536
/** Messages dropped from a full queue are reported together this often, not one by one. */
const REPORT_DROPS_MS = 50

export type SubscribeHandler<T = unknown> = (value: T, message: Message<T>) => unknown

export interface SubscribeOptions {
  /** Handlers running at the same time. Default 1: one message at a time, in order. */
  concurrency?: number
  /** Messages that may wait for the handler or the loop. Default 1000. */
  queue?: number
  /** Which message a full queue loses. Default 'drop-oldest'. Every loss is counted and reported as a `gap`. */
  onOverflow?: 'drop-oldest' | 'drop-newest'
  /** Whether messages of this very node are wanted. Default true. */
  echo?: boolean
}

/** What happened to a message that its sender waits for; called once for each subscription it went to. */
export type Settle = (error?: SkeinError) => void

interface Waiting {
  readonly message: Message
  readonly settle: Settle | undefined
}

export interface SubscriptionOptions extends Required<SubscribeOptions> {
  readonly pattern: string
  readonly handler: SubscribeHandler | undefined
  readonly ready: Promise<void>
  removed(subscription: Subscription): void
  /** More wait than the queue holds: when this turn has ended it must be trimmed. */
  overfull(subscription: Subscription): void
  dropped(message: Message): void
  undecodable(message: Message, error: SkeinError): void
  fault(error: SkeinError): void
}

/**
 * One subscription: a handler that is called for each message, or a queue to loop over.
 *
 * @example
 * for await (const message of node.subscribe('sensors.>')) console.log(message.topic, message.value)
 */
export class Subscription<T = unknown> implements AsyncIterable<Message<T>> {
  readonly pattern: string
  /** Resolves when every peer that is up has confirmed it: from then on nothing is missed without a `gap`. */
  readonly ready: Promise<void>
  /** @internal */
  readonly echo: boolean
  readonly #options: SubscriptionOptions
  #queue: Waiting[] = []
  #head = 0
  #running = 0
  #dropped = 0
  #isOverfull = false
  #iterating = false
  readonly #loops: (() => void)[] = []
  #ended = false

  /** @internal */
  constructor(options: SubscriptionOptions) {
    this.#options = options
    this.pattern = options.pattern
    this.ready = options.ready
    this.echo = options.echo
  }

  /** Messages lost because the queue was full. */
  get dropped(): number {
    return this.#dropped
  }

  /** Messages that wait for the handler or the loop. */
  get pending(): number {
    return this.#queue.length - this.#head
  }

  /** Ends it: messages that wait are given up, handlers that run are let finish, a loop over it ends. */
  async unsubscribe(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    const given = this.#queue.splice(this.#head)
    this.#queue = []
    this.#head = 0
    for (const { settle } of given) settle?.(new SkeinError('CLOSED', `subscription '${this.pattern}' ended`))
    this.#wakeLoops()
    this.#options.removed(this as Subscription)
  }

  [Symbol.asyncIterator](): AsyncIterator<Message<T>> {
    if (this.#options.handler !== undefined || this.#iterating) {
      const why = this.#iterating ? 'is looped over already' : 'has a handler'
      throw new SkeinError(
        'OPTION_INVALID',
        `subscription '${this.pattern}' ${why}; subscribe again for a loop of its own`,
      )
    }
    this.#iterating = true
    let inHand: Settle | undefined
    const next = async (): Promise<IteratorResult<Message<T>>> => {
      // Asking for the next one says that the last one is done with.
      inHand?.()
      inHand = undefined
      for (;;) {
        const waiting = this.#shift()
        if (waiting !== undefined) {
          inHand = waiting.settle
          return { done: false, value: waiting.message as Message<T> }
        }
        if (this.#ended) return { done: true, value: undefined }
        await new Promise<void>((resolve) => this.#loops.push(resolve))
      }
    }
    return {
      next,
      return: async () => {
        inHand?.(new SkeinError('CLOSED', `the loop over subscription '${this.pattern}' was left`))
        inHand = undefined
        await this.unsubscribe()
        return { done: true, value: undefined }
      },
    }
  }

  #wakeLoops(): void {
    for (const wake of this.#loops.splice(0)) wake()
  }

  /** @internal Takes a message; never waits and never throws. */
  offer(message: Message, settle?: Settle): void {
    if (this.#ended) {
      settle?.(new SkeinError('CLOSED', `subscription '${this.pattern}' ended`))
      return
    }
    if (
      this.#options.handler !== undefined &&
      this.#running < this.#options.concurrency &&
      this.pending === 0
    ) {
      this.#run(message, settle)
      return
    }
    if (this.pending >= this.#options.queue) {
      if (settle !== undefined) {
        // Its sender waits, and offers it again.
        settle(new SkeinError('BUSY', `subscription '${this.pattern}' has no room for the message`))
        return
      }
      // A batch brings more than a queue holds, and a handler or loop that only awaits what is there takes it all before
      // the turn ends: what is too much is known only then.
      if (!this.#isOverfull) this.#options.overfull(this as Subscription)
      this.#isOverfull = true
    }
    this.#queue.push({ message, settle })
    this.#wakeLoops()
  }

  /** @internal The turn in which it was overfull has ended: what is still too much is lost. */
  trim(): void {
    this.#isOverfull = false
    while (this.pending > this.#options.queue) {
      const lost = this.#options.onOverflow === 'drop-newest' ? this.#queue.pop() : this.#shift()
      if (lost === undefined) return
      if (lost.settle === undefined) this.#drop(lost.message)
      else lost.settle(new SkeinError('BUSY', `subscription '${this.pattern}' has no room for the message`))
    }
  }

  #shift(): Waiting | undefined {
    if (this.#head === this.#queue.length) return undefined
    const next = this.#queue[this.#head]
    this.#queue[this.#head++] = undefined as never
    if (this.#head === this.#queue.length || this.#head >= 1024) {
      this.#queue.splice(0, this.#head)
      this.#head = 0
    }
    return next
  }

  #drop(message: Message): void {
    this.#dropped++
    this.#options.dropped(message)
  }

  #run(message: Message, settle: Settle | undefined): void {
    let value: unknown
    try {
      value = message.value
    } catch (error) {
      this.#options.undecodable(message, error as SkeinError)
      settle?.(error as SkeinError)
      return
    }
    let result: unknown
    try {
      result = this.#options.handler!(value, message)
    } catch (error) {
      this.#failed(message, error, settle)
      return
    }
    if (!isThenable(result)) {
      settle?.()
      return
    }
    this.#running++
    result.then(
      () => {
        settle?.()
        this.#next()
      },
      (error: unknown) => {
        this.#failed(message, error, settle)
        this.#next()
      },
    )
  }

  #next(): void {
    this.#running--
    while (this.#running < this.#options.concurrency) {
      const next = this.#shift()
      if (next === undefined) return
      this.#run(next.message, next.settle)
    }
  }

  #failed(message: Message, cause: unknown, settle: Settle | undefined): void {
    const text = `the handler of subscription '${this.pattern}' failed on a message of topic '${message.topic}' from ${message.from.slice(0, 8)}: ${messageOf(cause)}`
    const error = new SkeinError('HANDLER_FAILED', text, { cause })
    settle?.(error)
    this.#options.fault(error)
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function'

export interface SubscriptionsOptions {
  readonly clock: Clock
  /** Something was added or removed; answers when every peer that is up has confirmed it. */
  changed(): Promise<void>
  gap(gap: Gap): void
  fault(error: SkeinError): void
}

/** All subscriptions of this node: which of them want a topic, and what the node asks of its peers for them. */
export class Subscriptions {
  readonly #options: SubscriptionsOptions
  readonly #tree = new PatternTree<Subscription>()
  readonly #all = new Set<Subscription>()
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

  add(pattern: string, handler: SubscribeHandler | undefined, options: SubscribeOptions): Subscription {
    validatePattern(pattern)
    this.#assertRoom(pattern)
    this.#patternBytes += Buffer.byteLength(pattern)
    const ready = Promise.resolve().then(() => this.#options.changed())
    // Whoever does not wait for it need not handle its failure either.
    ready.catch(() => {})
    const subscription = new Subscription({
      concurrency: 1,
      queue: 1000,
      onOverflow: 'drop-oldest',
      echo: true,
      ...options,
      pattern,
      handler,
      ready,
      removed: (removed) => this.#remove(removed),
      overfull: (overfull) => this.#overfull(overfull),
      dropped: (message) => this.#dropped(message),
      undecodable: ({ from, topic }, error) => {
        this.#options.fault(error)
        this.#options.gap({ publisher: from, topic, count: 1, reason: 'malformed' })
      },
      fault: this.#options.fault,
    })
    this.#all.add(subscription)
    this.#tree.add(pattern, subscription)
    this.#forgetMatches()
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
    return [...this.#all].map(({ pattern, pending, dropped }) => ({ pattern, queued: pending, dropped }))
  }

  patterns(): string[] {
    return [...new Set([...this.#all].map((subscription) => subscription.pattern))]
  }

  filters(): FilterSet {
    return FilterSet.of(this.patterns())
  }

  /** Gives a message of a peer to each subscription that wants it. */
  deliver(
    topic: string,
    origin: Origin,
    generation: number,
    sequence: number,
    record: Received,
    settle?: Settle,
  ): void {
    const found = this.match(topic)
    if (found.length === 1) {
      found[0]!.offer(new Message(topic, origin, generation, sequence, record), settle)
      return
    }
    if (found.length === 0)
      settle?.(new SkeinError('NO_SUBSCRIBERS', `nobody here subscribes to '${topic}' any more`))
    const each = settle === undefined ? undefined : settleAll(found.length, settle)
    // A message of its own for each, so that none sees what another did to the value.
    for (const [reader, subscription] of found.entries()) {
      const own = { ...record, frame: record.frame.of(reader) }
      subscription.offer(new Message(topic, origin, generation, sequence, own), each)
    }
  }

  /** Gives a message of this node to its own subscriptions. */
  echo(topic: string, origin: Origin, generation: number, sequence: number, record: Received): void {
    for (const [reader, subscription] of this.match(topic).entries()) {
      if (!subscription.echo) continue
      const own = { ...record, frame: record.frame.of(reader) }
      subscription.offer(new Message(topic, origin, generation, sequence, own))
    }
  }

  async close(): Promise<void> {
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

  #remove(subscription: Subscription): void {
    this.#all.delete(subscription)
    this.#patternBytes -= Buffer.byteLength(subscription.pattern)
    this.#tree.delete(subscription.pattern, subscription)
    this.#forgetMatches()
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
