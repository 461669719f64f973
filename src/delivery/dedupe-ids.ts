import type { EndedId, SentId } from './owed-record.ts'
import type { Receipt } from './receipt.ts'

/** How long an id is remembered after its message has ended. */
const KEEP_MS = 300_000
const MAX_IDS = 1_000_000

/** The first send of an id. */
export interface Dedupe {
  /** The boot that sent it. */
  readonly boot: string
  /** Of its message; 0 as long as that is not accepted. */
  sequence: number
  /** Undefined where an earlier boot has sent it. */
  receipt: Promise<Receipt> | undefined
  until: number
  /** The record that keeps it when its message has ended; 0 if none does. */
  record: number
}

export interface DedupeIdsOptions {
  /** Ms since 1970, which do not jump while the node runs. */
  time(): number
  /** The record is not needed any more. */
  forget(record: number): void
}

/** Ids that make two sends one: while the first is owed, and for five minutes after. */
export class DedupeIds {
  readonly #options: DedupeIdsOptions
  readonly #sent = new Map<string, Dedupe>()

  constructor(options: DedupeIdsOptions) {
    this.#options = options
  }

  /** An id that was sent before this node was started; `record` keeps it if its message has ended. */
  restore({ id, boot, sequence, until }: SentId, record: number): void {
    this.delete(id)
    this.#sent.set(id, { boot, sequence, receipt: undefined, until, record })
  }

  find(id: string): Dedupe | undefined {
    const sent = this.#sent.get(id)
    return sent !== undefined && sent.until > this.#options.time() ? sent : undefined
  }

  add(id: string, boot: string): Dedupe {
    this.delete(id)
    if (this.#sent.size >= MAX_IDS) this.delete(this.#sent.keys().next().value!)
    const dedupe: Dedupe = {
      ...{ boot, sequence: 0, receipt: undefined, until: Number.POSITIVE_INFINITY, record: 0 },
    }
    this.#sent.set(id, dedupe)
    return dedupe
  }

  delete(id: string): void {
    const record = this.#sent.get(id)?.record ?? 0
    if (record > 0) this.#options.forget(record)
    this.#sent.delete(id)
  }

  /** The message of this id has ended for all; answers until when the id is remembered. */
  ended({ id, sequence }: EndedId): number {
    const until = this.#options.time() + KEEP_MS
    const sent = this.#sent.get(id)
    if (sent?.sequence === sequence) sent.until = until
    return until
  }

  /** This record keeps it, over a restart. */
  kept({ id, sequence }: EndedId, record: number): void {
    const sent = this.#sent.get(id)
    if (sent?.sequence !== sequence) return this.#options.forget(record)
    // It has ended twice: where one member had it in hand, and another had handled it before.
    if (sent.record > 0) this.#options.forget(sent.record)
    sent.record = record
  }

  /** Forgets those whose time is over. */
  sweep(): void {
    const now = this.#options.time()
    for (const [id, { until }] of this.#sent) if (until <= now) this.delete(id)
  }
}
