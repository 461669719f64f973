import type { Clock } from '../clock.ts'
import type { Copy } from './places.ts'
import { Timeline } from './timeline.ts'

/** Messages that end at a time, handled or not, and those of their copies that are loaded. */
export class Expiries {
  readonly #timeline: Timeline<number>
  readonly #copies = new Map<number, Copy[]>()

  constructor(clock: Clock, expired: (sequence: number, copies: readonly Copy[]) => void) {
    this.#timeline = new Timeline(clock, (sequence) => {
      const copies = this.#copies.get(sequence) ?? []
      this.#copies.delete(sequence)
      expired(sequence, copies)
    })
  }

  /** The message ends at this time of the clock. */
  add(at: number, sequence: number): void {
    this.#timeline.add(at, sequence)
  }

  /** A copy of a message that ends was loaded. */
  watch(copy: Copy): void {
    const { sequence } = copy.loaded
    const copies = this.#copies.get(sequence)
    if (copies === undefined) this.#copies.set(sequence, [copy])
    else copies.push(copy)
  }

  /** The copy has ended before. */
  forget(copy: Copy): void {
    const { sequence } = copy.loaded
    const left = this.#copies.get(sequence)?.filter((each) => each !== copy) ?? []
    if (left.length > 0) this.#copies.set(sequence, left)
    else this.#copies.delete(sequence)
  }

  close(): void {
    this.#timeline.close()
    this.#copies.clear()
  }
}
