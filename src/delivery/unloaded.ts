import type { Copy } from './places.ts'

export interface UnloadedOptions {
  load(sequences: readonly number[]): Promise<(Copy | undefined)[]>
  /** It is not kept in memory: it is loaded again when its turn comes. */
  unloaded(copy: Copy): void
  /** One that cannot be read any more. */
  lost(): void
}

/** What is owed and not in memory is known by its sequence, and read when its turn comes. */
export class Unloaded {
  readonly #options: UnloadedOptions
  /** What has ended before it was read. */
  readonly #dropped = new Set<number>()
  #count = 0

  constructor(options: UnloadedOptions) {
    this.#options = options
  }

  /** So many were found in the journal. */
  restore(count: number): void {
    this.#count += count
  }

  /** Answers by which number it will be read. */
  add(copy: Copy): number {
    this.#count++
    this.#options.unloaded(copy)
    return copy.sequence
  }

  /** It has ended, whether it is in memory or not. */
  drop(sequence: number): void {
    if (this.#count > 0) this.#dropped.add(sequence)
  }

  isDropped(sequence: number): boolean {
    return this.#dropped.has(sequence)
  }

  /** Those of them that are still owed. @throws where the disk does not show them now: they are to be read again */
  async read(sequences: readonly number[]): Promise<Copy[]> {
    const copies = await this.#options.load(sequences)
    this.#count -= sequences.length
    const owed: Copy[] = []
    for (const [at, copy] of copies.entries()) {
      if (this.#dropped.delete(sequences[at]!)) continue
      if (copy === undefined) this.#options.lost()
      else owed.push(copy)
    }
    // Not before: something of this very load may have been dropped meanwhile.
    if (this.#count === 0) this.#dropped.clear()
    return owed
  }
}

/** Sequences in order, of which there may be very many: put in at the end, taken from the front. */
export class SequenceQueue {
  #sequences: number[] = []
  #head = 0

  get length(): number {
    return this.#sequences.length - this.#head
  }

  push(sequence: number): void {
    this.#sequences.push(sequence)
  }

  append(sequences: readonly number[]): void {
    this.#sequences = [...this, ...sequences]
    this.#head = 0
  }

  first(count: number): number[] {
    return this.#sequences.slice(this.#head, this.#head + count)
  }

  /** Takes so many from the front. */
  shift(count: number): void {
    this.#head += count
    if (this.#head < this.#sequences.length && this.#head <= 65_536) return
    this.#sequences = this.#sequences.slice(this.#head)
    this.#head = 0
  }

  includes(sequence: number): boolean {
    return this.#sequences.includes(sequence, this.#head)
  }

  *[Symbol.iterator](): IterableIterator<number> {
    for (let at = this.#head; at < this.#sequences.length; at++) yield this.#sequences[at]!
  }
}
