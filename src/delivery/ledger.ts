import { SkeinError } from '../errors.ts'
import type { AppendOptions, Journal } from '../journal/journal.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import { Reader, Writer } from '../protocol/bytes.ts'
import type { Payload } from '../protocol/record.ts'
import type { DedupeIds } from './dedupe-ids.ts'
import {
  type Burial,
  bytesOf,
  type EndedId,
  type Envelope,
  Glance,
  type Part,
  RECORD,
  readBurial,
  readEnvelope,
  readPayload,
  readProgress,
  readRemembered,
  readSent,
  type SentId,
  writeBurial,
  writeMessage,
  writeProgress,
  writeRemembered,
  writeSent,
} from './owed-record.ts'
import type { Receipt } from './receipt.ts'

/** A message whose bytes are at hand. */
export interface Loaded {
  readonly sequence: number
  readonly envelope: Envelope
  readonly payload: Payload
  /** Where it was sent in this boot. */
  readonly receipt?: Receipt | undefined
}

/** One message that is owed to one addressee, as it is found at open. */
export interface Owing {
  readonly sequence: number
  readonly index: number
  /** What is kept of the message when it has ended for all. */
  readonly dedupe?: EndedId | undefined
}

/** What is owed to one addressee, in order. */
export interface OwedTo {
  readonly addressee: Addressee
  sequences: number[]
  bytes: number
}

export interface Recovered {
  /** By addressee. */
  readonly owed: Map<string, OwedTo>
  readonly expiries: { sequence: number; at: number }[]
  /** Ids of what is owed, and those that are kept, each by a record. */
  readonly dedupe: { sent: SentId; record: number }[]
  readonly dead: number[]
  readonly groups: { group: string; patterns: string[]; seenAt: number; sequence: number }[]
}

export interface Buried {
  /** Its own number, to retry or drop it by. */
  readonly sequence: number
  readonly burial: Burial
  readonly envelope: Envelope
  readonly payload: Payload
}

/** What is known of a message beyond its record: parts that are settled, and failures. */
interface Progress {
  left: number
  readonly parts: Map<number, Part>
  /** The record that holds this; 0 if none does yet. */
  record: number
  /** Resolves to true when all of this is recorded. */
  writing: Promise<boolean> | undefined
  /** The message is settled for all: resolves to true when that is recorded. */
  whole: Promise<boolean> | undefined
  isStale: boolean
}

/** What the node owes, in its journal: messages, how far they are, the dead, and groups that are remembered. */
export class Ledger {
  readonly #journal: Journal
  readonly #progress = new Map<number, Progress>()
  readonly #writer = new Writer()
  readonly #fault: (error: unknown) => void
  readonly #dedupeIds: DedupeIds | undefined

  constructor(journal: Journal, fault: (error: unknown) => void, dedupeIds?: DedupeIds) {
    this.#journal = journal
    this.#fault = fault
    this.#dedupeIds = dedupeIds
  }

  /** Reads what is owed. */
  async recover(): Promise<Recovered> {
    const recovered: Recovered = { owed: new Map(), expiries: [], dedupe: [], dead: [], groups: [] }
    const progress = new Map<number, { record: number; parts: Part[] }>()
    const shared = new Map<number, Shared>()
    const glance = new Glance()
    const nobody: number[] = []
    let last: readonly Addressee[] | undefined
    let owed: OwedTo[] = []
    await this.#journal.each((sequence, type, body) => {
      if (type === RECORD.message) {
        const { addressees, expiresAt, dedupeId, boot, bytes } = glance.read(body)
        // To nobody, and a crash kept it from being settled.
        if (addressees.length === 0) nobody.push(sequence)
        if (addressees.length > 1) shared.set(sequence, { addressees, bytes })
        if (addressees !== last) {
          last = addressees
          owed = addressees.map((addressee) => owingTo(recovered, addressee))
        }
        for (const of of owed) {
          of.sequences.push(sequence)
          of.bytes += bytes
        }
        if (expiresAt !== undefined) recovered.expiries.push({ sequence, at: expiresAt })
        if (dedupeId !== undefined) {
          const until = Number.POSITIVE_INFINITY
          recovered.dedupe.push({ sent: { id: dedupeId, boot, sequence, until }, record: 0 })
        }
      } else if (type === RECORD.progress) {
        const { sequence: of, parts } = readProgress(body)
        progress.set(of, { record: sequence, parts })
      } else if (type === RECORD.dead) recovered.dead.push(sequence)
      else if (type === RECORD.remembered) recovered.groups.push({ ...readRemembered(body), sequence })
      else if (type === RECORD.sent) recovered.dedupe.push({ sent: readSent(body), record: sequence })
    })
    for (const sequence of nobody) void this.#journal.settle(sequence)
    this.#restore(recovered, progress, shared)
    return recovered
  }

  /** Accepts a message. @throws as Journal.append */
  accept(envelope: Envelope, payload: Payload): { sequence: number; durable: Promise<void> } {
    writeMessage(this.#writer, envelope, payload)
    const appended = this.#journal.append(RECORD.message, [this.#writer.take()])
    if (envelope.addressees.length > 1) this.#track(appended.sequence, envelope.addressees.length)
    return appended
  }

  /**
   * Messages with their values; undefined for those that are settled or damaged. @throws SkeinError JOURNAL_FAILED where
   * the disk does not show one of them now.
   */
  async load(sequences: readonly number[]): Promise<(Loaded | undefined)[]> {
    const records = await this.#journal.readAll(sequences)
    return records.map((record, at) => {
      if (record === 'unreadable')
        throw new SkeinError(
          'JOURNAL_FAILED',
          `message ${sequences[at]} cannot be read from the journal now; it stays owed`,
        )
      if (typeof record === 'string') return undefined
      const reader = new Reader(record.body)
      const envelope = readEnvelope(reader)
      return { sequence: sequences[at]!, envelope, payload: readPayload(reader) }
    })
  }

  /** Failures of this addressee's part, and the last error. */
  failuresOf(sequence: number, index: number): Part | undefined {
    return this.#progress.get(sequence)?.parts.get(index)
  }

  failed(sequence: number, index: number, failures: number, lastError: string): void {
    const progress = this.#progress.get(sequence) ?? this.#track(sequence, 1)
    progress.parts.set(index, { index, isSettled: false, failures, lastError })
    void this.#write(sequence, progress)
  }

  /** These parts are settled; resolves to true when that is recorded, so that they will not come back. */
  async settle(parts: readonly Owing[]): Promise<boolean> {
    const whole: number[] = []
    const written: Promise<boolean>[] = []
    const ended: Progress[] = []
    const end = (sequence: number, dedupe: Owing['dedupe']): void => {
      if (dedupe === undefined) whole.push(sequence)
      else written.push(this.#keepId(dedupe, { replaces: sequence }))
    }
    for (const { sequence, index, dedupe } of parts) {
      const progress = this.#progress.get(sequence)
      if (progress === undefined) {
        end(sequence, dedupe)
        continue
      }
      const part = progress.parts.get(index)
      if (part?.isSettled) continue
      progress.parts.set(index, { ...{ failures: 0, lastError: '' }, ...part, index, isSettled: true })
      if (--progress.left > 0) written.push(this.#write(sequence, progress))
      else {
        end(sequence, dedupe)
        ended.push(progress)
        this.#progress.delete(sequence)
        if (progress.record > 0) whole.push(progress.record)
      }
    }
    const recorded: Promise<boolean>[] = []
    whole.sort((one, other) => one - other)
    for (let from = 0; from < whole.length; ) {
      let to = from + 1
      while (to < whole.length && whole[to] === whole[to - 1]! + 1) to++
      recorded.push(this.#journal.settle(whole[from]!, whole[to - 1]!))
      from = to
    }
    const settled = Promise.all(recorded).then((all) => all.every(Boolean))
    for (const progress of ended) progress.whole = settled
    return (await Promise.all([settled, ...written])).every(Boolean)
  }

  /** For one of its addressees it cannot be read any more. */
  lose(sequence: number): void {
    const progress = this.#progress.get(sequence)
    if (progress !== undefined && --progress.left > 0) return
    this.#progress.delete(sequence)
    void this.#journal.settle(sequence)
    if (progress !== undefined && progress.record > 0) void this.#journal.settle(progress.record)
  }

  /** Puts a message among the dead letters; answers the letter's number when it is safe there. */
  async bury(burial: Burial, { envelope, payload }: Loaded, part: Owing): Promise<number> {
    const { journal, bytes } = this.#bytes((writer) => writeBurial(writer, burial, envelope, payload))
    const isWhole = !this.#progress.has(part.sequence)
    const options = isWhole ? { replaces: part.sequence } : { reserve: true }
    const { sequence, durable } = journal.append(RECORD.dead, [bytes], options)
    await durable
    if (!isWhole) await this.settle([part])
    else if (part.dedupe !== undefined) void this.#keepId(part.dedupe, { reserve: true })
    return sequence
  }

  /** Keeps an id whose message has ended, mostly in its place; resolves to true when the message will not come back. */
  async #keepId(sent: EndedId, options: AppendOptions): Promise<boolean> {
    const until = this.#dedupeIds?.ended(sent) ?? 0
    if (this.#journal.stats().durability === 'memory') return await this.#journal.settle(sent.sequence)
    try {
      const { journal, bytes } = this.#bytes((writer) => writeSent(writer, { ...sent, until }))
      const { sequence, durable } = journal.append(RECORD.sent, [bytes], options)
      await durable
      this.#dedupeIds?.kept(sent, sequence)
      return true
    } catch (error) {
      // It is remembered in memory only: after a restart the same id may be sent twice.
      this.#fault(error)
      return await this.#journal.settle(sent.sequence)
    }
  }

  async buried(sequences: readonly number[]): Promise<Buried[]> {
    const records = await this.#journal.readAll(sequences)
    return records.flatMap((record, at) => {
      if (typeof record === 'string') return []
      const reader = new Reader(record.body)
      const burial = readBurial(reader)
      const envelope = readEnvelope(reader)
      return [{ sequence: sequences[at]!, burial, envelope, payload: readPayload(reader) }]
    })
  }

  /** The dead letter is owed again, as a new message. @throws as Journal.append */
  revive(letter: number, envelope: Envelope, payload: Payload): { sequence: number; durable: Promise<void> } {
    const { journal, bytes } = this.#bytes((writer) => writeMessage(writer, envelope, payload))
    return journal.append(RECORD.message, [bytes], { replaces: letter })
  }

  drop(record: number): Promise<boolean> {
    return this.#journal.settle(record)
  }

  /** Remembers that a group wants these patterns, in place of what was remembered of it. */
  remember(group: string, patterns: readonly string[], seenAt: number, former: number): number {
    const bytes = bytesOf((writer) => writeRemembered(writer, group, patterns, seenAt))
    const options = former > 0 ? { replaces: former } : { reserve: true }
    const { sequence, durable } = this.#journal.append(RECORD.remembered, [bytes], options)
    durable.catch(this.#fault)
    return sequence
  }

  #restore(
    recovered: Recovered,
    progress: ReadonlyMap<number, { record: number; parts: Part[] }>,
    shared: ReadonlyMap<number, Shared>,
  ): void {
    for (const [sequence, { addressees }] of shared) this.#track(sequence, addressees.length)
    const settled = new Map<OwedTo, Set<number>>()
    for (const [sequence, { record, parts }] of progress) {
      if (!isOwed(recovered, sequence)) {
        // Its message was settled, and a crash kept this from being so, too.
        void this.#journal.settle(record)
        continue
      }
      const known = this.#progress.get(sequence) ?? this.#track(sequence, 1)
      known.record = record
      for (const part of parts) {
        known.parts.set(part.index, part)
        const message = shared.get(sequence)
        const addressee = message?.addressees[part.index]
        if (!part.isSettled || message === undefined || addressee === undefined) continue
        known.left--
        const of = owingTo(recovered, addressee)
        of.bytes -= message.bytes
        settled.set(of, (settled.get(of) ?? new Set()).add(sequence))
      }
    }
    for (const [of, gone] of settled) of.sequences = of.sequences.filter((sequence) => !gone.has(sequence))
  }

  #track(sequence: number, left: number): Progress {
    const progress: Progress = {
      left,
      parts: new Map(),
      record: 0,
      writing: undefined,
      whole: undefined,
      isStale: false,
    }
    this.#progress.set(sequence, progress)
    return progress
  }

  /** At most one record is on its way for a message: the next replaces it, and holds all that happened meanwhile. */
  #write(sequence: number, progress: Progress): Promise<boolean> {
    progress.isStale = true
    progress.writing ??= Promise.resolve().then(() => this.#writeOn(sequence, progress))
    return progress.writing
  }

  async #writeOn(sequence: number, progress: Progress): Promise<boolean> {
    try {
      while (progress.isStale && this.#progress.get(sequence) === progress) {
        progress.isStale = false
        const { journal, bytes } = this.#bytes((writer) =>
          writeProgress(writer, sequence, [...progress.parts.values()]),
        )
        const options = progress.record > 0 ? { replaces: progress.record } : { reserve: true }
        const appended = journal.append(RECORD.progress, [bytes], options)
        await appended.durable
        progress.record = appended.sequence
        if (this.#progress.get(sequence) !== progress) void journal.settle(appended.sequence)
      }
    } catch (error) {
      // Attempts are then counted in memory only: a restart may try more often than it should, which loses nothing.
      this.#fault(error)
      return false
    } finally {
      progress.writing = undefined
    }
    return await (progress.whole ?? true)
  }

  /** The journal copies what it is given, so the same memory serves for every record. */
  #bytes(write: (writer: Writer) => void): { journal: Journal; bytes: Buffer } {
    write(this.#writer)
    return { journal: this.#journal, bytes: this.#writer.take() }
  }
}

/** What a message is that is owed to several. */
interface Shared {
  readonly addressees: readonly Addressee[]
  readonly bytes: number
}

const owingTo = ({ owed }: Recovered, addressee: Addressee): OwedTo => {
  const key = addresseeKey(addressee)
  let of = owed.get(key)
  if (of === undefined) {
    of = { addressee, sequences: [], bytes: 0 }
    owed.set(key, of)
  }
  return of
}

const isOwed = ({ owed }: Recovered, sequence: number): boolean => {
  for (const { sequences } of owed.values()) {
    let low = 0
    for (let high = sequences.length; low < high; ) {
      const middle = (low + high) >> 1
      if (sequences[middle]! < sequence) low = middle + 1
      else high = middle
    }
    if (sequences[low] === sequence) return true
  }
  return false
}
