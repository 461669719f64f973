import { FilterSet } from '../protocol/filters.ts'

/**
 * Batches that may be on their way to one subscriber. Half the high-water mark: libzmq tells the sender that room
 * came free only once per half of it, so this much always fits and is never dropped.
 */
export const WINDOW_BATCHES = 32
/** A subscriber reports this often, so that a window's rest unreported is not mistaken for being slow. */
export const REPORT_BATCHES = 8
export const REPORT_BYTES = 512 * 1024
/** … or when reading these took long, so that a steady slow reader is not mistaken for a stuck one. */
export const REPORT_MS = 5

/** A busy machine takes a process off its core for longer than 20 ms: where only the publisher waits, that is no fault. */
const ALONE_PATIENCE = 10
const CAUGHT_UP_BATCHES = WINDOW_BATCHES / 4

/**
 * One subscriber as its publisher sees it: what it listens to, and how far behind it is. XPUB tells neither, so
 * subscribers report the number of the last batch they read.
 */
export class Follower {
  readonly id: string
  readonly patterns: readonly string[]
  readonly revision: number
  /** Number of the interest whose barrier was answered last; nothing is accounted before. */
  confirmed = -1
  /** The barrier that it was confirmed by: when its socket no longer listens to it, the connection is gone. */
  barrier: Buffer | undefined
  isListening = false
  /** Too slow for too long: batches are sent without waiting for it, and lost to it while it is full. */
  dropping = false
  missed = 0
  readonly #filters: FilterSet
  readonly #ring = new Float64Array(WINDOW_BATCHES)
  #head = 0
  #length = 0
  #fullSince = 0
  #progressAt = 0
  #heldMs = 0

  constructor(id: string, revision: number, patterns: readonly string[], before?: Follower) {
    this.id = id
    this.revision = revision
    this.patterns = patterns
    this.#filters = FilterSet.of(patterns)
    if (before === undefined) return
    this.confirmed = before.confirmed
    this.barrier = before.barrier
    this.isListening = before.isListening
    this.dropping = before.dropping
    this.missed = before.missed
    this.#ring = before.#ring
    this.#head = before.#head
    this.#length = before.#length
  }

  /** Whether its socket filter lets this topic pass; `frame` is the topic frame as latin1. */
  hears(frame: string): boolean {
    return this.#filters.passes(frame)
  }

  /** Its latest interest stands behind an answered barrier. */
  get isConfirmed(): boolean {
    return this.confirmed >= this.revision
  }

  get behind(): number {
    return this.#length
  }

  get last(): number {
    return this.#length === 0 ? 0 : this.#ring[(this.#head + this.#length - 1) % WINDOW_BATCHES]!
  }

  get isFull(): boolean {
    return this.#length === WINDOW_BATCHES
  }

  /** A batch is on its way to it. While it is dropping the oldest are forgotten: only the newest count for catching up. */
  sent(number: number): void {
    if (this.#length === WINDOW_BATCHES) this.#head = (this.#head + 1) % WINDOW_BATCHES
    else this.#length++
    this.#ring[(this.#head + this.#length - 1) % WINDOW_BATCHES] = number
  }

  /** It has read every batch up to this number. */
  reported(number: number, now: number): void {
    const before = this.#length
    while (this.#length > 0 && this.#ring[this.#head]! <= number) {
      this.#head = (this.#head + 1) % WINDOW_BATCHES
      this.#length--
    }
    if (this.#length < before) this.#progressAt = now
    if (this.#length <= WINDOW_BATCHES / 2) {
      this.#fullSince = 0
      this.#heldMs = 0
    }
    if (this.#length <= CAUGHT_UP_BATCHES) this.dropping = false
  }

  /**
   * Full, and a batch waits for it: is it time to go on without it? Either it has read nothing for `patienceMs` (for
   * longer while nobody else waits), or it alone has held up others, who had nothing left to read, for that long and
   * most of the time.
   */
  judge(now: number, elapsedMs: number, othersHungry: boolean, patienceMs: number): void {
    if (this.#fullSince === 0) {
      this.#fullSince = now
      this.#progressAt = now
      return
    }
    if (othersHungry) this.#heldMs += elapsedMs
    const stuck = now - this.#progressAt >= (othersHungry ? patienceMs : ALONE_PATIENCE * patienceMs)
    const holdsUp = this.#heldMs >= patienceMs && this.#heldMs >= 0.75 * (now - this.#fullSince)
    if (stuck || holdsUp) this.dropping = true
  }
}
