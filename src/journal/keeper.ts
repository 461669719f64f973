import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { chooseRun, MergeDamage, MergeStuck, mergeSegments } from './compaction.ts'
import { codeOf, type Files, isFull } from './files.ts'
import { HEADER_BYTES } from './header.ts'
import type { Pipeline } from './pipeline.ts'
import { keepDamaged } from './recovery.ts'
import type { Reserve } from './reserve.ts'
import type { Segment, Segments } from './segments.ts'
import type { Tail } from './tail.ts'

export interface KeeperOptions {
  readonly files: Files
  readonly directory: string
  readonly nodeId: string
  readonly segments: Segments
  readonly pipeline: Pipeline
  readonly tail: Tail
  readonly reserve: Reserve
  readonly clock: Clock
  readonly segmentBytes: number
  readonly totalBytes: number
  fault(error: SkeinError): void
}

/** Without room for the reserve it is tried again, and writing it for nothing is work for the disk. */
const AGAIN_AFTER_MS = 1000
const AGAIN_AT_MOST_MS = 8000
/** How much of what is read compaction must gain: half in good times, little when room is short. */
const SHARE = 1 / 2
const SHARE_UNDER_PRESSURE = 1 / 8

/** Keeps the journal small: removes what is settled, puts together what is sparse, and holds the reserve. */
export class Keeper {
  readonly #options: KeeperOptions
  #running: Promise<void> | undefined
  #isKicked = false
  #isPressed = false
  #isStuck = false
  #isStopped = false
  #cancelAgain: (() => void) | undefined
  #againAfterMs = AGAIN_AFTER_MS
  #merges = 0
  /**
   * Paths of files that mean nothing any more and may still be there, after a power cut at least. They go before
   * anything else does: what was put together in another segment would mean something again without that one.
   */
  #garbage: string[]

  constructor(options: KeeperOptions, garbage: readonly string[]) {
    this.#options = options
    this.#garbage = [...garbage]
  }

  get merges(): number {
    return this.#merges
  }

  /** There may be something to do. */
  kick(): void {
    if (this.#isStopped) return
    this.#isKicked = true
    this.#running ??= Promise.resolve().then(() => this.#run())
  }

  /** Room is short: compaction is worth more than usual. */
  press(): void {
    this.#isPressed = true
    this.kick()
  }

  /** Resolves when nothing is under way any more. What waits for the pipeline ends when that is closed. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelAgain?.()
    await this.#running
  }

  async #run(): Promise<void> {
    while (this.#isKicked && !this.#isStopped) {
      this.#isKicked = false
      try {
        while (!this.#isStopped && (await this.#step())) {}
        this.#isPressed = false
      } catch (error) {
        this.#fail(error)
      }
    }
    this.#running = undefined
  }

  /** Does one thing, the most useful first; answers whether there may be more. */
  async #step(): Promise<boolean> {
    const { segments, pipeline, tail, reserve } = this.#options
    await this.#sweep()
    // Where none can be begun the last one stays: it says which sequences were given out.
    const last = tail.active ?? segments.list.at(-1)
    const sealed = segments.list.filter((segment) => segment !== last)
    const empty = sealed.filter((segment) => segment.index.live === 0 && !segments.isNeeded(segment))
    if (empty.length > 0) return await this.#retire(empty)
    if (await this.#compact(sealed)) return true
    if (this.#isShort() && this.#isActiveSparse() && (await pipeline.rotate())) return true
    const wasHeld = reserve.isHeld
    if (!(await reserve.fill())) this.#again()
    else if (pipeline.isFull) {
      // There was room for the reserve, or only trying shows whether there is room for anything.
      if (wasHeld) this.#again()
      else pipeline.hasRoom()
    }
    return false
  }

  #again(): void {
    if (this.#isStopped || this.#cancelAgain !== undefined) return
    this.#cancelAgain = this.#options.clock.after(this.#againAfterMs, () => {
      this.#cancelAgain = undefined
      if (this.#options.reserve.isHeld) this.#options.pipeline.hasRoom()
      this.kick()
    })
    this.#againAfterMs = Math.min(2 * this.#againAfterMs, AGAIN_AT_MOST_MS)
  }

  #isShort(): boolean {
    const { pipeline, segments, totalBytes, segmentBytes } = this.#options
    return this.#isPressed || pipeline.isFull || segments.bytes > 0.75 * (totalBytes - segmentBytes)
  }

  /** Most of what was appended to the active segment is settled, and nothing else would ever free it. */
  #isActiveSparse(): boolean {
    const { tail, segmentBytes } = this.#options
    const { active } = tail
    if (active === undefined || active.index.count === 0) return false
    const { index } = active
    const records = index.boundAt(index.count - 1) - index.offsetAt(0)
    return records > segmentBytes / 8 && index.liveBytes * 2 < records
  }

  async #retire(empty: readonly Segment[]): Promise<boolean> {
    const { files, directory, segments } = this.#options
    // That they are settled has to outlast them, or a reader would take their records for lost.
    if (!(await this.#record())) return false
    for (const segment of empty) {
      await segment.unused()
      if (segment.isDamaged) await keepDamaged(files, directory, segment.name)
      this.#garbage.push(segment.path)
      segments.replace([segment])
    }
    await this.#sweep()
    this.#options.reserve.grow()
    this.#againAfterMs = AGAIN_AFTER_MS
    return true
  }

  /** Makes durable what was settled. On a full disk that can wait: nothing else would make room for saying so. */
  async #record(): Promise<boolean> {
    const { pipeline } = this.#options
    if ((await pipeline.sync()) || pipeline.isFull) return true
    this.#again()
    return false
  }

  async #compact(sealed: readonly Segment[]): Promise<boolean> {
    const { segments, segmentBytes, totalBytes } = this.#options
    if (this.#isStuck) return false
    const candidates = sealed.map((segment) => ({
      bytes: segment.bytes,
      liveBytes: segment.index.liveBytes,
      firstSequence: segment.index.firstSequence,
      lastSequence: segment.index.lastSequence,
      isMovable: !segment.isDamaged && !segments.isNeeded(segment),
    }))
    const run = chooseRun(candidates, {
      segmentBytes,
      roomBytes: Math.max(HEADER_BYTES, totalBytes - segments.bytes),
      share: this.#isShort() ? SHARE_UNDER_PRESSURE : SHARE,
    })
    if (run !== undefined) return await this.#merge(sealed.slice(run.from, run.to + 1))
    // Written anew it says itself where it ends, and the segment after it is free.
    const overlong = sealed.find((segment) => segment.isOverlong && !segment.isDamaged)
    return overlong !== undefined && (await this.#merge([overlong]))
  }

  /** Answers whether there may be more to do. */
  async #merge(run: readonly Segment[]): Promise<boolean> {
    const { segments, reserve } = this.#options
    let merged: Segment | undefined
    try {
      merged = await mergeSegments(run, {
        ...this.#options,
        record: () => this.#record(),
        isStopped: () => this.#isStopped,
      })
    } catch (error) {
      if (isFull(error) && (await reserve.release())) return true
      throw error
    }
    if (merged === undefined) return false
    const { index } = merged
    for (const source of run) {
      for (let at = 0; at < source.index.count; at++) {
        const sequence = source.index.sequenceAt(at)
        if (!source.index.isLive(at)) index.settle(sequence, sequence)
      }
    }
    segments.replace(run, merged)
    this.#merges++
    for (const source of run) {
      await source.unused()
      this.#garbage.push(source.path)
    }
    await this.#sweep()
    return true
  }

  async #sweep(): Promise<void> {
    if (this.#garbage.length === 0) return
    const { files, directory } = this.#options
    for (const path of this.#garbage) await remove(files, path)
    await files.syncDirectory(directory)
    this.#garbage = []
  }

  #fail(error: unknown): void {
    if (error instanceof MergeDamage) {
      error.segment.isDamaged = true
      this.#isKicked = true
    }
    if (error instanceof MergeStuck) this.#isStuck = true
    this.#again()
    if (isFull(error)) return
    this.#options.fault(
      error instanceof SkeinError
        ? error
        : new SkeinError(
            'JOURNAL_FAILED',
            `tidy up "${this.#options.directory}": ${messageOf(error)}; it is tried again`,
            { cause: error },
          ),
    )
  }
}

const remove = async (files: Files, path: string): Promise<void> => {
  try {
    await files.remove(path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
  }
}
