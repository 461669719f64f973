import { EventEmitter } from 'node:events'
import type { Clock } from '../clock.ts'
import type { DeadLetter, LastFailure } from '../delivery/dead-letters.ts'
import type { Gap } from '../delivery/message.ts'
import { messageOf, SkeinError } from '../errors.ts'
import type { PeerInfo } from '../peers/peer.ts'

/** A flood of frames that cannot be ours is not a flood of warnings. */
const MALFORMED_WARNING_MS = 100

export interface Events {
  'peer-up': [peer: PeerInfo]
  /** A message was given up: by this node as its sender, or by another one because of a failure here. */
  'dead-letter': [letter: DeadLetter | LastFailure]
  'peer-down': [peer: PeerInfo]
  gap: [gap: Gap]
  /** Something was dropped, refused or failed that no call of yours reports. */
  warning: [error: SkeinError]
}

/** Takes what the node has to say to its operator; a pino logger fits. */
export interface Logger {
  debug(fields: object, text: string): void
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

/** What a node tells its operator: events, warnings and counts. Modules never listen to it. */
export class Reports {
  readonly events = new EventEmitter<Events>()
  readonly #clock: Clock
  readonly #logger: Logger | undefined
  readonly #name: string
  /** What was told before anybody could listen. */
  #early: (() => void)[] | undefined = []
  #gaps = 0
  #malformed = 0
  #warnedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock, logger: Logger | undefined, name: string) {
    this.#clock = clock
    this.#logger = logger
    this.#name = name
  }

  /** Messages known to have been missed. */
  get gaps(): number {
    return this.#gaps
  }

  /** Frames dropped because they cannot be ours. */
  get malformed(): number {
    return this.#malformed
  }

  gap(gap: Gap): void {
    this.#gaps += gap.count ?? 0
    this.emit('gap', gap)
  }

  warn(error: SkeinError): void {
    this.#logger?.warn({ code: error.code, node: this.#name }, error.message)
    this.emit('warning', error)
  }

  /** Something failed while reading what came from outside. */
  fault(error: unknown): void {
    const warning =
      error instanceof SkeinError
        ? error
        : new SkeinError('MALFORMED', `a fault while reading: ${messageOf(error)}`, { cause: error })
    if (warning.code === 'MALFORMED') {
      this.#malformed++
      const now = this.#clock.now()
      if (now - this.#warnedAt < MALFORMED_WARNING_MS) return
      this.#warnedAt = now
    }
    this.warn(warning)
  }

  /** The node is there and its users have had a turn to listen: they are told what they could not hear before. */
  open(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const tell of early) tell()
  }

  emit<E extends keyof Events>(event: E, ...args: Events[E]): void {
    if (this.#early !== undefined) {
      this.#early.push(() => this.emit(event, ...args))
      return
    }
    try {
      this.events.emit(event, ...(args as never))
    } catch (error) {
      // A listener's fault is its author's: it surfaces as an uncaught exception and disturbs nobody here.
      queueMicrotask(() => {
        throw error
      })
    }
  }
}
