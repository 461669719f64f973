import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { MessageId } from '../protocol/delivery-batch.ts'
import { SequencedItems } from './sequenced.ts'

/** Of one sender; an honest one has no more than its window on the way, for each addressee. */
const MAX_HELD = 65_536
/** Senders that went and may still hand over what was handled here. */
const MAX_SENDERS = 4096

/** Which of several subscriptions have handled a message: most often there is but one, and nothing is kept. */
export class DoneBy {
  #set: Set<unknown> | undefined

  has(one: unknown): boolean {
    return this.#set?.has(one) === true
  }

  add(one: unknown): void {
    this.#set ??= new Set()
    this.#set.add(one)
  }

  get size(): number {
    return this.#set?.size ?? 0
  }
}

/** A message that a sender has handed to this node, and may hand over again. */
export interface Held {
  readonly addressee: Addressee
  readonly boot: string
  readonly sequence: number
  /** The number of its latest hand-over; 0 when the lane that gave it is gone. */
  number: number
  state: 'running' | 'handled' | 'partial'
  /** Which of several subscriptions have handled it. */
  readonly done: DoneBy
}

/** What one boot of a sender owes to one addressee here. */
interface Shelf {
  readonly key: string
  readonly addressee: Addressee
  readonly boot: string
  readonly held: SequencedItems<Held>
}

interface OfSender {
  readonly id: string
  readonly shelves: Map<string, Shelf>
  /** The oldest first: of what its sender has given up meanwhile nobody ever hears again. */
  readonly partial: Set<Held>
  size: number
  /** Most messages go where the one before went; it stays here when it is empty, to be filled again. */
  last: Shelf | undefined
}

/**
 * Which owed messages this node holds, by their ids: what runs, and what was handled until its sender has recorded
 * that. So a message that comes again runs again only where that is asked for (G9).
 */
export class Holds {
  readonly #senders = new Map<string, OfSender>()
  /** As `OfSender.last`. */
  #last: OfSender | undefined

  get(senderId: string, addressee: Addressee, { boot, sequence }: MessageId): Held | undefined {
    const sender = this.#find(senderId)
    return sender === undefined ? undefined : shelfOf(sender, addressee, boot)?.held.get(sequence)
  }

  /** Undefined when the sender has far more here than any window allows; what is partly done gives way to it (G2). */
  add(senderId: string, addressee: Addressee, { boot, sequence }: MessageId): Held | undefined {
    const sender = this.#find(senderId) ?? newSender(senderId)
    if (sender.size >= MAX_HELD) {
      const [oldest] = sender.partial
      if (oldest === undefined) return undefined
      this.forget(senderId, oldest)
    }
    if (sender.size === 0) this.#keep(sender)
    const shelf = shelfOf(sender, addressee, boot) ?? newShelf(addressee, boot)
    if (shelf.held.size === 0) sender.shelves.set(shelf.key, shelf)
    sender.last = shelf
    const held: Held = { addressee, boot, sequence, number: 0, state: 'running', done: new DoneBy() }
    shelf.held.add(held)
    sender.size++
    return held
  }

  /** It was handed over again, and runs. */
  runs(senderId: string, held: Held): void {
    if (held.state === 'partial') this.#find(senderId)?.partial.delete(held)
    held.state = 'running'
  }

  /** Some of several subscriptions have handled it: they shall not again. */
  keepPartial(senderId: string, held: Held): void {
    held.state = 'partial'
    this.#find(senderId)?.partial.add(held)
  }

  forget(senderId: string, held: Held): void {
    const sender = this.#find(senderId)
    const shelf = sender === undefined ? undefined : shelfOf(sender, held.addressee, held.boot)
    if (sender === undefined || !shelf?.held.delete(held)) return
    if (held.state === 'partial') sender.partial.delete(held)
    sender.size--
    if (shelf.held.size === 0) sender.shelves.delete(shelf.key)
    if (sender.size === 0) this.#senders.delete(senderId)
  }

  /** What was handled and is not recorded by its sender, as far as this node knows. */
  unsaid(senderId: string): Held[] {
    return [...this.#of(senderId)].filter(({ state }) => state === 'handled')
  }

  voidNumbers(senderId: string): void {
    for (const held of this.#of(senderId)) held.number = 0
  }

  *#of(senderId: string): IterableIterator<Held> {
    for (const { held } of this.#senders.get(senderId)?.shelves.values() ?? []) yield* held
  }

  #find(senderId: string): OfSender | undefined {
    return this.#last?.id === senderId ? this.#last : this.#senders.get(senderId)
  }

  #keep(sender: OfSender): void {
    if (this.#senders.size >= MAX_SENDERS) this.#senders.delete(this.#senders.keys().next().value!)
    this.#senders.set(sender.id, sender)
    this.#last = sender
  }
}

const newSender = (id: string): OfSender => ({
  ...{ id, shelves: new Map(), partial: new Set(), size: 0, last: undefined },
})

const newShelf = (addressee: Addressee, boot: string): Shelf => ({
  ...{ key: keyOf(addressee, boot), addressee, boot, held: new SequencedItems() },
})

const shelfOf = ({ last, shelves }: OfSender, addressee: Addressee, boot: string): Shelf | undefined => {
  const { kind, name } = addressee
  if (last?.addressee.name === name && last.addressee.kind === kind && last.boot === boot) return last
  return shelves.get(keyOf(addressee, boot))
}

const keyOf = (addressee: Addressee, boot: string): string => `${boot} ${addresseeKey(addressee)}`
