import type { Receipt } from './receipt.ts'

/** How long an id is remembered after its message has ended. */
const KEEP_MS = 300_000
const MAX_IDS = 1_000_000

interface Sent {
  readonly sequence: number
  /** Undefined where an earlier boot has sent it. */
  readonly receipt: Receipt | undefined
  until: number
}

/** Ids that make two sends one: while the first is owed, and for five minutes after. */
export class DedupeIds {
  readonly #sent = new Map<string, Sent>()

  find(id: string, now: number): Sent | undefined {
    const sent = this.#sent.get(id)
    return sent !== undefined && sent.until > now ? sent : undefined
  }

  add(id: string, sequence: number, receipt: Receipt | undefined): void {
    if (this.#sent.size >= MAX_IDS) this.#sent.delete(this.#sent.keys().next().value!)
    this.#sent.set(id, { sequence, receipt, until: Number.POSITIVE_INFINITY })
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
