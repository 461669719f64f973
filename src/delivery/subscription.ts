import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import type { Addressee } from '../protocol/addressee.ts'
import type { Message } from './message.ts'
import { type Settle, verdictOn } from './verdict.ts'

/** A member holds as many messages that wait as it starts in this time: its sender is not idle, others do not starve. */
const AHEAD_MS = 50
const MAX_AHEAD = 1000
const NEWEST_SHARE = 1 / 8

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
  /**
   * Name of a group: of all its members in the mesh one handles each message, and what was published at least once is
   * kept for it while all are away.
   */
  group?: string
  /** How long a member may show no sign of life until what it holds is given to another, in ms. Default 60,000. */
  leaseMs?: number
  /** Most that one call of the handler may take, in ms; its signal aborts then, and it has failed. Default: any time. */
  handlerTimeoutMs?: number
}

export type PullOptions = Pick<SubscribeOptions, 'concurrency' | 'leaseMs' | 'handlerTimeoutMs'>

interface Waiting {
  readonly message: Message
  readonly settle: Settle | undefined
}

export interface SubscriptionOptions extends Required<Omit<SubscribeOptions, 'group' | 'handlerTimeoutMs'>> {
  readonly clock: Clock
  /** Whose part it does: all of the node's plain subscriptions together, a group, or a queue. */
  readonly addressee: Addressee
  readonly pattern: string
  readonly handlerTimeoutMs: number | undefined
  readonly handler: SubscribeHandler | undefined
  readonly ready: Promise<void>
  removed(subscription: Subscription, withdraws: boolean): void
  /** It works faster or slower than it has said: its senders may give it more, or should give it less. */
  paced(): void
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
  readonly #idle: (() => void)[] = []
  /** Whose handlers run on, or which the loop has in hand. */
  readonly #inHand = new Set<Message>()
  #ended = false
  /** How long a call of the handler takes lately. */
  #callMs = Number.NaN
  #aheadStated: number

  /** @internal */
  constructor(options: SubscriptionOptions) {
    this.#options = options
    this.pattern = options.pattern
    this.ready = options.ready
    this.echo = options.echo
    this.#aheadStated = options.concurrency
  }

  /** @internal */
  get addressee(): Addressee {
    return this.#options.addressee
  }

  /** @internal */
  get leaseMs(): number {
    return this.#options.leaseMs
  }

  /** @internal How many messages one sender may have given it that are not settled. */
  get windowMessages(): number {
    const { concurrency, queue } = this.#options
    return this.#isWork ? concurrency + this.#aheadStated : queue
  }

  /** Messages lost because the queue was full. */
  get dropped(): number {
    return this.#dropped
  }

  /** @internal Messages that it runs or keeps waiting. */
  get load(): number {
    return this.#running + this.pending
  }

  /** Messages that wait for the handler or the loop. */
  get pending(): number {
    return this.#queue.length - this.#head
  }

  /**
   * Ends it: messages that wait are handed back or given up, handlers that run are let finish, a loop over it ends.
   * What is published at least once for its group is kept on for `rememberMs`, unless it is withdrawn.
   */
  async unsubscribe({ withdraw = false }: { withdraw?: boolean } = {}): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    const given = this.#queue.splice(this.#head)
    this.#queue = []
    this.#head = 0
    for (const { settle } of given) settle?.(new SkeinError('CLOSED', `subscription '${this.pattern}' ended`))
    this.#wakeLoops()
    this.#options.removed(this as Subscription, withdraw)
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
    let message: Message | undefined
    const settleOnce = (settle: Settle): Settle => {
      let isSettled = false
      return (error) => {
        if (isSettled) return
        isSettled = true
        settle(error)
      }
    }
    const next = async (): Promise<IteratorResult<Message<T>>> => {
      // Asking for the next one says that the last one is done with.
      inHand?.()
      inHand = undefined
      if (message !== undefined) this.#inHand.delete(message)
      for (;;) {
        const waiting = this.#shift()
        if (waiting !== undefined) {
          inHand = waiting.settle && settleOnce(waiting.settle)
          message = waiting.message
          message.settledBy(inHand)
          this.#inHand.add(message)
          return { done: false, value: message as Message<T> }
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

  /** @internal The node is closed: what goes on with its messages nobody waits for. */
  abort(): void {
    for (const message of this.#inHand) message.abort(new SkeinError('CLOSED', 'the node is closed'))
  }

  /** @internal Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
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
    if (this.pending >= this.#room) {
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

  get #isWork(): boolean {
    return this.#options.addressee.kind !== 'node'
  }

  /** Of what is to be worked off it takes what it can start soon, and what it has told a sender that it would. */
  get #room(): number {
    const { queue, handler } = this.#options
    return this.#isWork && handler !== undefined ? Math.max(this.#ahead, this.#aheadStated) : queue
  }

  get #ahead(): number {
    const { concurrency } = this.#options
    if (Number.isNaN(this.#callMs)) return concurrency
    const soon = (concurrency * AHEAD_MS) / Math.max(this.#callMs, AHEAD_MS / MAX_AHEAD)
    return Math.max(concurrency, Math.min(MAX_AHEAD, Math.round(soon)))
  }

  #took(startedAt: number): void {
    if (!this.#isWork) return
    const callMs = this.#options.clock.now() - startedAt
    if (Number.isNaN(this.#callMs)) this.#callMs = callMs
    else this.#callMs += (callMs - this.#callMs) * NEWEST_SHARE
    const ahead = this.#ahead
    if (ahead > this.#aheadStated / 2 && ahead < this.#aheadStated * 2) return
    this.#aheadStated = ahead
    this.#options.paced()
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
    const startedAt = this.#isWork ? this.#options.clock.now() : 0
    let result: unknown
    let isPromise: boolean
    try {
      result = this.#options.handler!(value, message)
      isPromise = isThenable(result)
    } catch (error) {
      this.#took(startedAt)
      this.#failed(message, error, settle)
      return
    }
    if (!isPromise) {
      this.#took(startedAt)
      settle?.()
      return
    }
    this.#running++
    this.#inHand.add(message)
    let isOver = false
    const over = (end: () => void): void => {
      if (isOver) return
      isOver = true
      cancel()
      this.#inHand.delete(message)
      this.#took(startedAt)
      end()
      this.#next()
    }
    const cancel = this.#timeLimit(message, (error) => over(() => this.#failed(message, error, settle)))
    // Not its own `then`, which may throw or never be fair.
    Promise.resolve(result).then(
      () => over(() => settle?.()),
      (error: unknown) => over(() => this.#failed(message, error, settle)),
    )
  }

  /** A handler that hangs must not hold its place, nor its message, for ever. */
  #timeLimit(message: Message, hung: (error: SkeinError) => void): () => void {
    const { clock, handlerTimeoutMs } = this.#options
    if (handlerTimeoutMs === undefined) return NOTHING
    return clock.after(handlerTimeoutMs, () => {
      const error = new SkeinError('HANDLER_FAILED', `the handler took longer than ${handlerTimeoutMs} ms`)
      message.abort(error)
      hung(error)
    })
  }

  #next(): void {
    this.#running--
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve()
    while (this.#running < this.#options.concurrency) {
      const next = this.#shift()
      if (next === undefined) return
      this.#run(next.message, next.settle)
    }
  }

  #failed(message: Message, cause: unknown, settle: Settle | undefined): void {
    const error = this.#failure(message, cause)
    settle?.(error)
    // What it asked for is no failure; its sender is told.
    if (verdictOn(0, error).kind === 'failed') this.#options.fault(error)
  }

  #failure(message: Message, cause: unknown): SkeinError {
    const text = `the handler of subscription '${this.pattern}' failed on a message of topic '${message.topic}' from ${message.from.slice(0, 8)}: ${messageOf(cause)}`
    return new SkeinError('HANDLER_FAILED', text, { cause })
  }
}

const NOTHING = (): void => {}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function'
