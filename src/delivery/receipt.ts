import type { Addressee } from '../protocol/addressee.ts'
import type { NumberedItems } from './numbered.ts'

/** How it ended for one addressee. */
export interface Outcome {
  /** Kind and name of the addressee; a node's name is its id. */
  readonly kind: Addressee['kind']
  readonly name: string
  /**
   * `handled`: its handler succeeded. `dead`: tried often enough, or rejected. `expired`: `ttlMs` passed. `gone`: the
   * node left, or came back under another boot. `forgotten`: no member of the group was seen for `rememberMs`.
   * `refused`: over its quota. `closed`: this node was closed before; where it has a data directory it goes on later.
   */
  readonly outcome: 'handled' | 'dead' | 'expired' | 'gone' | 'forgotten' | 'refused' | 'closed'
  /** Id of the node that handled it, or that failed with it last. */
  readonly by?: string
  /** What the last failure was. */
  readonly error?: string
}

/** @internal How it ended for an addressee that is known already. */
export type Ending = Omit<Outcome, 'kind' | 'name'>

/** What a send at least once returns: it is owed from now on. */
export class Receipt {
  /** The id that the message bears wherever it is handled. */
  readonly id: string
  /** To whom it is owed, and who was refused. */
  get addressees(): readonly { readonly kind: Addressee['kind']; readonly name: string }[] {
    return this.#addressees.map(shown)
  }
  /** What the message survives here: `disk` a power cut, `os` the end of the process, `memory` neither. */
  readonly durability: 'disk' | 'os' | 'memory'
  readonly #addressees: readonly Addressee[]
  readonly #outcomes: (Ending | undefined)[] = []
  #left: number
  #settled: Promise<Outcome[]> | undefined
  #resolve: ((outcomes: Outcome[]) => void) | undefined

  /** @internal Its place among those whose end somebody awaits. */
  number = 0
  readonly #awaited: NumberedItems<Receipt>

  /** @internal */
  constructor(
    id: string,
    addressees: readonly Addressee[],
    durability: 'disk' | 'os' | 'memory',
    awaited: NumberedItems<Receipt>,
  ) {
    this.id = id
    this.#awaited = awaited
    this.#addressees = addressees
    this.durability = durability
    this.#left = addressees.length
  }

  /** Resolves when it has ended for every addressee, with what became of it there. It never rejects. */
  get settled(): Promise<Outcome[]> {
    this.#settled ??= new Promise((resolve) => {
      this.#resolve = resolve
      if (this.#left === 0) resolve(this.#all())
      else this.#awaited.add(this)
    })
    return this.#settled
  }

  /** @internal Answers whether it has now ended for all. */
  end(index: number, outcome: Ending): boolean {
    if (this.#outcomes[index] !== undefined) return this.#left === 0
    this.#outcomes[index] = outcome
    this.#left--
    if (this.#left > 0) return false
    if (this.#resolve !== undefined) {
      this.#awaited.delete(this)
      this.#resolve(this.#all())
    }
    return true
  }

  /** @internal This node is closed. */
  close(): void {
    for (const index of this.#addressees.keys()) this.end(index, { outcome: 'closed' })
  }

  #all(): Outcome[] {
    return this.#addressees.map((addressee, index) => Object.assign(shown(addressee), this.#outcomes[index]!))
  }

  toJSON(): object {
    const { id, addressees, durability } = this
    return { id, addressees, durability }
  }
}

const ID_DIGITS = 32

/** As people see it: the boot of a node is its own affair. */
export const shown = ({ kind, name }: Addressee): { kind: Addressee['kind']; name: string } => ({
  kind,
  name: kind === 'node' ? name.slice(0, ID_DIGITS) : name,
})
