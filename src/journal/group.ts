import { addRange, normalise, type Ranges } from './ranges.ts'
import { bodyBytesAt, putHead, sealRecord, sequenceAt, spanOf } from './record.ts'
import type { SegmentIndex } from './segment-index.ts'

/** What a record's body is made of, one after the other; a text is written as UTF-8. */
export type Parts = readonly (Uint8Array | string)[]

const FIRST_BYTES = 64 * 1024

/** A promise with its ends at hand; nobody has to wait for it. */
export class Deferred<T> {
  readonly promise: Promise<T>
  #resolve!: (value: T) => void
  #reject!: (error: unknown) => void

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.promise.catch(() => {})
  }

  resolve(value: T): void {
    this.#resolve(value)
  }

  reject(error: unknown): void {
    this.#reject(error)
  }
}

/** Records that are written, and made durable, together. They stand in memory as they will in the file. */
export class Group {
  #buffer: Buffer
  #bytes = 0
  readonly first: number
  #last: number
  /** Where in the buffer those stand that may use the reserve. */
  #kept: number[] = []
  /** What is settled as soon as the group is durable. */
  readonly replaced: number[] = []
  readonly durable = new Deferred<void>()
  /** The same for those that may use the reserve: they can succeed where others are refused. */
  readonly keptDurable = new Deferred<void>()

  constructor(first: number, buffer: Buffer | undefined) {
    this.first = first
    this.#last = first - 1
    this.#buffer = buffer ?? Buffer.allocUnsafe(FIRST_BYTES)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The last sequence in it. */
  get last(): number {
    return this.#last
  }

  get hasKept(): boolean {
    return this.#kept.length > 0
  }

  /** The records as they go into the file; valid until the buffer is used again. */
  get records(): Buffer {
    return this.#buffer.subarray(0, this.#bytes)
  }

  get buffer(): Buffer {
    return this.#buffer
  }

  add(sequence: number, type: number, parts: Parts, bodyBytes: number, isKept: boolean): void {
    const at = this.#bytes
    const end = at + spanOf(bodyBytes)
    if (end > this.#buffer.length) this.#grow(end)
    const buffer = this.#buffer
    if (isKept) this.#kept.push(at)
    let to = putHead(buffer, at, bodyBytes, sequence, type)
    for (const part of parts) {
      if (typeof part === 'string') to += buffer.write(part, to, 'utf8')
      else {
        buffer.set(part, to)
        to += part.length
      }
    }
    while (to < end) buffer[to++] = 0
    this.#bytes = end
    this.#last = sequence
  }

  /** Fills in the CRCs for where the group is about to be written. */
  seal(salt: number, offset: number): void {
    for (let at = 0; at < this.#bytes; at += spanOf(bodyBytesAt(this.#buffer, at))) {
      sealRecord(this.#buffer, at, salt, offset + at)
    }
  }

  /** Says of each record where it stands now. */
  place(index: SegmentIndex, offset: number): void {
    for (let at = 0; at < this.#bytes; ) {
      const next = at + spanOf(bodyBytesAt(this.#buffer, at))
      index.push(sequenceAt(this.#buffer, at), offset + at, offset + next)
      at = next
    }
  }

  /** Drops all but those that may use the reserve; answers the sequences of the others. */
  refuse(error: unknown): number[] {
    const refused: number[] = []
    let to = 0
    const kept = new Set(this.#kept)
    this.#kept = []
    for (let at = 0; at < this.#bytes; ) {
      const next = at + spanOf(bodyBytesAt(this.#buffer, at))
      if (kept.has(at)) {
        this.#kept.push(to)
        this.#buffer.copyWithin(to, at, next)
        to += next - at
      } else {
        const sequence = sequenceAt(this.#buffer, at)
        addRange(refused, sequence, sequence)
      }
      at = next
    }
    this.#bytes = to
    this.durable.reject(error)
    return refused
  }

  #grow(bytes: number): void {
    const grown = Buffer.allocUnsafe(Math.max(bytes, 2 * this.#buffer.length))
    this.#buffer.copy(grown, 0, 0, this.#bytes)
    this.#buffer = grown
  }
}

/** The bytes of a record's body. */
export const bytesOf = (parts: Parts): number => {
  let bytes = 0
  for (const part of parts) bytes += typeof part === 'string' ? Buffer.byteLength(part) : part.length
  return bytes
}

export interface Batch {
  readonly ranges: Ranges
  /** True when it is recorded, false when the journal was closed without that. */
  readonly recorded: Deferred<boolean>
}

/** What was settled and is not yet recorded: it waits for the next group to take it along. */
export class Settlements {
  #pairs: number[] = []
  #recorded = new Deferred<boolean>()

  get count(): number {
    return this.#pairs.length / 2
  }

  add(from: number, to: number): Promise<boolean> {
    const last = this.#pairs.length - 1
    if (last > 0 && this.#pairs[last] === from - 1) this.#pairs[last] = to
    else this.#pairs.push(from, to)
    return this.#recorded.promise
  }

  take(): Batch {
    const batch = { ranges: normalise(this.#pairs), recorded: this.#recorded }
    this.#pairs = []
    this.#recorded = new Deferred()
    return batch
  }

  /** It could not be written: it waits on, with what has come since. */
  putBack(batch: Batch): void {
    void this.#recorded.promise.then((isRecorded) => batch.recorded.resolve(isRecorded))
    for (let at = 0; at < batch.ranges.length; at += 2)
      this.#pairs.push(batch.ranges[at]!, batch.ranges[at + 1]!)
  }
}
