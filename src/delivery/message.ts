import { SkeinError } from '../errors.ts'
import { decodeReceived } from '../protocol/payload.ts'
import { decodeHeaders, type Headers, type Received } from '../protocol/record.ts'
import { RetryLater, type Settle } from './verdict.ts'

/** Which start of which node a message comes from. */
export interface Origin {
  readonly id: string
  readonly boot: string
}

/**
 * What a message's sequence counts: those of a topic in this generation of it, those that are owed, or those that were
 * sent once to somebody in particular.
 */
export type Series = number | 'owed' | 'sent'

/** How a message was handed over, where somebody waits for what becomes of it. */
export interface HandedAs {
  readonly key: string | undefined
  readonly attempt: number
  readonly redelivered: boolean
}

/** A message as handlers get it. Its value is decoded when first asked for. */
export class Message<T = unknown> {
  readonly topic: string
  readonly #origin: Origin
  readonly #series: Series
  readonly #sequence: number
  readonly #record: Received
  readonly #handed: HandedAs | undefined
  #settle: Settle | undefined
  #value: T | undefined
  #decoded = false
  #abort: AbortController | undefined
  #aborted: Error | undefined
  #watched: (() => void) | undefined

  /** @internal */
  constructor(
    topic: string,
    origin: Origin,
    series: Series,
    sequence: number,
    record: Received,
    handed?: HandedAs,
  ) {
    this.topic = topic
    this.#origin = origin
    this.#series = series
    this.#sequence = sequence
    this.#record = record
    this.#handed = handed
  }

  /** Id of the node that published it. */
  get from(): string {
    return this.#origin.id
  }

  /** The key it was sent with, if any. */
  get key(): string | undefined {
    return this.#handed?.key
  }

  /** Failures before this hand-over, plus one. At-most-once messages are handed over once. */
  get attempt(): number {
    return this.#handed?.attempt ?? 1
  }

  /**
   * It was handed over before, or its sender has been started anew since: it may have been handled, and it may come out of
   * order.
   */
  get redelivered(): boolean {
    return this.#handed?.redelivered ?? false
  }

  /** Unique for ever: node, boot, and where it stood in what that boot has sent. */
  get id(): string {
    return `${this.#origin.id}.${this.#origin.boot}.${this.#series}.${this.#sequence}`
  }

  get headers(): Headers {
    return decodeHeaders(this.#record.headers)
  }

  /** @throws SkeinError MALFORMED if the sender's bytes cannot be decoded */
  get value(): T {
    if (!this.#decoded) {
      this.#value = decodeReceived(this.#record) as T
      this.#decoded = true
    }
    return this.#value as T
  }

  /**
   * Aborts when the result is no longer wanted: the asker gave up, the deadline or `handlerTimeoutMs` passed, or the node
   * is closed and did not wait longer than `closeTimeoutMs`.
   */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      this.#watched?.()
      if (this.#aborted !== undefined) this.#abort.abort(this.#aborted)
    }
    return this.#abort.signal
  }

  /**
   * Says that a message of a loop was handled, before the next one is asked for. A handler says so by its end, and a
   * message that nobody keeps needs no word: there it does nothing.
   */
  ack(): void {
    this.#settle?.()
  }

  /** Says that a message of a loop was not handled: it comes again, after `delayMs` and at no cost if that is given. */
  nack({ delayMs, reason = 'the loop refused it' }: { delayMs?: number; reason?: string } = {}): void {
    const cause = delayMs === undefined ? new Error(reason) : new RetryLater(delayMs, reason)
    this.#settle?.(new SkeinError('HANDLER_FAILED', reason, { cause }))
  }

  /** @internal */
  settledBy(settle: Settle | undefined): void {
    this.#settle = settle
  }

  /** @internal The same message for another reader, who shall not see what this one does to its value. */
  copy(record: Received): Message {
    return new Message(this.topic, this.#origin, this.#series, this.#sequence, record, this.#handed)
  }

  /** What console.log shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): object {
    const { topic, value, from, headers, id } = this
    return { topic, value, from, headers, id }
  }

  /** @internal Calls back when somebody first looks at the signal. */
  whenWatched(watched: () => void): void {
    this.#watched = watched
  }

  /** @internal */
  abort(reason: Error): void {
    this.#aborted ??= reason
    this.#abort?.abort(reason)
  }
}

/** Messages that a subscriber missed. */
export interface Gap {
  /** Id of the node that published them. */
  readonly publisher: string
  readonly topic: string
  /** How many; undefined where nobody can know. */
  readonly count?: number
  readonly reason: 'lost' | 'queue-full' | 'slow' | 'evicted' | 'publisher-lost' | 'malformed'
}
