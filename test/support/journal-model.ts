import type { Clock } from '../../src/clock.ts'
import { isSkeinError, type SkeinError } from '../../src/errors.ts'
import { Journal, type JournalLimits } from '../../src/journal/journal.ts'
import type { Recovery } from '../../src/journal/recovery.ts'
import type { SimFiles } from './sim-fs.ts'

/** Small enough that a few records fill a segment, and some segments the journal. */
export const SMALL: JournalLimits = { totalBytes: 16 * 1024, segmentBytes: 2048, queuedBytes: 1024 * 1024 }

/** What was told of a record that was appended. */
interface Entry {
  readonly text: string
  readonly type: number
  fate: 'pending' | 'durable' | 'refused' | 'uncertain'
  /** Its user settled it; nobody said yet that this is recorded. */
  isAsked: boolean
  isRecorded: boolean
  /** Records that settle it when they are durable. */
  replacedBy: number[]
}

/** What a journal must hold after a crash, given what its user was told before. */
export class JournalModel {
  readonly #entries = new Map<number, Entry>()
  /** The greatest sequence of which somebody was told that it is durable. */
  #highest = 0
  #texts = 0

  /** The same as it is now, for a look at it later. */
  clone(): JournalModel {
    const copy = new JournalModel()
    for (const [sequence, entry] of this.#entries)
      copy.#entries.set(sequence, { ...entry, replacedBy: [...entry.replacedBy] })
    copy.#highest = this.#highest
    copy.#texts = this.#texts
    return copy
  }

  /** Sequences that are owed for certain. */
  get owed(): number[] {
    return [...this.#entries].flatMap(([sequence, { fate, isAsked, isRecorded }]) =>
      fate === 'durable' && !isAsked && !isRecorded ? [sequence] : [],
    )
  }

  count(fate: Entry['fate']): number {
    return [...this.#entries.values()].filter((entry) => entry.fate === fate).length
  }

  /** Appends to the journal, if that takes it, and follows what is told of the record. */
  append(journal: Journal, bytes: number, options: { reserve?: boolean; replaces?: number } = {}): boolean {
    const text = `${++this.#texts}:`.padEnd(bytes, '.')
    const type = 1 + (this.#texts % 200)
    let appended: ReturnType<Journal['append']>
    try {
      appended = journal.append(type, [text.slice(0, 3), Buffer.from(text.slice(3))], options)
    } catch (error) {
      if (isSkeinError(error) && REFUSALS.includes(error.code)) return false
      throw error
    }
    const { sequence, durable } = appended
    if (sequence <= this.#highest) throw new Error(`sequence ${sequence} comes after ${this.#highest}`)
    const entry: Entry = { text, type, fate: 'pending', isAsked: false, isRecorded: false, replacedBy: [] }
    this.#entries.set(sequence, entry)
    const old = options.replaces === undefined ? undefined : this.#entries.get(options.replaces)
    old?.replacedBy.push(sequence)
    durable.then(
      () => {
        entry.fate = 'durable'
        this.#highest = Math.max(this.#highest, sequence)
        if (old !== undefined) old.isRecorded = true
      },
      (error: SkeinError) => {
        entry.fate = error.code === 'JOURNAL_UNCERTAIN' ? 'uncertain' : 'refused'
      },
    )
    return true
  }

  settle(journal: Journal, sequence: number): void {
    const entry = this.#entries.get(sequence)!
    entry.isAsked = true
    void journal.settle(sequence).then((isRecorded) => {
      entry.isRecorded ||= isRecorded
    })
  }

  /**
   * Compares; answers what is wrong, one sentence each, and from then on expects what was found. A journal that could
   * not write on a full disk may name as lost what it removed settled.
   */
  async check(journal: Journal, recovery: Recovery, wasFull = false): Promise<string[]> {
    const faults: string[] = []
    const found = new Set<number>()
    let last = 0
    await journal.each((sequence, type, body) => {
      const entry = this.#entries.get(sequence)
      const text = body.text(body.left)
      if (sequence <= last) faults.push(`${sequence} comes after ${last}`)
      last = sequence
      found.add(sequence)
      if (entry === undefined) faults.push(`${sequence} was never appended: '${text.slice(0, 9)}'`)
      else if (entry.text !== text || entry.type !== type)
        faults.push(`${sequence} holds '${text.slice(0, 9)}', not '${entry.text.slice(0, 9)}'`)
    })
    if (recovery.records !== found.size)
      faults.push(`${found.size} records, reported were ${recovery.records}`)
    if (recovery.damage.length > 0) faults.push(`damage: ${JSON.stringify(recovery.damage)}`)
    const isNeeded = (sequence: number): boolean => {
      const entry = this.#entries.get(sequence)
      return entry?.fate === 'durable' && !this.#isAccounted(sequence, found)
    }
    for (let at = 0; at < recovery.lost.length; at += 2) {
      for (let lost = recovery.lost[at]!; lost <= recovery.lost[at + 1]!; lost++)
        if (!wasFull || isNeeded(lost)) faults.push(`${lost} is reported as lost`)
    }
    for (const [sequence, entry] of this.#entries) {
      const isThere = found.has(sequence)
      if (isThere && entry.fate === 'refused') faults.push(`${sequence} was refused and is there`)
      if (isThere && entry.isRecorded) faults.push(`${sequence} was recorded as settled and is there`)
      if (!isThere && entry.fate === 'durable' && !this.#isAccounted(sequence, found))
        faults.push(`${sequence} was durable and is lost`)
    }
    for (const [sequence, entry] of this.#entries) {
      if (!found.has(sequence)) {
        this.#entries.delete(sequence)
        continue
      }
      this.#highest = Math.max(this.#highest, sequence)
      Object.assign(entry, { fate: 'durable', isAsked: false, isRecorded: false, replacedBy: [] })
    }
    return faults
  }

  /** It is there, or its user does not need it any more: because he said so, or because another took its place. */
  #isAccounted(sequence: number, found: ReadonlySet<number>): boolean {
    if (found.has(sequence)) return true
    const entry = this.#entries.get(sequence)
    return (
      entry !== undefined &&
      (entry.isAsked || entry.replacedBy.some((other) => this.#isAccounted(other, found)))
    )
  }
}

const REFUSALS = ['JOURNAL_FULL', 'JOURNAL_FAILED', 'OUTBOX_FULL']

export interface Opened {
  readonly journal: Journal
  readonly recovery: Recovery
  readonly faults: SkeinError[]
}

export const openOn = async (
  files: SimFiles,
  clock: Clock,
  limits: JournalLimits = SMALL,
  durability: 'disk' | 'os' = 'disk',
): Promise<Opened> => {
  const faults: SkeinError[] = []
  const opened = await Journal.open({
    directory: '/data',
    durability,
    clock,
    limits,
    files,
    nodeId: '00112233445566778899aabbccddeeff',
    fault: (error) => faults.push(error),
  })
  return { ...opened, faults }
}
