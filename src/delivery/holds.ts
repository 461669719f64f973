import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { MessageId } from '../protocol/delivery-batch.ts'

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

interface OfSender {
  /** By addressee and boot, then by sequence. */
  readonly kept: Map<string, Map<number, Held>>
  size: number
}

/**
 * Which owed messages this node holds, by their ids: what runs, and what was handled until its sender has recorded
 * that. So a message that comes again runs again only where that is asked for (G9).
 */
export class Holds {
  readonly #senders = new Map<string, OfSender>()

  get(senderId: string, addressee: Addressee, owed: MessageId): Held | undefined {
    return this.#senders.get(senderId)?.kept.get(keyOf(addressee, owed.boot))?.get(owed.sequence)
  }

  /** Undefined when the sender has far more here than any window allows. */
  add(senderId: string, addressee: Addressee, { boot, sequence }: MessageId): Held | undefined {
    const sender = this.#sender(senderId)
    if (sender.size >= MAX_HELD) return undefined
    const key = keyOf(addressee, boot)
    let kept = sender.kept.get(key)
    if (kept === undefined) {
      kept = new Map()
      sender.kept.set(key, kept)
    }
    const held: Held = { addressee, boot, sequence, number: 0, state: 'running', done: new DoneBy() }
    kept.set(sequence, held)
    sender.size++
    return held
  }

  forget(senderId: string, held: Held): void {
    const sender = this.#senders.get(senderId)
    const key = keyOf(held.addressee, held.boot)
    const kept = sender?.kept.get(key)
    if (sender === undefined || kept?.get(held.sequence) !== held) return
    kept.delete(held.sequence)
    sender.size--
    if (kept.size === 0) sender.kept.delete(key)
    if (sender.size === 0) this.#senders.delete(senderId)
  }

  /** What was handled and is not recorded by its sender, as far as this node knows. */
  unsaid(senderId: string): Held[] {
    const kept = this.#senders.get(senderId)?.kept.values() ?? []
    return [...kept].flatMap((each) => [...each.values()].filter(({ state }) => state === 'handled'))
  }

  voidNumbers(senderId: string): void {
    for (const kept of this.#senders.get(senderId)?.kept.values() ?? [])
      for (const held of kept.values()) held.number = 0
  }

  #sender(senderId: string): OfSender {
    let sender = this.#senders.get(senderId)
    if (sender === undefined) {
      if (this.#senders.size >= MAX_SENDERS) this.#senders.delete(this.#senders.keys().next().value!)
      sender = { kept: new Map(), size: 0 }
      this.#senders.set(senderId, sender)
    }
    return sender
  }
}

const keyOf = (addressee: Addressee, boot: string): string => `${boot} ${addresseeKey(addressee)}`
