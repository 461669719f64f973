import { type File, readAll } from './files.ts'
import { HEADER_BYTES } from './header.ts'
import { addRange, type Ranges } from './ranges.ts'
import {
  bodyBytesAt,
  decodeNote,
  HEAD_BYTES,
  isPlausible,
  isSealed,
  NOTE,
  NOTE_TYPE,
  sequenceAt,
  spanOf,
  typeAt,
} from './record.ts'
import type { SegmentIndex } from './segment-index.ts'

const WINDOW_BYTES = 1024 * 1024
/** What cannot be read is looked at in pieces of this size. */
const PAGE_BYTES = 4096
/** A record behind a damaged part is one of the next so many, or none: a cheap test before its CRC. */
const SEARCH_AHEAD = 0x1_0000_0000

/** A part of a segment in which nothing can be read, or nothing makes sense. */
export interface Hole {
  readonly from: number
  readonly to: number
}

/** What the notes of a segment say, and where it is damaged. Flat numbers: there may be a note for each record. */
export interface Scan {
  readonly holes: readonly Hole[]
  /** The disk refused to show some of it: what it holds may be there the next time. */
  readonly isUnreadable: boolean
  /** What was owed when the segment was begun: the ranges of its first note, and the last sequence before it. */
  readonly owed: { readonly sequence: number; readonly ranges: Ranges } | undefined
  /** `[offset of the note, from, to, …]` */
  readonly settled: readonly number[]
  /** `[offset of the note, last sequence before it, …]` */
  readonly marks: readonly number[]
  /** Everything before this was accepted for good. */
  readonly accepted: number
  /** When the last note was written, or 0. */
  readonly wallMs: number
}

/** A window on a file, moved forward. */
class Window {
  readonly #file: File
  readonly #end: number
  buffer: Buffer
  /** Where the window begins in the file, and how much of it is filled. */
  base = 0
  length = 0
  isUnreadable = false

  constructor(file: File, end: number) {
    this.#file = file
    this.#end = end
    this.buffer = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, Math.max(end, PAGE_BYTES)))
  }

  holds(at: number, bytes: number): boolean {
    return at >= this.base && at + bytes <= this.base + this.length
  }

  /** Afterwards the window holds these bytes, as far as the file has them; behind its end they are zeros. */
  async move(at: number, bytes: number): Promise<void> {
    if (bytes > this.buffer.length) this.buffer = Buffer.allocUnsafe(bytes)
    else if (this.buffer.length > WINDOW_BYTES && bytes <= WINDOW_BYTES)
      this.buffer = Buffer.allocUnsafe(WINDOW_BYTES)
    const length = Math.min(this.buffer.length, this.#end - at)
    const view = this.buffer.subarray(0, length)
    this.base = at
    this.length = length
    try {
      view.fill(0, await readAll(this.#file, view, at))
    } catch {
      await this.#readPages(view, at)
    }
  }

  async #readPages(view: Buffer, at: number): Promise<void> {
    for (let from = 0; from < view.length; from += PAGE_BYTES) {
      const page = view.subarray(from, from + PAGE_BYTES)
      try {
        page.fill(0, await readAll(this.#file, page, at + from))
      } catch {
        page.fill(0)
        this.isUnreadable = true
      }
    }
  }
}

/**
 * Reads a segment from its header to `end`: fills the index and collects notes and holes. A record counts if its CRC is
 * right for its place and its sequence comes after the ones before it.
 */
export const scanSegment = async (
  file: File,
  salt: number,
  end: number,
  index: SegmentIndex,
  after: number,
): Promise<Scan> => {
  const window = new Window(file, end)
  const holes: Hole[] = []
  const settled: number[] = []
  const marks: number[] = []
  let owed: Scan['owed']
  let accepted = 0
  let wallMs = 0
  let last = after
  let at = HEADER_BYTES

  /** Takes the record at `at`, if there is one; answers where it ends, or 0. */
  const take = (offset: number): number => {
    const { buffer } = window
    const position = offset - window.base
    const bodyBytes = bodyBytesAt(buffer, position)
    const sequence = sequenceAt(buffer, position)
    const isNote = typeAt(buffer, position) === NOTE_TYPE
    if (isNote ? sequence < last : sequence <= last) return 0
    if (!isSealed(buffer, position, salt, offset)) return 0
    const next = offset + spanOf(bodyBytes)
    if (isNote) {
      const note = decodeNote(buffer, position + HEAD_BYTES, position + HEAD_BYTES + bodyBytes)
      if (note === undefined) return 0
      accepted = Math.max(accepted, note.accepted)
      wallMs = note.wallMs
      marks.push(offset, sequence)
      const { kind, ranges } = note
      if (kind === NOTE.owed) owed = { sequence, ranges }
      else for (let n = 0; n < ranges.length; n += 2) settled.push(offset, ranges[n]!, ranges[n + 1]!)
    } else {
      if (!index.fits(sequence)) return 0
      index.push(sequence, offset, next)
    }
    last = sequence
    return next
  }

  const takeAt = async (offset: number): Promise<number> => {
    if (end - offset < HEAD_BYTES) return 0
    if (!window.holds(offset, HEAD_BYTES)) await window.move(offset, HEAD_BYTES)
    if (!isPlausible(window.buffer, offset - window.base, end - offset)) return 0
    const span = spanOf(bodyBytesAt(window.buffer, offset - window.base))
    if (!window.holds(offset, span)) await window.move(offset, span)
    return take(offset)
  }

  /** Whether a record may begin there that comes soon after the last one. */
  const isNear = async (offset: number): Promise<boolean> => {
    if (!window.holds(offset, HEAD_BYTES)) await window.move(offset, HEAD_BYTES)
    const position = offset - window.base
    if (!isPlausible(window.buffer, position, end - offset)) return false
    const sequence = sequenceAt(window.buffer, position)
    return sequence >= last && (last === 0 || sequence - last < SEARCH_AHEAD)
  }

  let from = -1
  while (at < end) {
    const next = from === -1 || (await isNear(at)) ? await takeAt(at) : 0
    if (next === 0) {
      if (from === -1) from = at
      at = Math.min(at + 8, end)
      continue
    }
    if (from !== -1) holes.push({ from, to: at })
    from = -1
    at = next
  }
  if (from !== -1) holes.push({ from, to: end })
  return { holes, isUnreadable: window.isUnreadable, owed, settled, marks, accepted, wallMs }
}

/** The sequences of an index, as ranges. */
export const sequencesOf = (index: SegmentIndex): number[] => {
  const ranges: number[] = []
  for (let at = 0; at < index.count; at++) {
    const sequence = index.sequenceAt(at)
    addRange(ranges, sequence, sequence)
  }
  return ranges
}
