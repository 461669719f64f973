/** Chance that repeats itself: the same seed gives the same numbers in the same order, on every machine. */
export class Chance {
  #a: number
  #b: number
  #c: number
  #d = 1

  constructor(seed: number) {
    const mixed = splitmix(seed)
    this.#a = mixed()
    this.#b = mixed()
    this.#c = mixed()
    // Its first numbers are still alike for seeds that are.
    for (let i = 0; i < 12; i++) this.next()
  }

  /** From 0 to below 1 (sfc32). */
  next(): number {
    const sum = (this.#a + this.#b + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return (sum >>> 0) / 2 ** 32
  }

  between(least: number, most: number): number {
    return least + (most - least) * this.next()
  }

  /** Nothing is drawn for what never happens, so that a fault that is off costs nothing. */
  happens(probability: number): boolean {
    return probability > 0 && this.next() < probability
  }

  /** Another sequence of numbers, of which the draws from this one change nothing. */
  fork(): Chance {
    return new Chance(this.next() * 2 ** 32)
  }
}

/** Spreads a seed over as many words as are asked for (splitmix32). */
const splitmix = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let word = state ^ (state >>> 16)
    word = Math.imul(word, 0x21f0aaad)
    word ^= word >>> 15
    word = Math.imul(word, 0x735a2d97)
    return word ^ (word >>> 15)
  }
}
