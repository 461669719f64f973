import type { Receipt } from './receipt.ts'

/** How long an id is remembered after its message has ended. */
const KEEP_MS = 300_000
const MAX_IDS = 1_000_000

/** The first send of an id. */
export interface Dedupe {
  /** Of its message; 0 as long as that is not accepted. */
  sequence: number
  /** Undefined where an earlier boot has sent it. */
  receipt: Promise<Receipt> | undefined
  until: number
}

/** Ids that make two sends one: while the first is owed, and for five minutes after. */
export class DedupeIds {
  readonly #sent = new Map<string, Dedupe>()

  find(id: string, now: number): Dedupe | undefined {
    const sent = this.#sent.get(id)
    return sent !== undefined && sent.until > now ? sent : undefined
  }

  add(id: string): Dedupe {
    if (this.#sent.size >= MAX_IDS) this.#sent.delete(this.#sent.keys().next().value!)
    const dedupe: Dedupe = { sequence: 0, receipt: undefined, until: Number.POSITIVE_INFINITY }
    this.#sent.set(id, dedupe)
    return dedupe
  }

  delete(id: string): void {
    this.#sent.delete(id)
  }

  /** The message of this id has ended. */
  ended(id: string, sequence: number, now: number): void {
    const sent = this.#sent.get(id)
    if (sent?.sequence === sequence) sent.until = now + KEEP_MS
  }

  /** Forgets those whose time is over. */
  sweep(now: number): void {
    for (const [id, { until }] of this.#sent) if (until <= now) this.#sent.delete(id)
  }
}
