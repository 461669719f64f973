import { type ErrorCode, messageOf, SkeinError } from '../errors.ts'
import { type File, type Files, isFull, type Lock, TEMPORARY, writeAll } from './files.ts'
import { HEADER_BYTES, putHeader } from './header.ts'
import { encodeNote, NOTE, sealRecord, setAccepted } from './record.ts'
import { Segment, type Segments } from './segments.ts'

export interface TailOptions {
  readonly files: Files
  readonly directory: string
  readonly nodeId: string
  readonly lock: Lock
  readonly segments: Segments
  /** A segment that has reached this size is followed by the next. */
  readonly segmentBytes: number
  readonly isSynced: boolean
  /** Nobody will ever read it again but this process. */
  readonly isVolatile: boolean
  readonly wall: () => number
}

/** Where the journal grows: the active segment, and what happens when it cannot be written or synced. */
export class Tail {
  readonly #options: TailOptions
  #active: Segment | undefined
  #file: File | undefined
  #number: number
  /** The segment that was written last, and how far it counts. */
  #previous: { readonly number: number; readonly end: number }
  #syncs = 0

  constructor(options: TailOptions, lastNumber: number) {
    this.#options = options
    this.#number = lastNumber
    const last = options.segments.list.at(-1)
    this.#previous =
      last === undefined || last.place.generation > 0
        ? { number: 0, end: 0 }
        : { number: last.place.first, end: last.bytes }
  }

  /** Undefined while no segment can be begun. */
  get active(): Segment | undefined {
    return this.#active
  }

  get syncs(): number {
    return this.#syncs
  }

  /**
   * Makes sure that the active segment has room for so many bytes more; `sequence` is the last one given out before
   * them. @throws JOURNAL_FULL, JOURNAL_FAILED, JOURNAL_LOCKED
   */
  async prepare(bytes: number, sequence: number): Promise<Segment> {
    const active = this.#active
    if (active !== undefined) {
      const isEmpty = active.index.count === 0
      if (isEmpty || active.bytes + bytes <= this.#options.segmentBytes) return active
    }
    return await this.rotate(sequence)
  }

  /** Begins the next segment. It starts with what is owed, so that nothing before it is needed to know that. */
  async rotate(sequence: number): Promise<Segment> {
    try {
      return await this.#begin(sequence)
    } catch (error) {
      throw error instanceof SkeinError ? error : refusal('begin a segment', error)
    }
  }

  /**
   * Writes what was sealed for the end of the active segment. When it resolves the bytes are as durable as the journal
   * promises. When it throws, JOURNAL_FULL and JOURNAL_FAILED say that they never count; JOURNAL_UNCERTAIN that they
   * may, until a segment can be begun that says otherwise.
   */
  async write(pieces: readonly Buffer[], sequence: number, sync: boolean): Promise<void> {
    const { segments, isSynced } = this.#options
    const segment = this.#active!
    const start = segment.bytes
    try {
      await writeAll(this.#file!, pieces, start)
    } catch (error) {
      await this.#takeBack(start, sequence, error)
    }
    if (isSynced || sync) {
      try {
        this.#syncs++
        await this.#file!.sync()
      } catch (error) {
        // The kernel has forgotten which pages are not on the disk: syncing this file again would succeed and mean nothing.
        await this.#abandon(sequence, error)
      }
    }
    segments.grow(
      segment,
      pieces.reduce((sum, piece) => sum + piece.length, 0),
    )
  }

  async close(): Promise<void> {
    await this.#leave()
  }

  /** A write failed half-way: what it left is cut off again, and nobody is told before the cut is on the disk. */
  async #takeBack(start: number, sequence: number, error: unknown): Promise<never> {
    try {
      await this.#file!.truncate(start)
      await this.#file!.sync()
    } catch {
      await this.#abandon(sequence, error)
    }
    throw refusal(`write to "${this.#active!.path}"`, error)
  }

  /**
   * The active segment is left as it is; the next one says where it ended, and that what was to be written is void. So
   * it is never JOURNAL_FULL, which would be tried again.
   */
  async #abandon(sequence: number, error: unknown): Promise<never> {
    const { path } = this.#active!
    this.#active!.isOverlong = true
    await this.#leave()
    try {
      await this.#begin(sequence)
    } catch (second) {
      throw new SkeinError(
        'JOURNAL_UNCERTAIN',
        `write to "${path}": ${messageOf(error)}; taking it back failed too (${messageOf(second)}), so it may be ` +
          'delivered or not; look after the disk',
        { cause: error },
      )
    }
    throw refusal(`write to "${path}"`, error, 'JOURNAL_FAILED')
  }

  async #leave(): Promise<void> {
    const active = this.#active
    this.#active = undefined
    this.#file = undefined
    await active?.seal()
  }

  async #begin(sequence: number): Promise<Segment> {
    const { files, directory, nodeId, lock, segments } = this.#options
    try {
      await lock.check()
    } catch (error) {
      // Somebody else writes here now.
      await this.#leave()
      throw error
    }
    const number = ++this.#number
    const place = { first: number, last: number, generation: 0 }
    const segment = new Segment(files, directory, nodeId, place, 0)
    const bytes = this.#beginning(segment, sequence)
    const temporary = `${segment.path}${TEMPORARY}`
    let file: File | undefined
    let isNamed = false
    try {
      file = await files.open(temporary, 'create')
      await writeAll(file, [bytes], 0)
      await file.sync()
      isNamed = true
      await files.rename(temporary, segment.path)
      await files.syncDirectory(directory)
    } catch (error) {
      await file?.close().catch(() => {})
      for (const path of [temporary, segment.path]) await files.remove(path).catch(() => {})
      // It may be back after a power cut and say where the active one ends: nothing may follow there.
      if (isNamed) await this.#leave()
      throw error
    }
    await this.#leave()
    segment.keep(file)
    segment.bytes = bytes.length
    segments.add(segment)
    this.#active = segment
    this.#file = file
    this.#previous = { number, end: bytes.length }
    return segment
  }

  /** Header and first note, which is there twice: no single flipped bit takes what it says. */
  #beginning(segment: Segment, sequence: number): Buffer {
    const { nodeId, segments, wall, isVolatile } = this.#options
    // It may have grown since it became the previous one.
    const last = segments.list.findLast(
      ({ place }) => place.first === this.#previous.number && place.generation === 0,
    )
    if (last !== undefined) this.#previous = { number: last.place.first, end: last.bytes }
    const ranges = isVolatile ? [] : segments.owed()
    const note = encodeNote({ kind: NOTE.owed, wallMs: wall(), accepted: 0, ranges }, sequence)
    setAccepted(note, HEADER_BYTES + 2 * note.length)
    const copy = Buffer.from(note)
    sealRecord(note, 0, segment.salt, HEADER_BYTES)
    sealRecord(copy, 0, segment.salt, HEADER_BYTES + note.length)
    segment.previous = this.#previous.number
    const header = Buffer.alloc(HEADER_BYTES)
    putHeader(header, {
      ...segment.place,
      nodeId,
      previous: this.#previous.number,
      previousEnd: this.#previous.end,
      bytes: 0,
    })
    return Buffer.concat([header, note, copy])
  }
}

/** What is told of something that was not written and never will be. */
const refusal = (
  attempt: string,
  error: unknown,
  code: ErrorCode = isFull(error) ? 'JOURNAL_FULL' : 'JOURNAL_FAILED',
): SkeinError => {
  const advice =
    code === 'JOURNAL_FULL' ? 'it goes on by itself when there is room on the disk' : 'look after the disk'
  return new SkeinError(code, `${attempt}: ${messageOf(error)}; nothing of it counts, ${advice}`, {
    cause: error,
  })
}
