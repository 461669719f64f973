import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { isSkeinError, SkeinError } from '../errors.ts'
import { asOpenError, openDataDirectory } from './data-directory.ts'
import { diskFiles } from './disk-files.ts'
import type { Files, Lock } from './files.ts'
import { bytesOf, type Parts } from './group.ts'
import { Keeper } from './keeper.ts'
import { MemoryFiles } from './memory-files.ts'
import { type Appended, Pipeline } from './pipeline.ts'
import { type Absence, eachRecord, type JournalRecord, readRecords, type Visit } from './reading.ts'
import { MAX_BODY_BYTES, MAX_USER_TYPE, spanOf } from './record.ts'
import { type Recovery, recover } from './recovery.ts'
import { Reserve } from './reserve.ts'
import type { Segments } from './segments.ts'
import { Tail } from './tail.ts'

export interface JournalLimits {
  /** Most that the journal takes on the disk; one segment of it is kept in reserve (G6). */
  readonly totalBytes: number
  readonly segmentBytes: number
  /** Most that waits for the disk in memory. */
  readonly queuedBytes: number
}

export const JOURNAL_LIMITS: JournalLimits = {
  totalBytes: 1024 * 1024 * 1024,
  segmentBytes: 16 * 1024 * 1024,
  queuedBytes: 64 * 1024 * 1024,
}

const LEAST_SEGMENT_BYTES = 1024
const MOST_SEGMENT_BYTES = 1024 * 1024 * 1024
/** One is written, one is the reserve, and of two something can be put together. */
const LEAST_SEGMENTS = 4

/** @throws OPTION_INVALID */
export const resolveLimits = (given: Partial<JournalLimits> = {}): JournalLimits => {
  const limits = { ...JOURNAL_LIMITS, ...given }
  for (const [name, value] of Object.entries(limits)) {
    if (!Number.isSafeInteger(value) || value <= 0)
      invalid(name, value, 'a positive whole number is expected')
  }
  const { segmentBytes, totalBytes } = limits
  if (segmentBytes < LEAST_SEGMENT_BYTES || segmentBytes > MOST_SEGMENT_BYTES)
    invalid('segmentBytes', segmentBytes, `${LEAST_SEGMENT_BYTES} to ${MOST_SEGMENT_BYTES} are allowed`)
  if (totalBytes < LEAST_SEGMENTS * segmentBytes)
    invalid(
      'totalBytes',
      totalBytes,
      `at least ${LEAST_SEGMENTS} segments of ${segmentBytes} bytes are needed`,
    )
  return limits
}

const invalid = (name: string, value: unknown, rule: string): never => {
  throw new SkeinError('OPTION_INVALID', `journal limits: ${name} is ${String(value)}; ${rule}`)
}

/** What an accepted record survives: `disk` a power cut, `os` the end of the process, `memory` nothing. */
export type Durability = 'disk' | 'os' | 'memory'

export interface JournalOptions {
  /** The data directory: there exactly if `durability` is not `memory`. */
  readonly directory?: string
  readonly durability: Durability
  readonly clock: Clock
  readonly limits?: Partial<JournalLimits>
  /** The id that a new data directory gets; an existing one must have it. Random by default. */
  readonly nodeId?: string
  readonly files?: Files
  /** Is told of what goes wrong outside any call. */
  fault(error: SkeinError): void
}

export interface AppendOptions {
  /** May use the room that is kept for making room: for what buries or replaces other records. */
  readonly reserve?: boolean
  /** This record is settled exactly when the new one is durable. Implies `reserve`. */
  readonly replaces?: number
}

export interface JournalStats {
  readonly durability: Durability
  readonly segments: number
  readonly bytes: number
  readonly liveRecords: number
  readonly liveBytes: number
  /** Bytes that wait for the disk. */
  readonly queuedBytes: number
  /** Appends are refused: `full` until there is room, `failed` until the disk works. */
  readonly state: 'ok' | 'full' | 'failed'
  readonly isReserveHeld: boolean
  readonly syncs: number
  readonly merges: number
}

interface Works {
  readonly nodeId: string
  readonly options: JournalOptions
  readonly limits: JournalLimits
  readonly segments: Segments
  readonly pipeline: Pipeline
  readonly keeper: Keeper
  readonly tail: Tail
  readonly reserve: Reserve
  readonly lock: Lock
}

/** Large enough that a sync is cheap beside it, small enough to be copied and checked between two turns. */
const GROUP_BYTES = 1024 * 1024

/** Begins the numbers of a new journal somewhere: bytes of an older one in the same place never pass for its own. */
const FIRST_NUMBERS = 0x7fff_ffff

/** Records on the way to being settled, kept by one process in one directory; see README.md. */
export class Journal {
  readonly #works: Works
  #closing: Promise<boolean> | undefined

  private constructor(works: Works) {
    this.#works = works
  }

  /**
   * Takes the data directory for this process and reads what is owed. What it found damaged it says in `recovery`; it
   * serves the rest.
   * @throws JOURNAL_LOCKED, JOURNAL_DAMAGED (the id), JOURNAL_FAILED, VERSION_MISMATCH, OPTION_INVALID
   */
  static async open(options: JournalOptions): Promise<{ journal: Journal; recovery: Recovery }> {
    const limits = resolveLimits(options.limits)
    const isVolatile = options.durability === 'memory'
    if (isVolatile !== (options.directory === undefined)) {
      throw new SkeinError(
        'OPTION_INVALID',
        isVolatile
          ? `durability: 'memory' writes no files, but the directory '${options.directory}' is given`
          : `durability: '${options.durability}' needs a directory`,
      )
    }
    if (options.nodeId !== undefined && !/^[0-9a-f]{32}$/.test(options.nodeId))
      throw new SkeinError('OPTION_INVALID', `nodeId: '${options.nodeId}' is not 32 hexadecimal digits`)
    const files = options.files ?? (isVolatile ? new MemoryFiles() : diskFiles)
    const place =
      options.directory === undefined
        ? {
            nodeId: options.nodeId ?? randomBytes(16).toString('hex'),
            journal: 'journal',
            lock: await files.lock('', '', options.clock),
          }
        : await openDataDirectory(files, options.directory, options.nodeId, options.clock, options.fault)
    try {
      return await Journal.#begin(options, limits, files, place.nodeId, place.journal, place.lock)
    } catch (error) {
      await place.lock.release()
      throw asOpenError(options.directory ?? '', error)
    }
  }

  static async #begin(
    options: JournalOptions,
    limits: JournalLimits,
    files: Files,
    nodeId: string,
    directory: string,
    lock: Lock,
  ): Promise<{ journal: Journal; recovery: Recovery }> {
    const { clock, durability, fault } = options
    const { segmentBytes, totalBytes } = limits
    const isVolatile = durability === 'memory'
    const { survey, recovery } = await recover(files, directory, nodeId, fault)
    const { segments } = survey
    const reserve = new Reserve(files, directory, isVolatile ? 0 : segmentBytes)
    await reserve.find()
    const tail = new Tail(
      {
        files,
        directory,
        nodeId,
        lock,
        segments,
        segmentBytes,
        isSynced: durability === 'disk',
        isVolatile,
        wall: () => clock.wall(),
      },
      survey.lastNumber || Math.floor(clock.random() * FIRST_NUMBERS),
    )
    const pipeline = new Pipeline(
      {
        tail,
        segments,
        reserve,
        clock,
        groupBytes: Math.min(GROUP_BYTES, segmentBytes / 4),
        isVolatile,
        full: () => keeper.press(),
        fault,
      },
      survey.lastSequence,
    )
    const keeper: Keeper = new Keeper(
      {
        files,
        directory,
        nodeId,
        segments,
        pipeline,
        tail,
        reserve,
        clock,
        segmentBytes,
        totalBytes,
        fault,
      },
      survey.superseded.map((name) => `${directory}/${name}`),
    )
    segments.watch(() => keeper.kick())
    try {
      await tail.rotate(survey.lastSequence)
    } catch (error) {
      // On a full disk what is owed is served all the same: settling it makes room.
      if (!isSkeinError(error, 'JOURNAL_FULL')) throw error
      await pipeline.sync()
    }
    keeper.kick()
    const journal = new Journal({ nodeId, options, limits, segments, pipeline, keeper, tail, reserve, lock })
    return { journal, recovery }
  }

  /** Whose journal this is: the same for as long as the directory lives. */
  get nodeId(): string {
    return this.#works.nodeId
  }

  /**
   * Accepts a record, and answers its sequence: greater than any before in this process, and than that of any that was
   * ever durable. The parts are copied. Types are 1 to 239.
   * @throws JOURNAL_FULL, JOURNAL_FAILED, OUTBOX_FULL, VALUE_TOO_LARGE, CLOSED: nothing was accepted
   */
  append(type: number, parts: Parts, { reserve = false, replaces }: AppendOptions = {}): Appended {
    const { pipeline, segments, limits, keeper } = this.#works
    if (this.#closing !== undefined) throw new SkeinError('CLOSED', 'append to the journal: it is closed')
    if (!Number.isInteger(type) || type < 1 || type > MAX_USER_TYPE)
      throw new SkeinError(
        'OPTION_INVALID',
        `append to the journal: type ${type} is not 1 to ${MAX_USER_TYPE}`,
      )
    const bodyBytes = bytesOf(parts)
    const isKept = reserve || replaces !== undefined
    const mostBytes = limits.totalBytes - limits.segmentBytes / (isKept ? 2 : 1)
    if (bodyBytes > Math.min(MAX_BODY_BYTES, mostBytes))
      throw new SkeinError(
        'VALUE_TOO_LARGE',
        `append to the journal: a record of ${bodyBytes} bytes does not fit into its ${limits.totalBytes} bytes`,
      )
    const span = spanOf(bodyBytes)
    const queuedBytes = pipeline.queuedBytes + span
    if (segments.bytes + queuedBytes > mostBytes) {
      keeper.press()
      throw new SkeinError(
        'JOURNAL_FULL',
        `append to the journal: its ${limits.totalBytes} bytes hold ${segments.live} owed records; ` +
          'wait until some are settled, or raise the limit',
      )
    }
    if (queuedBytes > limits.queuedBytes && queuedBytes > span)
      throw new SkeinError(
        'OUTBOX_FULL',
        `append to the journal: ${pipeline.queuedBytes} bytes already wait for the disk; await what was appended before`,
      )
    return pipeline.append(type, parts, bodyBytes, isKept, replaces)
  }

  /**
   * Says that these are not needed any more; that holds at once, or as soon as they are written. Resolves to true when
   * it is recorded as well, so that they do not come back after a crash, and to false if the journal was closed without
   * that. It never rejects.
   */
  settle(first: number, last: number = first): Promise<boolean> {
    return this.#works.pipeline.settle(first, last)
  }

  /** One record; see `readAll`. */
  async read(sequence: number): Promise<JournalRecord | Absence> {
    return (await this.readAll([sequence]))[0]!
  }

  /** Records in the order asked for: those that stand near each other are read together. It never rejects. */
  async readAll(sequences: readonly number[]): Promise<(JournalRecord | Absence)[]> {
    const { pipeline, segments, options } = this.#works
    const highest = sequences.reduce((most, sequence) => Math.max(most, sequence), 0)
    await pipeline.ended(highest)
    return await readRecords(segments, sequences, options.fault)
  }

  /**
   * Shows every record that is owed now, in order; what is appended meanwhile does not come along. What cannot be read
   * is left out and told as a fault.
   */
  async each(visit: Visit): Promise<void> {
    await eachRecord(this.#works.segments, visit, this.#works.options.fault)
  }

  stats(): JournalStats {
    const { options, segments, pipeline, keeper, tail, reserve } = this.#works
    return {
      durability: options.durability,
      segments: segments.list.length,
      bytes: segments.bytes,
      liveRecords: segments.live,
      liveBytes: segments.liveBytes,
      queuedBytes: pipeline.queuedBytes,
      state: pipeline.isFull ? 'full' : pipeline.isFailed ? 'failed' : 'ok',
      isReserveHeld: reserve.isHeld,
      syncs: tail.syncs,
      merges: keeper.merges,
    }
  }

  /** Writes and syncs what waits, and gives the directory back. Answers false if not all of it could be recorded. */
  close(): Promise<boolean> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<boolean> {
    const { pipeline, keeper, tail, lock } = this.#works
    const [isRecorded] = await Promise.all([pipeline.close(), keeper.stop()])
    await tail.close()
    await lock.release()
    return isRecorded
  }
}
