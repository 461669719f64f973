import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import { Reader } from '../protocol/bytes.ts'
import { FRAME } from '../protocol/control-frames.ts'
import { readDelivery, readDeliveryHeader } from '../protocol/delivery-batch.ts'
import { Frame } from '../protocol/frame.ts'
import type { Received } from '../protocol/record.ts'
import type { Origin } from './message.ts'
import type { Settle } from './subscriptions.ts'

/** A sender that is ahead is told to resume this often, not at each of its batches. */
const RESUME_AGAIN_MS = 100

export interface InboxOptions {
  readonly clock: Clock
  peerOf(token: string): Peer | undefined
  heard(peer: Peer): void
  deliver(
    topic: string,
    origin: Origin,
    generation: number,
    sequence: number,
    record: Received,
    settle?: Settle,
  ): void
}

interface Sender {
  taken: number
  reportDue: boolean
  resumedAt: number
}

/** What other nodes hand to this one on the delivery road: strictly in order, each batch once. */
export class Inbox {
  readonly #options: InboxOptions
  readonly #senders = new Map<Peer, Sender>()

  constructor(options: InboxOptions) {
    this.#options = options
  }

  take(frames: Buffer[]): void {
    const [batch, alone] = frames
    if (batch === undefined || frames.length > 2) {
      throw new SkeinError('MALFORMED', `a message of ${frames.length} frames came on the delivery road`)
    }
    const reader = new Reader(batch)
    const { token, boot, number, count } = readDeliveryHeader(reader)
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
    const body = alone === undefined ? undefined : new Frame(alone, true)
    for (let left = count; left > 0; left--) {
      const { sequence, topic, record } = readDelivery(reader, reader.frame, body)
      const settle = record.ack ? (error?: SkeinError) => this.#settle(peer, sequence, error) : undefined
      this.#options.deliver(topic, peer, 0, sequence, record, settle)
    }
  }

  takenFrom(peer: Peer): number {
    return this.#senders.get(peer)?.taken ?? 0
  }

  /** The sender says how much it has sent: more than was taken is a loss, or still under way. */
  pinged(peer: Peer, sent: number): void {
    const sender = this.#senders.get(peer)
    if (sender !== undefined && sent > sender.taken) this.#reportTaken(peer, sender)
  }

  down(peer: Peer): void {
    this.#senders.delete(peer)
  }

  #sender(peer: Peer): Sender {
    let sender = this.#senders.get(peer)
    if (sender === undefined) {
      sender = { taken: 0, reportDue: false, resumedAt: 0 }
      this.#senders.set(peer, sender)
    }
    return sender
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

  #settle(peer: Peer, sequence: number, error: SkeinError | undefined): void {
    if (error === undefined) {
      peer.route?.send(FRAME.ack, (writer) => writer.u48(sequence))
      return
    }
    peer.route?.send(FRAME.nack, (writer) => {
      writer.u48(sequence)
      writer.text8(error.code)
      writer.text32(error.message)
    })
  }
}
