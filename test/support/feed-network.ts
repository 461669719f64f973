import { KIND } from '../../src/protocol/header.ts'
import type { DialEvents, FeedDial, Sent } from '../../src/transport/transport.ts'

/** As many batches as a real pipe holds before it is full. */
const PIPE_BATCHES = 64

/**
 * One XPUB and the SUBs that dialled it, in memory. Subscriptions travel to the publisher and batches to the
 * subscribers only when a test says so, so that it decides every interleaving; a reset loses both.
 */
export class FeedNetwork {
  /** What XPUB tells: a first listener to a prefix came, or the last one left. */
  listeners: (prefix: Buffer, present: boolean) => void = () => {}
  readonly #ends: FeedEnd[] = []

  dial(on: DialEvents): FeedEnd {
    const end = new FeedEnd(this, on)
    this.#ends.push(end)
    return end
  }

  readonly publish = (frames: Buffer[], patient: boolean): Promise<Sent> => {
    const hearing = this.#ends.filter((end) => end.hears(frames[0]!))
    if (patient && hearing.some((end) => end.pipe.length >= PIPE_BATCHES)) return Promise.resolve('full')
    for (const end of hearing) if (end.pipe.length < PIPE_BATCHES) end.pipe.push(frames)
    return Promise.resolve('sent')
  }

  /** Applies one change to what a connection subscribes to, and tells of firsts and lasts only, as XPUB does. */
  apply(end: FeedEnd, key: string, present: boolean): void {
    const others = this.#ends.some((other) => other !== end && other.known.has(key))
    const had = end.known.has(key)
    if (present) end.known.add(key)
    else end.known.delete(key)
    if (had !== present && !others) this.listeners(Buffer.from(key, 'latin1'), present)
  }
}

/** One SUB socket and its connection. */
export class FeedEnd implements FeedDial {
  /** Batches on their way to this subscriber. */
  readonly pipe: Buffer[][] = []
  /** What the publisher's side of the connection knows of its subscriptions. */
  readonly known = new Set<string>()
  connected = false
  readonly #network: FeedNetwork
  readonly #on: DialEvents
  readonly #wanted = new Set<string>()
  #underWay: { key: string; present: boolean }[] = []
  /** The barrier that was subscribed to last. */
  barrier = ''

  constructor(network: FeedNetwork, on: DialEvents) {
    this.#network = network
    this.#on = on
  }

  subscribe(prefix: Buffer): void {
    const key = prefix.toString('latin1')
    if (prefix[0] === 0x01) this.barrier = key
    this.#wanted.add(key)
    if (this.connected) this.#underWay.push({ key, present: true })
  }

  unsubscribe(prefix: Buffer): void {
    const key = prefix.toString('latin1')
    this.#wanted.delete(key)
    if (this.connected) this.#underWay.push({ key, present: false })
  }

  close(): void {
    this.down()
    this.#wanted.clear()
  }

  hears(frame: Buffer): boolean {
    const topic = frame.toString('latin1')
    for (const key of this.known) if (topic.startsWith(key)) return true
    return false
  }

  /** The connection stands; what was subscribed to is said again, in an order that nobody promised. */
  up(order: (key: string) => number = () => 0): void {
    if (this.connected) return
    this.connected = true
    const keys = [...this.#wanted].sort((a, b) => order(a) - order(b))
    this.#underWay = keys.map((key) => ({ key, present: true }))
    this.#on.up?.()
  }

  /** It breaks: batches and subscriptions under way are lost, and the publisher forgets what it knew. */
  down(): void {
    if (!this.connected) return
    this.connected = false
    this.pipe.length = 0
    this.#underWay = []
    for (const key of [...this.known]) this.#network.apply(this, key, false)
    this.#on.down?.()
  }

  /** Subscriptions arrive at the publisher. */
  pushSubscriptions(count = Number.POSITIVE_INFINITY): void {
    for (const { key, present } of this.#underWay.splice(0, count)) this.#network.apply(this, key, present)
  }

  /** The subscriber reads; answers how many batches there were. */
  read(count = Number.POSITIVE_INFINITY): number {
    const frames = this.pipe.splice(0, count)
    for (const each of frames) this.#on.frames?.(each)
    return frames.length
  }

  /** One batch is lost on its way. */
  drop(at: number): void {
    if (this.pipe.length > 0) this.pipe.splice(at % this.pipe.length, 1)
  }

  /** How many batches of messages are on their way. */
  get messages(): number {
    return this.pipe.filter((frames) => frames[1]![3] === KIND.feed).length
  }
}
