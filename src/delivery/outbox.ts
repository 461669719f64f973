import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import { BATCH_BYTES, Writer } from '../protocol/bytes.ts'
import { endpointOf, FRAME } from '../protocol/control-frames.ts'
import { beginDeliveryBatch, sealDeliveryBatch } from '../protocol/delivery-batch.ts'
import { type Payload, writeRecord, writeRecordHead } from '../protocol/record.ts'
import { Cork } from '../transport/cork.ts'
import type { Dial, Transport } from '../transport/transport.ts'
import { hostOf } from './following.ts'

/** Batches on their way that the peer has not yet said it took. */
const WINDOW_BYTES = 4 * 1024 * 1024
const ALONE_BYTES = 32 * 1024
/** A receiver without room is offered the message again after this. */
const BUSY_AGAIN_MS = 50

export interface OutboxOptions {
  readonly boot: string
  readonly transport: Transport
  readonly clock: Clock
  /** Most that may wait for one peer. */
  readonly queueBytes: number
  fault(error: unknown): void
}

interface Batch {
  readonly number: number
  /** Topics of the messages in it that nobody waits for: if the peer is lost, it must be told that it missed them. */
  readonly topics: readonly string[]
  readonly frames: Buffer[]
  readonly bytes: number
}

type Outcome = (error?: SkeinError) => void

/** What is handed to one peer: numbered batches, kept until the peer says that it took them. */
class DeliveryLane {
  readonly #peer: Peer
  readonly #options: OutboxOptions
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
  #sequence = 0
  #sending = false
  #closed = false
  /** What the last ping said was taken: the same again, with more sent, is a loss. */
  #takenAtPing = -1
  readonly awaited = new Map<number, Outcome>()
  #idle: (() => void)[] = []

  constructor(peer: Peer, options: OutboxOptions) {
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

  /** Accepts a message unless too much waits already; with `outcome` the peer is asked to ack it; answers its sequence. */
  push(topic: string, payload: Payload, outcome: Outcome | undefined): number {
    if (this.#queueBytes > 0 && this.#queueBytes + payload.sizeBytes > this.#options.queueBytes) return 0
    const writer = this.#writer
    const alone = payload.sizeBytes >= ALONE_BYTES
    if (alone && this.#count > 0) this.#seal()
    if (this.#count === 0) beginDeliveryBatch(writer, this.#peer.token, this.#options.boot, ++this.#number)
    this.#count++
    writer.u48(++this.#sequence)
    writer.text8(topic)
    if (outcome === undefined) this.#topics.push(topic)
    else this.awaited.set(this.#sequence, outcome)
    if (alone) {
      writeRecordHead(writer, payload, outcome !== undefined)
      this.#seal(typeof payload.body === 'string' ? Buffer.from(payload.body) : viewOf(payload.body))
    } else {
      writeRecord(writer, payload, outcome !== undefined)
      if (writer.length >= BATCH_BYTES) this.#seal()
    }
    this.#cork.touch()
    return this.#sequence
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

  close(error: SkeinError): void {
    this.#closed = true
    this.#dial.close()
    const awaited = [...this.awaited.values()]
    this.awaited.clear()
    for (const outcome of awaited) outcome(error)
    this.#wakeIdle()
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

/**
 * Messages for named peers, on the delivery road: batches are taken strictly in order and sent again after a reset,
 * so between two living nodes nothing is lost. What a peer's full queue refuses is counted and told to that peer.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #lanes = new Map<Peer, DeliveryLane>()
  /** What peers that were lost must be told if they return. */
  readonly #missed = new Map<Peer, Set<string>>()
  #dropped = 0

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  get dropped(): number {
    return this.#dropped
  }

  /** At most once: a peer whose queue is full loses the message and is told so (G3, G5). */
  send(peer: Peer, topic: string, payload: Payload): void {
    if (
      peer.link !== undefined &&
      peer.address !== null &&
      this.#lane(peer).push(topic, payload, undefined) > 0
    )
      return
    this.#dropped++
    this.#tellMissed(peer, topic, 1)
  }

  /** Resolves when the peer has handled the message; a peer without room is offered it again. */
  handOver(peer: Peer, topic: string, payload: Payload, timeoutMs: number): Promise<void> {
    const { clock } = this.#options
    const what = `publish to '${topic}' for peer ${peer.label}`
    return new Promise((resolve, reject) => {
      let ended = false
      let sequence = 0
      const end = (error?: SkeinError): void => {
        if (ended) return
        ended = true
        cancel()
        this.#lanes.get(peer)?.awaited.delete(sequence)
        if (error === undefined) resolve()
        else reject(error)
      }
      const cancel = clock.after(timeoutMs, () =>
        end(
          new SkeinError('WAIT_TIMEOUT', `${what} was not handled within ${timeoutMs} ms; it may still be`, {
            mayHaveRun: true,
          }),
        ),
      )
      const offer = (): void => {
        if (ended) return
        if (peer.link === undefined || peer.address === null) {
          end(new SkeinError('PEER_LOST', `${what}: the peer is not reachable`, { mayHaveRun: false }))
          return
        }
        sequence = this.#lane(peer).push(topic, payload, (error) => {
          if (error?.code === 'BUSY') clock.after(BUSY_AGAIN_MS, offer)
          else end(error)
        })
        if (sequence === 0) clock.after(BUSY_AGAIN_MS, offer)
      }
      offer()
    })
  }

  acked(peer: Peer, sequence: number): void {
    this.#settle(peer, sequence, undefined)
  }

  nacked(peer: Peer, sequence: number, error: SkeinError): void {
    this.#settle(peer, sequence, error)
  }

  taken(peer: Peer, number: number): void {
    this.#lanes.get(peer)?.taken(number)
  }

  resume(peer: Peer, number: number): void {
    this.#lanes.get(peer)?.resume(number)
  }

  ponged(peer: Peer, taken: number): void {
    this.#lanes.get(peer)?.ponged(taken)
  }

  sentTo(peer: Peer): number {
    return this.#lanes.get(peer)?.sent ?? 0
  }

  awaits(peer: Peer): boolean {
    return this.#lanes.get(peer)?.isAwaiting === true
  }

  /** Messages that were not acked yet. */
  get unsettled(): number {
    let unsettled = 0
    for (const lane of this.#lanes.values()) unsettled += lane.awaited.size
    return unsettled
  }

  /** Resolves when every peer has taken what was sent to it, at the latest after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    let cancel = (): void => {}
    const expired = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(timeoutMs, resolve)
    })
    await Promise.race([Promise.all([...this.#lanes.values()].map((lane) => lane.drained())), expired])
    cancel()
  }

  down(peer: Peer): void {
    const lane = this.#lanes.get(peer)
    if (lane === undefined) return
    this.#lanes.delete(peer)
    if (lane.unsettledTopics.size > 0) this.#missed.set(peer, lane.unsettledTopics)
    lane.close(new SkeinError('PEER_LOST', `peer ${peer.label} was lost before it acked: ${peer.reason}`))
  }

  /** It is back under the same boot, and learns of what it may have missed; how much of it nobody knows. */
  up(peer: Peer): void {
    for (const topic of this.#missed.get(peer) ?? []) this.#tellMissed(peer, topic, 0)
    this.#missed.delete(peer)
  }

  gone(peer: Peer): void {
    this.#missed.delete(peer)
  }

  close(): void {
    const error = new SkeinError('CLOSED', 'the node was closed before the message was acked')
    for (const lane of this.#lanes.values()) lane.close(error)
    this.#lanes.clear()
  }

  #tellMissed(peer: Peer, topic: string, count: number): void {
    const end = peer.link?.isOpen ? peer.link : peer.route
    end?.send(FRAME.missed, (writer) => {
      writer.text8(topic)
      writer.u48(count)
    })
  }

  #settle(peer: Peer, sequence: number, error: SkeinError | undefined): void {
    const awaited = this.#lanes.get(peer)?.awaited
    const outcome = awaited?.get(sequence)
    awaited?.delete(sequence)
    outcome?.(error)
  }

  #lane(peer: Peer): DeliveryLane {
    let lane = this.#lanes.get(peer)
    if (lane === undefined) {
      lane = new DeliveryLane(peer, this.#options)
      this.#lanes.set(peer, lane)
    }
    return lane
  }
}

const viewOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
