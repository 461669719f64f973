import type { Clock } from '../clock.ts'
import type { Peer } from '../peers/peer.ts'
import { BATCH_BYTES, Writer } from '../protocol/bytes.ts'
import { endpointOf } from '../protocol/control-frames.ts'
import {
  beginDeliveryBatch,
  type HandOver,
  sealDeliveryBatch,
  writeHandOver,
} from '../protocol/delivery-batch.ts'
import { type Payload, writeRecord, writeRecordHead } from '../protocol/record.ts'
import type { HandledBefore, Settlement } from '../protocol/settlement.ts'
import { Cork } from '../transport/cork.ts'
import type { Dial, Transport } from '../transport/transport.ts'
import { hostOf } from './following.ts'
import { type Numbered, NumberedItems } from './numbered.ts'

/** Batches on their way that the peer has not yet said it took. */
const WINDOW_BYTES = 4 * 1024 * 1024
const ALONE_BYTES = 32 * 1024
/** A receiver whose settlements are recorded learns it with the next batch, or after this in an empty one. */
const CONFIRM_MS = 100

export interface DeliveryLaneOptions {
  readonly boot: string
  readonly transport: Transport
  readonly clock: Clock
  /** Most that may wait for one peer. */
  readonly queueBytes: number
  fault(error: unknown): void
}

/** A message without the number that the lane gives it. */
export type Outgoing = Omit<HandOver, 'number'>

/** What a peer says of a hand-over that did not succeed. */
export type Verdict = Exclude<Settlement, { kind: 'handled' } | HandledBefore>

/** One who waits for what becomes of a hand-over. */
export interface Handed extends Numbered {
  /** The peer says what became of it: nothing where it was handled. */
  settled(verdict: Verdict | undefined): void
}

interface Batch {
  readonly number: number
  /** Topics of the messages in it that nobody waits for: if the peer is lost, it must be told that it missed them. */
  readonly topics: readonly string[]
  readonly frames: Buffer[]
  readonly bytes: number
}

/** What is handed to one peer: numbered batches, kept until the peer says that it took them. */
export class DeliveryLane {
  readonly #peer: Peer
  readonly #options: DeliveryLaneOptions
  readonly #dial: Dial
  readonly #writer = new Writer()
  readonly #cork: Cork
  #queue: Batch[] = []
  #unconfirmed: Batch[] = []
  #queueBytes = 0
  #unconfirmedBytes = 0
  #number = 0
  #count = 0
  #topics: string[] = []
  #recorded = 0
  #recordedTold = 0
  #cancelConfirm: (() => void) | undefined
  #sending = false
  #closed = false
  /** What the last ping said was taken: the same again, with more sent, is a loss. */
  #takenAtPing = -1
  /** The last settlement of the peer that was taken. */
  settledTaken = 0
  /** Settlements of it that are looked up still. */
  applying: Promise<unknown> | undefined
  /** How many those are. */
  lookedUp = 0
  /** Hand-overs that the peer is to settle. */
  readonly awaited = new NumberedItems<Handed>()
  #idle: (() => void)[] = []

  constructor(peer: Peer, options: DeliveryLaneOptions) {
    this.#peer = peer
    this.#options = options
    this.#cork = new Cork(() => this.#flush(), options.clock.turn)
    this.#dial = options.transport.dialDelivery(endpointOf(hostOf(peer), peer.address!.delivery), {
      // A new connection: what was under way on the old one may be lost, and numbers sort out what was not.
      up: () => this.#again(),
      fault: options.fault,
    })
  }

  get sent(): number {
    return this.#number
  }

  /** An ack or credit is to come: if it, or what should bring it, was lost with a connection, pings find out. */
  get isAwaiting(): boolean {
    return this.awaited.size > 0 || this.#unconfirmed.length > 0
  }

  hasRoom(bytes: number): boolean {
    return this.#queueBytes === 0 || this.#queueBytes + bytes <= this.#options.queueBytes
  }

  /** Takes a message, whether there is room or not; with `handed` the peer is to say what becomes of it. */
  push(outgoing: Outgoing, payload: Payload, handed: Handed | undefined): void {
    const writer = this.#writer
    const alone = payload.sizeBytes >= ALONE_BYTES
    if (alone && this.#count > 0) this.#seal()
    if (this.#count === 0) this.#begin()
    this.#count++
    if (handed === undefined) this.#topics.push(outgoing.topic)
    else this.awaited.add(handed)
    writeHandOver(writer, handed?.number ?? 0, outgoing, this.#options.boot)
    if (alone) {
      writeRecordHead(writer, payload, handed !== undefined)
      this.#seal(typeof payload.body === 'string' ? Buffer.from(payload.body) : viewOf(payload.body))
    } else {
      writeRecord(writer, payload, handed !== undefined)
      if (writer.length >= BATCH_BYTES) this.#seal()
    }
    this.#cork.touch()
  }

  /** Settlements of the peer up to this one need not be said again. */
  recorded(number: number): void {
    this.#recorded = Math.max(this.#recorded, number)
    if (this.#cancelConfirm !== undefined || this.#recorded === this.#recordedTold) return
    this.#cancelConfirm = this.#options.clock.after(CONFIRM_MS, () => {
      this.#cancelConfirm = undefined
      if (this.#closed || this.#recorded === this.#recordedTold || this.#count > 0) return
      this.#begin()
      this.#seal()
      void this.#pump()
    })
  }

  /** The peer has taken every batch up to this number. */
  taken(number: number): void {
    while (this.#unconfirmed.length > 0 && this.#unconfirmed[0]!.number <= number) {
      this.#unconfirmedBytes -= this.#unconfirmed.shift()!.bytes
    }
    // What waits to be sent again may have been taken the first time: nobody would confirm it once more.
    while (this.#queue.length > 0 && this.#queue[0]!.number <= number) {
      this.#queueBytes -= this.#queue.shift()!.bytes
    }
    void this.#pump()
    if (this.#isEmpty()) this.#wakeIdle()
  }

  /** Resolves when the peer has taken everything, or is lost. */
  async drained(): Promise<void> {
    this.#flush()
    if (!this.#isEmpty() && !this.#closed) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** The peer misses what follows this number. */
  resume(number: number): void {
    this.taken(number)
    this.#again()
  }

  ponged(taken: number): void {
    this.taken(taken)
    if (this.#unconfirmed.length > 0 && this.#takenAtPing === taken) this.#again()
    this.#takenAtPing = taken
  }

  /** Topics of which the peer may not have got everything. */
  get unsettledTopics(): Set<string> {
    return new Set(
      [...this.#unconfirmed, ...this.#queue].flatMap((batch) => batch.topics).concat(this.#topics),
    )
  }

  close(): void {
    this.#closed = true
    this.#cancelConfirm?.()
    this.#dial.close()
    this.#wakeIdle()
  }

  /** Before the first hand-over: a settlement recorded later may be of one in this batch, and must not be forgotten. */
  #begin(): void {
    const { boot } = this.#options
    beginDeliveryBatch(this.#writer, this.#peer.token, boot, ++this.#number, this.#recorded)
    this.#recordedTold = this.#recorded
  }

  #isEmpty(): boolean {
    return this.#count === 0 && this.#queue.length === 0 && this.#unconfirmed.length === 0
  }

  #wakeIdle(): void {
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  #seal(body?: Buffer): void {
    const batch = this.#writer.take()
    sealDeliveryBatch(batch, this.#count)
    this.#count = 0
    const bytes = batch.length + (body?.length ?? 0)
    this.#queueBytes += bytes
    const frames = body === undefined ? [batch] : [batch, body]
    this.#queue.push({ number: this.#number, topics: this.#topics, frames, bytes })
    this.#topics = []
  }

  #flush(): void {
    if (this.#count > 0) this.#seal()
    void this.#pump()
  }

  /** Sends again, in order, whatever the peer has not taken. */
  #again(): void {
    if (this.#unconfirmed.length === 0) return
    this.#queue = [...this.#unconfirmed, ...this.#queue]
    this.#queueBytes += this.#unconfirmedBytes
    this.#unconfirmed = []
    this.#unconfirmedBytes = 0
    void this.#pump()
  }

  async #pump(): Promise<void> {
    if (this.#sending || this.#closed) return
    this.#sending = true
    try {
      while (this.#queue.length > 0 && !this.#closed) {
        const batch = this.#queue[0]!
        // One batch may overdraw an empty window, or a large message would wait for ever.
        if (this.#unconfirmedBytes > 0 && this.#unconfirmedBytes + batch.bytes > WINDOW_BYTES) return
        this.#queue.shift()
        this.#queueBytes -= batch.bytes
        this.#unconfirmed.push(batch)
        this.#unconfirmedBytes += batch.bytes
        await this.#dial.send(batch.frames)
      }
    } catch (error) {
      if (!this.#closed) this.#options.fault(error)
    } finally {
      this.#sending = false
    }
  }
}

const viewOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
