/** Things by prefixes of bytes: which of them match a topic costs one look-up for each length that a prefix has. */
export class Prefixes<T> {
  readonly #byPrefix = new Map<string, T>()
  /** How many prefixes there are of each length. */
  readonly #lengths = new Map<number, number>()

  keys(): string[] {
    return [...this.#byPrefix.keys()]
  }

  get(prefix: string): T | undefined {
    return this.#byPrefix.get(prefix)
  }

  set(prefix: string, thing: T): void {
    if (!this.#byPrefix.has(prefix)) this.#lengths.set(prefix.length, this.#count(prefix) + 1)
    this.#byPrefix.set(prefix, thing)
  }

  delete(prefix: string): void {
    if (!this.#byPrefix.delete(prefix)) return
    const count = this.#count(prefix) - 1
    if (count > 0) this.#lengths.set(prefix.length, count)
    else this.#lengths.delete(prefix.length)
  }

  /** Whatever stands under a prefix of this topic. */
  matching(topic: Buffer): T[] {
    const found: T[] = []
    for (const length of this.#lengths.keys()) {
      if (length > topic.length) continue
      const thing = this.#byPrefix.get(topic.toString('latin1', 0, length))
      if (thing !== undefined) found.push(thing)
    }
    return found
  }

  #count(prefix: string): number {
    return this.#lengths.get(prefix.length) ?? 0
  }
}
