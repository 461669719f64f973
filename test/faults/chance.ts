/** Chance that can be had again: the same seed, the same choices. */
export interface Chance {
  /** A whole number from 0 to below `limit`. */
  below(limit: number): number
  between(least: number, most: number): number
  /** True once in so many. */
  one(inMany: number): boolean
}

/** mulberry32 */
export const chanceOf = (seed: number): Chance => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number): number => Math.floor(next() * limit)
  return {
    below,
    between: (least, most) => least + next() * (most - least),
    one: (inMany) => below(inMany) === 0,
  }
}
