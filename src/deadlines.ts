import type { Clock } from './clock.ts'

/** Deadlines that end within the same span share one timer. */
const SPAN_MS = 8

/** What a deadline needs of the thing that ends by it. */
export interface Ending {
  readonly deadlineAt: number
}

/**
 * Very many deadlines, most of which are never reached: a timer of its own for each would cost more than the request
 * that it guards. They are kept by spans of 8 ms, so that they end up to so much late and never early.
 */
export class Deadlines<T extends Ending> {
  readonly #clock: Clock
  readonly #expired: (item: T) => void
  readonly #spans = new Map<number, Set<T>>()

  constructor(clock: Clock, expired: (item: T) => void) {
    this.#clock = clock
    this.#expired = expired
  }

  add(item: T): void {
    const span = spanOf(item)
    let items = this.#spans.get(span)
    if (items === undefined) {
      items = new Set()
      this.#spans.set(span, items)
      this.#clock.after(Math.max(0, span * SPAN_MS - this.#clock.now()), () => this.#end(span))
    }
    items.add(item)
  }

  delete(item: T): void {
    this.#spans.get(spanOf(item))?.delete(item)
  }

  #end(span: number): void {
    const items = this.#spans.get(span)
    this.#spans.delete(span)
    for (const item of items ?? []) this.#expired(item)
  }
}

const spanOf = (item: Ending): number => Math.ceil(item.deadlineAt / SPAN_MS)
