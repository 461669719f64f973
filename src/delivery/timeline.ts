import type { Clock } from '../clock.ts'

/** Longer than this no timer waits: it looks again. */
const LONGEST_MS = 2 ** 30

interface Entry<T> {
  readonly at: number
  readonly item: T
}

/** Things that are due at their times, in that order, behind one timer; their number may be very large. */
export class Timeline<T> {
  readonly #clock: Clock
  readonly #due: (item: T) => void
  /** A binary heap: no entry is due before its parent. */
  #heap: Entry<T>[] = []
  #cancel: (() => void) | undefined
  #armedAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock, due: (item: T) => void) {
    this.#clock = clock
    this.#due = due
  }

  get size(): number {
    return this.#heap.length
  }

  items(): T[] {
    return this.#heap.map(({ item }) => item)
  }

  /** Calls back with the item at this time of the clock, or a little later. */
  add(at: number, item: T): void {
    const heap = this.#heap
    let place = heap.length
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (heap[parent]!.at <= at) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = { at, item }
    if (at < this.#armedAt) this.#arm()
  }

  close(): void {
    this.#cancel?.()
    this.#heap = []
    this.#armedAt = Number.POSITIVE_INFINITY
  }

  #arm(): void {
    this.#cancel?.()
    this.#armedAt = this.#heap[0]?.at ?? Number.POSITIVE_INFINITY
    if (this.#heap.length === 0) return
    const delayMs = Math.min(LONGEST_MS, Math.max(0, Math.ceil(this.#armedAt - this.#clock.now())))
    this.#cancel = this.#clock.after(delayMs, () => this.#look())
  }

  #look(): void {
    const now = this.#clock.now()
    const due: T[] = []
    while (this.#heap.length > 0 && this.#heap[0]!.at <= now) due.push(this.#take())
    this.#arm()
    for (const item of due) this.#due(item)
  }

  #take(): T {
    const heap = this.#heap
    const first = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) {
      let place = 0
      for (;;) {
        let child = 2 * place + 1
        if (child >= heap.length) break
        if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child++
        if (heap[child]!.at >= last.at) break
        heap[place] = heap[child]!
        place = child
      }
      heap[place] = last
    }
    return first.item
  }
}
