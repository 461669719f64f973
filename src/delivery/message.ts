import { decodeReceived } from '../protocol/payload.ts'
import { decodeHeaders, type Headers, type Received } from '../protocol/record.ts'

/** Which start of which node a message comes from. */
export interface Origin {
  readonly id: string
  readonly boot: string
}

/** A message as handlers get it. Its value is decoded when first asked for. */
export class Message<T = unknown> {
  readonly topic: string
  readonly #origin: Origin
  readonly #generation: number
  readonly #sequence: number
  readonly #record: Received
  #value: T | undefined
  #decoded = false
  #abort: AbortController | undefined
  #aborted: Error | undefined
  #watched: (() => void) | undefined

  /** @internal */
  constructor(topic: string, origin: Origin, generation: number, sequence: number, record: Received) {
    this.topic = topic
    this.#origin = origin
    this.#generation = generation
    this.#sequence = sequence
    this.#record = record
  }

  /** Id of the node that published it. */
  get from(): string {
    return this.#origin.id
  }

  /** The key it was sent with, if any. */
  get key(): string | undefined {
    return undefined
  }

  /** Failures before this hand-over, plus one. At-most-once messages are handed over once. */
  get attempt(): number {
    return 1
  }

  /** It may have been handled before. */
  get redelivered(): boolean {
    return false
  }

  /** Unique for ever: node, boot, and where it stood in the sender's sequence. */
  get id(): string {
    return `${this.#origin.id}.${this.#origin.boot}.${this.#generation}.${this.#sequence}`
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

  /** Aborts when the result is no longer wanted: the asker gave up, the deadline passed, or the node closes. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      this.#watched?.()
      if (this.#aborted !== undefined) this.#abort.abort(this.#aborted)
    }
    return this.#abort.signal
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
