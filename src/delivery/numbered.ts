const FIRST_SLOTS = 64

/** What is kept under a number that it was given here. */
export interface Numbered {
  number: number
}

/**
 * Things that wait for an answer under a rising number of 32 bits. A `Map` leaves, with each of its many rehashes, an
 * old table behind that keeps dead entries alive until a full collection; here a slot is used again in place.
 */
export class NumberedItems<T extends Numbered> {
  #slots: (T | undefined)[] = new Array<T | undefined>(FIRST_SLOTS).fill(undefined)
  #last = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Gives it the next number whose slot is free. */
  add(item: T): void {
    if (2 * this.#size >= this.#slots.length) this.#grow()
    const mask = this.#slots.length - 1
    let number = this.#last
    do number = (number + 1) >>> 0
    while (this.#slots[number & mask] !== undefined)
    this.#last = number
    item.number = number
    this.#slots[number & mask] = item
    this.#size++
  }

  get(number: number): T | undefined {
    const item = this.#slots[number & (this.#slots.length - 1)]
    return item?.number === number ? item : undefined
  }

  has(item: T): boolean {
    return this.#slots[item.number & (this.#slots.length - 1)] === item
  }

  delete(item: T): boolean {
    if (!this.has(item)) return false
    this.#slots[item.number & (this.#slots.length - 1)] = undefined
    this.#size--
    return true
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (const item of this.#slots) if (item !== undefined) yield item
  }

  #grow(): void {
    const slots = new Array<T | undefined>(2 * this.#slots.length).fill(undefined)
    for (const item of this) slots[item.number & (slots.length - 1)] = item
    this.#slots = slots
  }
}
