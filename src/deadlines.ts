import type { Clock } from './clock.ts'

/** What is overdue is looked for no more often than this: deadlines end up to so much late, and never early. */
const LEAST_MS = 8

/** What a deadline needs of the thing that ends by it. */
export interface Ending {
  readonly deadlineAt: number
}

/**
 * Very many deadlines, most of which are never reached: keeping each in a timer or a list of its own would cost more
 * than the request that it guards (and what has lived in an old list is promoted by the collector). One timer waits
 * for the earliest that was pending when it was set; then all that are pending are looked at.
 */
export class Deadlines<T extends Ending> {
  readonly #clock: Clock
  readonly #pending: Iterable<T>
  readonly #expired: (item: T) => void
  #nextAt = Number.POSITIVE_INFINITY
  #cancel: (() => void) | undefined

  constructor(clock: Clock, pending: Iterable<T>, expired: (item: T) => void) {
    this.#clock = clock
    this.#pending = pending
    this.#expired = expired
  }

  /** Something that ends then is pending from now on. */
  add(deadlineAt: number): void {
    if (deadlineAt < this.#nextAt) this.#wakeAt(deadlineAt)
  }

  /** What is pending ends otherwise. */
  close(): void {
    this.#cancel?.()
  }

  #wakeAt(at: number): void {
    this.#cancel?.()
    this.#nextAt = at
    this.#cancel = this.#clock.after(Math.max(0, Math.ceil(at - this.#clock.now())), () => this.#look())
  }

  #look(): void {
    const now = this.#clock.now()
    this.#nextAt = Number.POSITIVE_INFINITY
    const overdue: T[] = []
    let next = Number.POSITIVE_INFINITY
    for (const item of this.#pending) {
      if (item.deadlineAt <= now) overdue.push(item)
      else next = Math.min(next, item.deadlineAt)
    }
    if (next < Number.POSITIVE_INFINITY) this.#wakeAt(Math.max(next, now + LEAST_MS))
    for (const item of overdue) this.#expired(item)
  }
}
