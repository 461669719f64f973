const FIRST_ROOM = 64
/** Sequences that are further apart than this do not go into one segment. */
export const MOST_SPREAD = 0xffff_ffff

/**
 * Where the records of one segment stand, and which of them are settled: nine bytes a record, so that a million owed
 * ones are kept in mind without their bodies.
 */
export class SegmentIndex {
  #base = -1
  #sequences = new Uint32Array(FIRST_ROOM)
  #offsets = new Uint32Array(FIRST_ROOM)
  #settled = new Uint8Array(FIRST_ROOM)
  #count = 0
  #live = 0
  #liveBytes = 0
  /** Where the last record ends. */
  #end = 0

  get count(): number {
    return this.#count
  }

  get live(): number {
    return this.#live
  }

  get liveBytes(): number {
    return this.#liveBytes
  }

  get firstSequence(): number {
    return this.#base
  }

  get lastSequence(): number {
    return this.#count === 0 ? -1 : this.sequenceAt(this.#count - 1)
  }

  fits(sequence: number): boolean {
    return this.#count === 0 || sequence - this.#base <= MOST_SPREAD
  }

  /** Records are added in the order in which they stand. */
  push(sequence: number, offset: number, end: number): void {
    if (this.#count === this.#offsets.length) this.#grow()
    if (this.#count === 0) this.#base = sequence
    // A note stands between: it counts as the record's before it, here as in boundAt.
    else if (this.#settled[this.#count - 1] === 0) this.#liveBytes += offset - this.#end
    this.#sequences[this.#count] = sequence - this.#base
    this.#offsets[this.#count] = offset
    this.#count++
    this.#live++
    this.#liveBytes += end - offset
    this.#end = end
  }

  sequenceAt(ordinal: number): number {
    return this.#base + this.#sequences[ordinal]!
  }

  offsetAt(ordinal: number): number {
    return this.#offsets[ordinal]!
  }

  /** No record reaches behind this; a note may stand before it. */
  boundAt(ordinal: number): number {
    return ordinal + 1 < this.#count ? this.#offsets[ordinal + 1]! : this.#end
  }

  isLive(ordinal: number): boolean {
    return this.#settled[ordinal] === 0
  }

  /** The ordinal of the first record that is not before this sequence. */
  lowerBound(sequence: number): number {
    if (this.#count === 0 || sequence <= this.#base) return 0
    const relative = sequence - this.#base
    // Without gaps the ordinal is the distance; gaps only bring records nearer to the beginning.
    let high = Math.min(this.#count, relative)
    if (high < this.#count && this.#sequences[high] === relative) return high
    let low = 0
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#sequences[middle]! < relative) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The ordinal of this sequence, or -1. */
  find(sequence: number): number {
    const ordinal = this.lowerBound(sequence)
    return ordinal < this.#count && this.sequenceAt(ordinal) === sequence ? ordinal : -1
  }

  /** Answers how many of them were live. */
  settle(from: number, to: number): number {
    let settled = 0
    for (let at = this.lowerBound(from); at < this.#count && this.sequenceAt(at) <= to; at++) {
      if (this.#settled[at] !== 0) continue
      this.#settled[at] = 1
      this.#liveBytes -= this.boundAt(at) - this.#offsets[at]!
      settled++
    }
    this.#live -= settled
    return settled
  }

  /** Forgets the records from this offset on. */
  cut(offset: number): void {
    while (this.#count > 0 && this.#offsets[this.#count - 1]! >= offset) {
      const last = this.#count - 1
      if (this.#settled[last] === 0) {
        this.#live--
        this.#liveBytes -= this.#end - this.#offsets[last]!
      }
      this.#settled[last] = 0
      this.#end = this.#offsets[last]!
      this.#count = last
    }
  }

  #grow(): void {
    const room = 2 * this.#offsets.length
    const sequences = new Uint32Array(room)
    const offsets = new Uint32Array(room)
    const settled = new Uint8Array(room)
    sequences.set(this.#sequences)
    offsets.set(this.#offsets)
    settled.set(this.#settled)
    this.#sequences = sequences
    this.#offsets = offsets
    this.#settled = settled
  }
}
