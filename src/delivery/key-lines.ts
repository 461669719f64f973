import type { Copy } from './places.ts'

/** Most that wait behind keys, all together: values of one key that is not handled must not fill the memory. */
const MAX_BEHIND = 32_768

/** Messages of one key go one at a time, in order: what waits behind the first of its key. */
export class KeyLines {
  /** By key; the first of a line is in a member's hand, or is the next to be. */
  readonly #lines = new Map<string, Copy[]>()
  #behind = 0

  /** Whether it is not the first of its line. */
  isBehind(copy: Copy): boolean {
    const line = this.#lineOf(copy)
    return line !== undefined && line[0] !== copy
  }

  isFirst(copy: Copy): boolean {
    return this.#lineOf(copy)?.[0] === copy
  }

  /** Puts it at the end of its line; answers false when there is no room. */
  queue(copy: Copy): boolean {
    if (this.#behind >= MAX_BEHIND) return false
    this.#behind++
    this.#lineOf(copy)!.push(copy)
    return true
  }

  /** It is the first of its key from now on. */
  open(copy: Copy): void {
    const { key } = copy.loaded.envelope
    if (key !== undefined && !this.#lines.has(key)) this.#lines.set(key, [copy])
  }

  /** It is settled: answers whichever is the first of its key now, if it was before. */
  leave(copy: Copy): Copy | undefined {
    const { key } = copy.loaded.envelope
    const line = this.#lineOf(copy)
    if (key === undefined || line === undefined || line[0] !== copy) return undefined
    line.shift()
    while (line.length > 0) {
      this.#behind--
      if (line[0]!.state !== 'settled') return line[0]
      line.shift()
    }
    this.#lines.delete(key)
    return undefined
  }

  *[Symbol.iterator](): IterableIterator<Copy> {
    for (const line of this.#lines.values()) yield* line
  }

  #lineOf({ loaded }: Copy): Copy[] | undefined {
    const { key } = loaded.envelope
    return key === undefined ? undefined : this.#lines.get(key)
  }
}
