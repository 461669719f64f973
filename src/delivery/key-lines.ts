import type { Clock } from '../clock.ts'
import type { Copy } from './places.ts'
import { SequenceQueue, type Unloaded } from './unloaded.ts'

/** Most that wait in memory behind one key, and behind all of them: a key that is not handled must not fill it. */
const LINE_MAX = 64
const BEHIND_MAX = 8192
const BEHIND_MAX_BYTES = 16 * 1024 * 1024
const LOAD_AGAIN_MS = 1000

export interface KeyLinesOptions {
  readonly clock: Clock
  readonly unloaded: Unloaded
  /** The first of its key, which was not in memory when its turn came. */
  next(copy: Copy): void
  fault(error: unknown): void
}

interface Line {
  /** The first is in a member's hand, or is the next to be. */
  readonly copies: Copy[]
  /** What waits behind those, and is not in memory. */
  readonly unloaded: SequenceQueue
  isLoading: boolean
}

/** Messages of one key go one at a time, in order: what waits behind the first of its key. */
export class KeyLines {
  readonly #options: KeyLinesOptions
  readonly #lines = new Map<string, Line>()
  #behind = 0
  #behindBytes = 0
  #isClosed = false

  constructor(options: KeyLinesOptions) {
    this.#options = options
  }

  /** Whether it is not the first of its line. */
  isBehind(copy: Copy): boolean {
    const line = this.#lineOf(copy)
    return line !== undefined && line.copies[0] !== copy
  }

  /** Puts it at the end of its line. */
  queue(copy: Copy): void {
    const { copies, unloaded } = this.#lineOf(copy)!
    const isFull = this.#behind >= BEHIND_MAX || this.#behindBytes >= BEHIND_MAX_BYTES
    if (unloaded.length > 0 || copies.length >= LINE_MAX || isFull) {
      unloaded.push(this.#options.unloaded.add(copy))
      return
    }
    copies.push(copy)
    this.#count(copy, 1)
  }

  /** It is the first of its key from now on. */
  open(copy: Copy): void {
    const { key } = copy.loaded.envelope
    if (key === undefined || this.#lines.has(key)) return
    this.#lines.set(key, { copies: [copy], unloaded: new SequenceQueue(), isLoading: false })
  }

  /** It is settled: answers whichever is the first of its key now, if it was before and the next is in memory. */
  leave(copy: Copy): Copy | undefined {
    const { key } = copy.loaded.envelope
    const line = this.#lineOf(copy)
    if (key === undefined || line === undefined || line.copies[0] !== copy) return undefined
    const { copies, unloaded } = line
    do {
      copies.shift()
      if (copies.length > 0) this.#count(copies[0]!, -1)
    } while (copies[0]?.state === 'settled')
    if (unloaded.length > 0 && copies.length < LINE_MAX / 4) void this.#load(key, line)
    else if (copies.length === 0) this.#lines.delete(key)
    return copies[0]
  }

  /** What of this number waits in a line, and is not in memory. */
  hasUnloaded(sequence: number): boolean {
    for (const { unloaded } of this.#lines.values()) if (unloaded.includes(sequence)) return true
    return false
  }

  *unloaded(): IterableIterator<number> {
    for (const { unloaded } of this.#lines.values()) yield* unloaded
  }

  *[Symbol.iterator](): IterableIterator<Copy> {
    for (const { copies } of this.#lines.values()) yield* copies
  }

  close(): void {
    this.#isClosed = true
  }

  async #load(key: string, line: Line): Promise<void> {
    if (line.isLoading || this.#isClosed) return
    line.isLoading = true
    const { copies, unloaded } = line
    try {
      do {
        const sequences = unloaded.first(LINE_MAX)
        const loaded = await this.#options.unloaded.read(sequences)
        unloaded.shift(sequences.length)
        const isFirst = copies.length === 0 && loaded.length > 0
        copies.push(...loaded)
        for (const copy of isFirst ? loaded.slice(1) : loaded) this.#count(copy, 1)
        if (isFirst && !this.#isClosed) this.#options.next(copies[0]!)
      } while (copies.length === 0 && unloaded.length > 0)
      line.isLoading = false
      if (copies.length === 0 && this.#lines.get(key) === line) this.#lines.delete(key)
    } catch (error) {
      this.#options.fault(error)
      this.#options.clock.after(LOAD_AGAIN_MS, () => {
        line.isLoading = false
        void this.#load(key, line)
      })
    }
  }

  /** One more is behind the first of its key, or one less. */
  #count({ loaded }: Copy, one: 1 | -1): void {
    this.#behind += one
    this.#behindBytes += one * loaded.payload.sizeBytes
  }

  #lineOf({ loaded }: Copy): Line | undefined {
    const { key } = loaded.envelope
    return key === undefined ? undefined : this.#lines.get(key)
  }
}
