import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { Deferred, Group, type Parts, Settlements } from './group.ts'
import { normalise, type Ranges } from './ranges.ts'
import { encodeNote, NOTE, noteBound, sealRecord, spanOf } from './record.ts'
import type { Reserve } from './reserve.ts'
import type { Segments } from './segments.ts'
import type { Tail } from './tail.ts'

export interface PipelineOptions {
  readonly tail: Tail
  readonly segments: Segments
  readonly reserve: Reserve
  readonly clock: Clock
  /** A group that has reached this size is followed by the next. */
  readonly groupBytes: number
  /** Nothing is ever read again by another process, so nothing is noted for it. */
  readonly isVolatile: boolean
  /** The disk has no room. */
  full(): void
  fault(error: SkeinError): void
}

export interface Appended {
  readonly sequence: number
  /** Resolves when the record is as durable as the journal promises; nobody has to wait for it. */
  readonly durable: Promise<void>
}

/** What was settled and finds no group that takes it along is written alone after this. */
const SETTLE_AFTER_MS = 10
const SETTLE_AT_COUNT = 4096
/** A disk that failed is tried again, first after so long. */
const MEND_AFTER_MS = 1000
const MEND_AT_MOST_MS = 30_000
const RECORDED = Promise.resolve(true)
const SPARE_BUFFERS = 2
const SPARE_BYTES = 2 * 1024 * 1024

/** Group commit: one group is on its way to the disk, and what is appended meanwhile goes together with the next. */
export class Pipeline {
  readonly #options: PipelineOptions
  readonly #settlements = new Settlements()
  #next: number
  /** Everything up to here is in a segment, or was refused. */
  #written: number
  #open: Group | undefined
  #queue: Group[] = []
  #inFlight: Group | undefined
  #queuedBytes = 0
  #running: Promise<void> | undefined
  #refusal: SkeinError | undefined
  #isFlushDue = false
  #sync: Deferred<boolean> | undefined
  #isRotateDue = false
  #cancelFlush: (() => void) | undefined
  #cancelMend: (() => void) | undefined
  #mendAfterMs = MEND_AFTER_MS
  #spare: Buffer[] = []
  /** Sequences that were refused since something was last written: a reader must not miss them. */
  #voids: number[] = []
  #isClosed = false

  constructor(options: PipelineOptions, lastSequence: number) {
    this.#options = options
    this.#next = lastSequence + 1
    this.#written = lastSequence
  }

  /** Bytes that wait for the disk. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  get isFull(): boolean {
    return this.#refusal?.code === 'JOURNAL_FULL'
  }

  get isFailed(): boolean {
    return this.#refusal?.code === 'JOURNAL_FAILED'
  }

  /** @throws JOURNAL_FULL, JOURNAL_FAILED when it is known that there is no use in trying */
  append(
    type: number,
    parts: Parts,
    bodyBytes: number,
    isKept: boolean,
    replaced: number | undefined,
  ): Appended {
    const refusal = this.#refusal
    if (refusal !== undefined && (!isKept || refusal.code !== 'JOURNAL_FULL'))
      throw new SkeinError(refusal.code, refusal.message, { cause: refusal })
    const span = spanOf(bodyBytes)
    if (this.#open !== undefined && this.#open.bytes + span > this.#options.groupBytes) {
      this.#queue.push(this.#open)
      this.#open = undefined
    }
    const sequence = this.#next++
    this.#open ??= new Group(sequence, this.#spare.pop())
    const group = this.#open
    group.add(sequence, type, parts, bodyBytes, isKept)
    if (replaced !== undefined) group.replaced.push(replaced, replaced)
    this.#queuedBytes += span
    this.#kick()
    return { sequence, durable: (isKept ? group.keptDurable : group.durable).promise }
  }

  /** Resolves to true when it is recorded that these are settled, to false if the journal was closed before. */
  settle(from: number, to: number): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false)
    if (from > to) return RECORDED
    if (to > this.#written) return this.ended(to).then(() => this.settle(from, Math.min(to, this.#written)))
    this.#options.segments.settle(from, to)
    if (this.#options.isVolatile) return RECORDED
    const recorded = this.#settlements.add(from, to)
    if (this.#settlements.count >= SETTLE_AT_COUNT) this.#flush()
    else this.#cancelFlush ??= this.#options.clock.after(SETTLE_AFTER_MS, () => this.#flush())
    return recorded
  }

  /** Resolves when the group with this sequence has been written or refused. */
  async ended(sequence: number): Promise<void> {
    if (sequence <= this.#written) return
    const group = [this.#inFlight, ...this.#queue, this.#open].find(
      (each) => each !== undefined && each.last >= sequence,
    )
    if (group !== undefined) await Promise.allSettled([group.durable.promise, group.keptDurable.promise])
  }

  /** Tries once to bring to the disk what was written and settled so far; answers whether that went well. */
  sync(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false)
    this.#sync ??= new Deferred()
    this.#kick()
    return this.#sync.promise
  }

  /** Lets the active segment be followed by another. */
  rotate(): Promise<boolean> {
    this.#isRotateDue = true
    return this.sync()
  }

  hasRoom(): void {
    if (this.isFull) this.#refusal = undefined
  }

  /** Writes what waits; answers false if something could not be recorded. */
  async close(): Promise<boolean> {
    const synced = this.sync()
    this.#isClosed = true
    await this.#running
    this.#cancelFlush?.()
    this.#cancelMend?.()
    this.#settlements.take().recorded.resolve(false)
    return await synced
  }

  #flush(): void {
    this.#isFlushDue = true
    this.#kick()
  }

  #kick(): void {
    if (this.#isClosed) return
    // In a microtask: what else is appended in this turn before it comes goes along, and nothing waits for a timer.
    this.#running ??= Promise.resolve().then(() => this.#run())
  }

  async #run(): Promise<void> {
    for (;;) {
      const group = this.#queue.shift() ?? this.#open
      if (group === this.#open) this.#open = undefined
      if (group === undefined && !this.#isFlushDue && this.#sync === undefined) break
      const bytes = group?.bytes ?? 0
      this.#inFlight = group
      await this.#commit(group)
      this.#inFlight = undefined
      this.#queuedBytes -= bytes
    }
    this.#running = undefined
  }

  async #commit(group: Group | undefined): Promise<void> {
    const batch = this.#settlements.take()
    const sync = this.#sync
    this.#isFlushDue = false
    this.#sync = undefined
    this.#cancelFlush?.()
    this.#cancelFlush = undefined
    const last = group?.last ?? this.#written
    const error = await this.#attempt(group, batch.ranges, sync !== undefined)
    this.#written = last
    if (error === undefined) {
      group?.durable.resolve()
      group?.keptDurable.resolve()
      batch.recorded.resolve(true)
      this.#mended()
    } else {
      group?.durable.reject(error)
      group?.keptDurable.reject(error)
      this.#settlements.putBack(batch)
      if (group !== undefined) this.#voids.push(group.first, last)
      this.#mendLater(error)
    }
    sync?.resolve(error === undefined)
    if (group !== undefined && this.#spare.length < SPARE_BUFFERS && group.buffer.length <= SPARE_BYTES)
      this.#spare.push(group.buffer)
  }

  /** Writes the group. Without room its plain records are refused, and the rest goes on into the reserve. */
  async #attempt(group: Group | undefined, settled: Ranges, sync: boolean): Promise<SkeinError | undefined> {
    let error = await this.#write(group, settled, sync)
    if (error?.code !== 'JOURNAL_FULL') return error
    if (!this.isFull) {
      this.#refusal = error
      this.#options.fault(error)
      this.#options.full()
    }
    if (group !== undefined) {
      this.#voids.push(...group.refuse(error))
      if (settled.length === 0 && !group.hasKept && !sync) return undefined
    }
    do error = await this.#write(group, settled, sync)
    while (error?.code === 'JOURNAL_FULL' && (await this.#options.reserve.release()))
    return error
  }

  async #write(group: Group | undefined, ranges: Ranges, sync: boolean): Promise<SkeinError | undefined> {
    const { tail, segments, clock, isVolatile } = this.#options
    const before = group === undefined ? this.#written : group.first - 1
    const after = group === undefined ? this.#written : group.last
    const replaced = normalise(group?.replaced ?? [])
    const settled = this.#voids.length === 0 ? ranges : normalise([...ranges, ...this.#voids])
    try {
      if (this.#isRotateDue) {
        this.#isRotateDue = false
        await tail.rotate(before)
      }
      const bound = noteBound(settled) + (group?.bytes ?? 0) + noteBound(replaced)
      const segment = await tail.prepare(bound, before)
      const start = segment.bytes
      const pieces: Buffer[] = []
      let end = start
      const note = (ranges: Ranges, sequence: number): void => {
        const wallMs = clock.wall()
        const bytes = encodeNote({ kind: NOTE.settled, wallMs, accepted: start, ranges }, sequence)
        sealRecord(bytes, 0, segment.salt, end)
        pieces.push(bytes)
        end += bytes.length
      }
      if (!isVolatile) note(settled, before)
      const at = end
      if (group !== undefined && group.bytes > 0) {
        group.seal(segment.salt, at)
        pieces.push(group.records)
        end += group.bytes
        // Behind the records that replace them: a torn end takes both or neither.
        if (replaced.length > 0 && !isVolatile) note(replaced, after)
      }
      await tail.write(pieces, after, sync)
      group?.place(segment.index, at)
      for (let index = 0; index < replaced.length; index += 2)
        segments.settle(replaced[index]!, replaced[index + 1]!)
      this.#voids = []
      return undefined
    } catch (error) {
      if (error instanceof SkeinError) return error
      return new SkeinError('JOURNAL_UNCERTAIN', `write to the journal: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }

  #mended(): void {
    this.#mendAfterMs = MEND_AFTER_MS
    if (this.isFailed) this.#refusal = undefined
  }

  #mendLater(error: SkeinError): void {
    if (error.code !== 'JOURNAL_FULL') this.#options.fault(error)
    if (this.#options.tail.active === undefined && !this.isFull) {
      this.#refusal = new SkeinError('JOURNAL_FAILED', `append to the journal: ${error.message}`, {
        cause: error,
      })
    }
    this.#cancelMend?.()
    this.#cancelMend = this.#options.clock.after(this.#mendAfterMs, () => this.#flush())
    this.#mendAfterMs = Math.min(2 * this.#mendAfterMs, MEND_AT_MOST_MS)
  }
}
