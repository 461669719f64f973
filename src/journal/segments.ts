import type { File, Files } from './files.ts'
import { nameOf, type Place, saltOf } from './header.ts'
import { addRange, normalise, type Ranges, subtract } from './ranges.ts'
import { SegmentIndex } from './segment-index.ts'

/** One file of the journal and what is known of its records. */
export class Segment {
  readonly place: Place
  readonly name: string
  readonly path: string
  readonly salt: number
  readonly index = new SegmentIndex()
  /** How far it counts; the file may be longer. */
  bytes: number
  /** Damage was found in it: it is neither rewritten nor removed, since it may be read again one day. */
  isDamaged = false
  /** Its file is longer than it counts, and only the segment that follows it says so. */
  isOverlong = false
  /** The segment of which this one says where it ends. */
  previous = 0
  /** Owed sequences that stood in a damaged part of it. */
  lost: Ranges = []
  /** It was said to whom it concerns that little of it is live. */
  isNoted = false
  readonly #files: Files
  #open: Promise<File> | undefined
  #users = 0
  #isKept = false
  #unused: (() => void)[] = []

  constructor(files: Files, directory: string, nodeId: string, place: Place, bytes: number) {
    this.#files = files
    this.place = place
    this.name = nameOf(place)
    this.path = `${directory}/${this.name}`
    this.salt = saltOf(nodeId, place)
    this.bytes = bytes
  }

  /** It is being written: its file stays open until `seal`. */
  keep(file: File): void {
    this.#open = Promise.resolve(file)
    this.#isKept = true
    this.#users++
  }

  async seal(): Promise<void> {
    if (!this.#isKept) return
    this.#isKept = false
    await this.#leave()
  }

  /** Lends the file for reading. It is opened for that and closed afterwards: handles are few (G6). */
  async use<T>(run: (file: File) => Promise<T>): Promise<T> {
    this.#users++
    try {
      this.#open ??= this.#files.open(this.path, 'read')
      return await run(await this.#open)
    } finally {
      await this.#leave()
    }
  }

  /** Resolves when nobody reads in it. */
  async unused(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => this.#unused.push(resolve))
  }

  async #leave(): Promise<void> {
    if (--this.#users > 0) return
    const open = this.#open
    this.#open = undefined
    await open?.then((file) => file.close()).catch(() => {})
    if (this.#users === 0) for (const resolve of this.#unused.splice(0)) resolve()
  }
}

/** All segments in the order of their numbers, which is that of their sequences; the last may be the active one. */
export class Segments {
  #list: Segment[] = []
  #bytes = 0
  #sparse: () => void = () => {}
  #hasLost = false

  get list(): readonly Segment[] {
    return this.#list
  }

  /** Of all segments together; every append asks for it. */
  get bytes(): number {
    return this.#bytes
  }

  get live(): number {
    let live = 0
    for (const segment of this.#list) live += segment.index.live
    return live
  }

  get liveBytes(): number {
    let bytes = 0
    for (const segment of this.#list) bytes += segment.index.liveBytes
    return bytes
  }

  /** Calls `sparse` when a segment has become empty or sparse, or is no longer the last. */
  watch(sparse: () => void): void {
    this.#sparse = sparse
  }

  add(segment: Segment): void {
    this.#list.push(segment)
    this.#bytes += segment.bytes
    this.#sparse()
  }

  grow(segment: Segment, bytes: number): void {
    segment.bytes += bytes
    this.#bytes += bytes
  }

  /** Puts one in the place of some that stand side by side; none drops them. */
  replace(run: readonly Segment[], by?: Segment): void {
    const at = this.#list.indexOf(run[0]!)
    this.#list = this.#list.toSpliced(at, run.length, ...(by === undefined ? [] : [by]))
    this.#bytes = this.#list.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** The segment in which this sequence stands, if it does. */
  find(sequence: number): Segment | undefined {
    const segment = this.#list[this.#after(sequence) - 1]
    return segment !== undefined && segment.index.lastSequence >= sequence ? segment : undefined
  }

  /** The first segment that holds this sequence or one after it. */
  from(sequence: number): Segment | undefined {
    return this.#list
      .slice(Math.max(0, this.#after(sequence) - 1))
      .find(({ index }) => index.count > 0 && index.lastSequence >= sequence)
  }

  /** Whether only this segment says where another one ends, which is still there. */
  isNeeded({ previous }: Segment): boolean {
    return this.#list.some(
      ({ place, isOverlong }) => isOverlong && place.generation === 0 && place.first === previous,
    )
  }

  /** Of the last record that was ever placed, or 0. */
  get lastSequence(): number {
    return this.#list.findLast(({ index }) => index.count > 0)?.index.lastSequence ?? 0
  }

  /** Answers how many of them were live. */
  settle(from: number, to: number): number {
    if (this.#hasLost) for (const segment of this.#list) segment.lost = subtract(segment.lost, [from, to])
    const active = this.#list.length - 1
    let settled = 0
    for (let at = Math.max(0, this.#after(from) - 1); at <= active; at++) {
      const segment = this.#list[at]!
      const { index } = segment
      if (index.count === 0) continue
      if (index.firstSequence > to) break
      const count = index.settle(from, to)
      settled += count
      if (count === 0 || at === active) continue
      if (index.live === 0 || (!segment.isNoted && index.liveBytes * 2 < segment.bytes)) {
        segment.isNoted = true
        this.#sparse()
      }
    }
    return settled
  }

  /** Says what stood in the damaged part of a segment: it is owed until it is settled or the segment is gone. */
  lose(segment: Segment, lost: Ranges): void {
    segment.lost = lost
    this.#hasLost ||= lost.length > 0
  }

  /** What is owed, there or lost. */
  owed(): Ranges {
    const ranges: number[] = []
    for (const { index } of this.#list) {
      for (let at = 0; at < index.count; at++) {
        if (!index.isLive(at)) continue
        const sequence = index.sequenceAt(at)
        addRange(ranges, sequence, sequence)
      }
    }
    return this.#hasLost ? normalise([...ranges, ...this.#list.flatMap(({ lost }) => lost)]) : ranges
  }

  /** Which is the first segment that begins behind this sequence. */
  #after(sequence: number): number {
    let low = 0
    let high = this.#list.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#startOf(middle) <= sequence) low = middle + 1
      else high = middle
    }
    return low
  }

  /** An empty segment begins where the next one does. */
  #startOf(at: number): number {
    for (let next = at; next < this.#list.length; next++) {
      const { index } = this.#list[next]!
      if (index.count > 0) return index.firstSequence
    }
    return Number.POSITIVE_INFINITY
  }
}
