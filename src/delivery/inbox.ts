import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import type { Addressee } from '../protocol/addressee.ts'
import { Reader } from '../protocol/bytes.ts'
import { FRAME } from '../protocol/control-frames.ts'
import { type HandOver, readDeliveryHeader, readHandOver } from '../protocol/delivery-batch.ts'
import { Frame } from '../protocol/frame.ts'
import { type Received, readRecord } from '../protocol/record.ts'
import type { Settlement } from '../protocol/settlement.ts'
import type { LastFailure } from './dead-letters.ts'
import { type Held, Holds } from './holds.ts'
import { Message } from './message.ts'
import { SettlementLane } from './settlement-lane.ts'
import { type Settle, verdictOn } from './verdict.ts'

/** A sender that is ahead is told to resume this often, not at each of its batches. */
const RESUME_AGAIN_MS = 100

export interface InboxOptions {
  readonly clock: Clock
  readonly selfId: string
  peerOf(token: string): Peer | undefined
  heard(peer: Peer): void
  /** Gives a message to those here who are its addressee; calls `settle` once if it was given. */
  deliver(
    addressee: Addressee,
    message: Message,
    record: Received,
    held: Held | undefined,
    settle?: Settle,
  ): void
  /** A sender gives a message up because of what happened here. */
  died(letter: LastFailure): void
}

interface Sender {
  /** One boot of it, as long as this node knows it. */
  readonly peer: Peer
  taken: number
  reportDue: boolean
  resumedAt: number
  readonly settlements: SettlementLane<Held>
}

/**
 * What other nodes hand to this one on the delivery road: strictly in order, each batch once, and each owed message
 * once for as long as this node runs (G9).
 */
export class Inbox {
  readonly #options: InboxOptions
  /** By id: what an earlier boot of a sender had begun ends in settlements that its present one is told. */
  readonly #senders = new Map<string, Sender>()
  /** By the id of the sender, because it may return under another boot and hand over again what was handled. */
  readonly #holds = new Holds()

  constructor(options: InboxOptions) {
    this.#options = options
  }

  take(frames: Buffer[]): void {
    const [batch, alone] = frames
    if (batch === undefined || frames.length > 2) {
      throw new SkeinError('MALFORMED', `a message of ${frames.length} frames came on the delivery road`)
    }
    const reader = new Reader(batch)
    const { token, boot, number, recorded, count } = readDeliveryHeader(reader)
    const peer = this.#options.peerOf(token)
    if (peer === undefined || peer.boot !== boot) {
      throw new SkeinError(
        'MALFORMED',
        'a delivery batch bears a token that this node has not given to its sender',
      )
    }
    this.#options.heard(peer)
    const sender = this.#sender(peer)
    if (number !== sender.taken + 1) {
      if (number > sender.taken) this.#resume(peer, sender)
      return
    }
    sender.taken = number
    this.#reportTaken(peer, sender)
    for (const held of sender.settlements.recorded(recorded)) this.#holds.forget(peer.id, held)
    const body = alone === undefined ? undefined : new Frame(alone, true)
    for (let left = count; left > 0; left--) {
      const handOver = readHandOver(reader, boot)
      this.#handed(peer, sender, handOver, readRecord(reader, reader.frame, body))
    }
  }

  takenFrom(peer: Peer): number {
    return this.#known(peer)?.taken ?? 0
  }

  /** The sender says how much it has sent: more than was taken is a loss, or still under way. */
  pinged(peer: Peer, sent: number): void {
    const sender = this.#known(peer)
    if (sender === undefined) return
    if (sent > sender.taken) this.#reportTaken(peer, sender)
    sender.settlements.pinged()
  }

  /** It has said hello on a new connection: what was settled on an old one is said again. */
  greeted(peer: Peer): void {
    const known = this.#known(peer)
    if (known !== undefined) {
      known.settlements.again()
      return
    }
    const unsaid = this.#holds.unsaid(peer.id)
    if (unsaid.length === 0) return
    const { settlements } = this.#sender(peer)
    for (const held of unsaid) settlements.say(handledBefore(held), held)
  }

  /** The numbers by which it has handed things over are void; what runs goes on. */
  down(peer: Peer): void {
    if (this.#known(peer) === undefined) return
    this.#senders.delete(peer.id)
    this.#holds.voidNumbers(peer.id)
  }

  #known(peer: Peer): Sender | undefined {
    const sender = this.#senders.get(peer.id)
    return sender?.peer === peer ? sender : undefined
  }

  #sender(peer: Peer): Sender {
    const known = this.#known(peer)
    if (known !== undefined) return known
    // Of an earlier boot that was never up no loss was told.
    this.#holds.voidNumbers(peer.id)
    const settlements = new SettlementLane<Held>(peer, this.#options.clock)
    const sender: Sender = { peer, taken: 0, reportDue: false, resumedAt: 0, settlements }
    this.#senders.set(peer.id, sender)
    return sender
  }

  #handed(peer: Peer, sender: Sender, handOver: HandOver, record: Received): void {
    const { number, isOwed, kind, group, topic } = handOver
    const addressee: Addressee = { kind, name: kind === 'node' ? '' : kind === 'group' ? group : topic }
    const message = messageOf(peer, handOver, record)
    if (!isOwed) {
      // At most once: nothing is remembered of it. A sender without a journal may still wait for what becomes of it.
      const settle = (error?: SkeinError): void => sayOf(this.#known(peer), number, error)
      this.#options.deliver(addressee, message, record, undefined, record.ack ? settle : undefined)
      return
    }
    const found = this.#holds.get(peer.id, addressee, handOver)
    if (found !== undefined && found.state !== 'partial') {
      // Handed over again: it runs still, or its success is not recorded yet. It does not run twice.
      found.number = number
      if (found.state === 'handled') sender.settlements.handled(number, found)
      return
    }
    const held = found ?? this.#holds.add(peer.id, addressee, handOver)
    if (held === undefined) {
      sender.settlements.say({ kind: 'handed-back', number, why: 'busy' })
      return
    }
    held.number = number
    this.#holds.runs(peer.id, held)
    this.#options.deliver(addressee, message, record, held, (error) => {
      this.#settled(peer.id, held, error)
      if (error !== undefined) this.#failed(message, held.addressee, handOver.isLast, error)
    })
  }

  #settled(senderId: string, held: Held, error: SkeinError | undefined): void {
    const settlements = this.#senders.get(senderId)?.settlements
    if (error === undefined) {
      held.state = 'handled'
      if (held.number > 0) settlements?.handled(held.number, held)
      else settlements?.say(handledBefore(held), held)
      return
    }
    if (held.number > 0) settlements?.say(verdictOn(held.number, error))
    if (held.done.size > 0) this.#holds.keepPartial(senderId, held)
    else this.#holds.forget(senderId, held)
  }

  #failed(message: Message, { kind, name }: Addressee, isLast: boolean, error: SkeinError): void {
    const verdict = verdictOn(0, error)
    const isDead = verdict.kind === 'rejected' || (verdict.kind === 'failed' && isLast)
    if (!isDead) return
    const { id: messageId, topic, key, headers, from, attempt: attempts } = message
    this.#options.died({
      ...{ messageId, topic, headers, from, attempts },
      ...(key !== undefined && { key }),
      addressee: { kind, name: kind === 'node' ? this.#options.selfId : name },
      value: verdict.code === 'MALFORMED' ? undefined : message.value,
      reason: verdict.kind === 'rejected' ? 'rejected' : 'attempts',
      lastError: `${verdict.code}: ${verdict.text}`,
      diedAt: this.#options.clock.wall(),
    })
  }

  #resume(peer: Peer, sender: Sender): void {
    const now = this.#options.clock.now()
    if (now - sender.resumedAt < RESUME_AGAIN_MS) return
    sender.resumedAt = now
    peer.route?.send(FRAME.resume, (writer) => writer.u48(sender.taken))
  }

  /** Once a turn, however many batches came in it. */
  #reportTaken(peer: Peer, sender: Sender): void {
    if (sender.reportDue) return
    sender.reportDue = true
    this.#options.clock.turn(() => {
      sender.reportDue = false
      peer.route?.send(FRAME.taken, (writer) => writer.u48(sender.taken))
    })
  }
}

const messageOf = ({ id }: Peer, handOver: HandOver, record: Received): Message => {
  const { topic, boot, sequence, isOwed } = handOver
  return new Message(topic, { id, boot }, isOwed ? 'owed' : 'sent', sequence, record, handOver)
}

const sayOf = (sender: Sender | undefined, number: number, error: SkeinError | undefined): void => {
  sender?.settlements.say(
    error === undefined ? { kind: 'handled', from: number, count: 1 } : verdictOn(number, error),
  )
}

const handledBefore = ({ boot, sequence, addressee }: Held): Settlement => ({
  ...{ kind: 'handled-before', boot, sequence, addressee },
})
