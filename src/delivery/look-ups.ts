import type { Clock } from '../clock.ts'
import type { Peer } from '../peers/peer.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { HandledBefore } from '../protocol/settlement.ts'
import type { Backlog } from './backlog.ts'
import type { Loaded } from './ledger.ts'
import { nodeOf } from './membership.ts'

/** Values that are in memory at a time. */
const AT_ONCE = 64
const AGAIN_MS = 1000

export interface LookUpsOptions {
  readonly clock: Clock
  backlogOf(addressee: Addressee): Backlog | undefined
  load(sequences: readonly number[]): Promise<(Loaded | undefined)[]>
  /** The peer has handled this, which is in the journal still. */
  found(peer: Peer, loaded: Loaded, backlog: Backlog): void
  fault(error: unknown): void
}

/** What members say to have handled before they knew the present numbers is looked up in the journal by its id. */
export class LookUps {
  readonly #options: LookUpsOptions
  #isClosed = false

  constructor(options: LookUpsOptions) {
    this.#options = options
  }

  /** Looks these up `after` those before them. When it resolves, they count as settled. */
  async add(peer: Peer, said: readonly HandledBefore[], after: Promise<unknown> | undefined): Promise<void> {
    // The same may be said very often; it is looked up once.
    const wanted = new Map<string, { boot: string; sequence: number; backlog: Backlog }>()
    for (const { boot, sequence, addressee } of said) {
      const of = addressee.kind === 'node' ? nodeOf(peer) : addressee
      const backlog = this.#options.backlogOf(of)
      if (backlog === undefined) continue
      backlog.handledBefore(boot, sequence, peer.id)
      wanted.set(`${sequence} ${addresseeKey(of)}`, { boot, sequence, backlog })
    }
    await after
    const all = [...wanted.values()]
    for (let from = 0; from < all.length; from += AT_ONCE) {
      const some = all.slice(from, from + AT_ONCE)
      const records = await this.#load(some.map(({ sequence }) => sequence))
      for (const [at, { boot, sequence, backlog }] of some.entries()) {
        const loaded = records[at]
        if (backlog.takeHandledBefore(sequence) && loaded?.envelope.boot === boot)
          this.#options.found(peer, loaded, backlog)
      }
    }
  }

  close(): void {
    this.#isClosed = true
  }

  /** Asks a disk that fails until it answers: told that all is recorded, who handled them would forget them (G9). */
  async #load(sequences: readonly number[]): Promise<(Loaded | undefined)[]> {
    while (!this.#isClosed) {
      try {
        return await this.#options.load(sequences)
      } catch (error) {
        if (!this.#isClosed) this.#options.fault(error)
      }
      await new Promise<void>((resolve) => this.#options.clock.after(AGAIN_MS, resolve))
    }
    return []
  }
}
