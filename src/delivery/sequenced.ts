const FIRST_SLOTS = 64
const MAX_SLOTS = 131_072

/** What is kept under its sequence. */
interface Sequenced {
  readonly sequence: number
}

/**
 * Things found by their sequences, which mostly rise and lie close together: a slot is used again in place, where a `Map`
 * leaves old tables behind (see `numbered.ts`). What would share a slot even in the largest ring goes into a map.
 */
export class SequencedItems<T extends Sequenced> {
  #slots: (T | undefined)[] = new Array<T | undefined>(FIRST_SLOTS).fill(undefined)
  readonly #others = new Map<number, T>()
  #size = 0

  get size(): number {
    return this.#size
  }

  get(sequence: number): T | undefined {
    const item = this.#slots[this.#slotOf(sequence)]
    if (item?.sequence === sequence) return item
    return this.#others.size === 0 ? undefined : this.#others.get(sequence)
  }

  /** There is none with this sequence. */
  add(item: T): void {
    this.#size++
    while (this.#slots[this.#slotOf(item.sequence)] !== undefined) {
      // Sequences far apart, of a sender that owes others more, or a hostile one, are not worth a large ring.
      if (this.#slots.length >= MAX_SLOTS || 8 * this.#size < this.#slots.length) {
        this.#others.set(item.sequence, item)
        return
      }
      this.#grow()
    }
    this.#slots[this.#slotOf(item.sequence)] = item
  }

  delete(item: T): boolean {
    const slot = this.#slotOf(item.sequence)
    if (this.#slots[slot] === item) this.#slots[slot] = undefined
    else if (this.#others.get(item.sequence) === item) this.#others.delete(item.sequence)
    else return false
    this.#size--
    return true
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (const item of this.#slots) if (item !== undefined) yield item
    yield* this.#others.values()
  }

  #slotOf(sequence: number): number {
    return (sequence >>> 0) & (this.#slots.length - 1)
  }

  #grow(): void {
    const before = this.#slots
    this.#slots = new Array<T | undefined>(2 * before.length).fill(undefined)
    // Of two slots one was made of each: none is taken twice.
    for (const item of before) if (item !== undefined) this.#slots[this.#slotOf(item.sequence)] = item
  }
}
