import type { Addressee } from '../protocol/addressee.ts'
import { type Numbered, NumberedItems } from './numbered.ts'

/** How it ended for one addressee. */
export interface Outcome {
  /** Kind and name of the addressee; a node's name is its id. */
  readonly kind: Addressee['kind']
  readonly name: string
  /**
   * `handled`: its handler succeeded. `dead`: tried often enough, or rejected. `expired`: `ttlMs` passed. `gone`: the
   * node left, or came back under another boot. `forgotten`: no member of the group was seen for `rememberMs`.
   * `refused`: over its quota. `lost`: the disk lost it, as a warning JOURNAL_DAMAGED says. `closed`: this node was closed before; where it has a data directory it goes on later, or has ended meanwhile.
   */
  readonly outcome: 'handled' | 'dead' | 'expired' | 'gone' | 'forgotten' | 'refused' | 'lost' | 'closed'
  /** Id of the node that handled it, or that failed with it last. */
  readonly by?: string
  /** What the last failure was. */
  readonly error?: string
}

/** @internal How it ended for an addressee that is known already. */
export type Ending = Omit<Outcome, 'kind' | 'name'>

/** @internal What the receipts of a node have in common: very many may be open at a time. */
export class ReceiptBook {
  readonly nodeId: string
  readonly boot: string
  durability: 'disk' | 'os' | 'memory' = 'memory'
  /** Those whose end somebody awaits. */
  readonly awaited = new NumberedItems<Receipt>()
  isClosed = false

  constructor(nodeId: string, boot: string) {
    this.nodeId = nodeId
    this.boot = boot
  }

  /** The id that a message of this node bears. */
  idOf(boot: string, sequence: number): string {
    return `${this.nodeId}.${boot}.owed.${sequence}`
  }

  receipt(sequence: number, addressees: readonly Addressee[], boot: string = this.boot): Receipt {
    return new Receipt(this, boot, sequence, addressees)
  }

  /** Receipts that are open end as `closed`. */
  close(): void {
    this.isClosed = true
    for (const receipt of this.awaited) receipt.close()
  }
}

/** What a send at least once returns: it is owed from now on. */
export class Receipt implements Numbered {
  readonly #book: ReceiptBook
  readonly #boot: string
  readonly #sequence: number
  readonly #addressees: readonly Addressee[]
  #endings: (Ending | undefined)[] | undefined
  #left: number
  #settled: Promise<Outcome[]> | undefined
  #resolve: ((outcomes: Outcome[]) => void) | undefined
  /** @internal Its place among those whose end somebody awaits. */
  number = 0

  /** @internal */
  constructor(book: ReceiptBook, boot: string, sequence: number, addressees: readonly Addressee[]) {
    this.#book = book
    this.#boot = boot
    this.#sequence = sequence
    this.#addressees = addressees
    this.#left = addressees.length
  }

  /** The id that the message bears wherever it is handled. */
  get id(): string {
    return this.#book.idOf(this.#boot, this.#sequence)
  }

  /** To whom it is owed, and who was refused. */
  get addressees(): readonly { readonly kind: Addressee['kind']; readonly name: string }[] {
    return this.#addressees.map(shown)
  }

  /** What the message survives here: `disk` a power cut, `os` the end of the process, `memory` neither. */
  get durability(): 'disk' | 'os' | 'memory' {
    return this.#book.durability
  }

  /** Resolves when it has ended for every addressee, with what became of it there. It never rejects. */
  get settled(): Promise<Outcome[]> {
    this.#settled ??= new Promise((resolve) => {
      if (this.#book.isClosed) this.close()
      if (this.#left === 0) return resolve(this.#outcomes())
      this.#resolve = resolve
      this.#book.awaited.add(this)
    })
    return this.#settled
  }

  /** @internal Which of its addressees this one is; -1 if it is none. */
  indexOf({ kind, name }: Addressee): number {
    return this.#addressees.findIndex((each) => each.kind === kind && each.name === name)
  }

  /** @internal Answers whether it has now ended for all. */
  end(index: number, ending: Ending): boolean {
    // Of the right length at once: one that grows takes room for sixteen more.
    this.#endings ??= new Array<Ending | undefined>(this.#addressees.length)
    if (this.#endings[index] !== undefined) return this.#left === 0
    this.#endings[index] = ending
    this.#left--
    if (this.#left > 0) return false
    if (this.#resolve !== undefined) {
      this.#book.awaited.delete(this)
      this.#resolve(this.#outcomes())
    }
    return true
  }

  /** @internal */
  close(): void {
    for (const index of this.#addressees.keys()) this.end(index, { outcome: 'closed' })
  }

  #outcomes(): Outcome[] {
    const outcomes = new Array<Outcome>(this.#addressees.length)
    for (let index = 0; index < outcomes.length; index++)
      outcomes[index] = outcomeOf(this.#addressees[index]!, this.#endings![index]!)
    return outcomes
  }

  toJSON(): object {
    const { id, addressees, durability } = this
    return { id, addressees, durability }
  }

  [Symbol.for('nodejs.util.inspect.custom')](): object {
    return this.toJSON()
  }
}

/** Spelt out: two spreads were a tenth of what a message at least once costs its sender. */
const outcomeOf = (addressee: Addressee, { outcome, by, error }: Ending): Outcome => {
  const { kind, name } = shown(addressee)
  if (by === undefined) return { kind, name, outcome }
  return error === undefined ? { kind, name, outcome, by } : { kind, name, outcome, by, error }
}

const ID_DIGITS = 32

/** As people see it: the boot of a node is its own affair. */
export const shown = ({ kind, name }: Addressee): { kind: Addressee['kind']; name: string } => ({
  kind,
  name: kind === 'node' ? name.slice(0, ID_DIGITS) : name,
})
