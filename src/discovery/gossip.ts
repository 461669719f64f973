import type { Clock } from '../clock.ts'
import { BATCH_BYTES, type Reader, type Writer } from '../protocol/bytes.ts'
import {
  type Digest,
  digestOf,
  type GossipMessage,
  MAX_MEMBERS,
  type Member,
  readGossip,
  writeGossip,
} from '../protocol/gossip-frame.ts'
import type { Announcement, Findings, Outcome, Sighting, Source } from './discovery.ts'

/** Members that are asked as soon as they come up. */
const AT_ONCE = 2
const FIRST_MS = 1000
const MAX_MS = 30_000
/** Who starts waits this long for a first answer; later ones are still taken for a while. */
const ASK_MS = 1000
const LATE_MS = 5000
/** A node answers each peer once in a second; the asker leaves room for delays on the way. */
const ANSWER_MS = 1000
const SAME_AGAIN_MS = 1500
/**
 * A member that was met and never asked may lead to a part of the mesh that is new here, so it goes before others; but
 * only once it has had the time to know all, or each newcomer would be asked by all, and have to tell all to each.
 */
const GATEWAY_FROM_MS = 10_000
const GATEWAY_TO_MS = 120_000
const FRAME_MEMBERS = 512
const MAX_HINTS = 1024
const BARRED_MS = 60_000
const MAX_REMEMBERED = 4096

export interface GossipOptions {
  readonly clock: Clock
  /** Those that are up, without this node, as this peer may be told of them. */
  members(peerId: string): readonly Member[]
  /** Sends a gossip frame with this body. */
  send(peerId: string, write: (writer: Writer) => void): void
}

interface Acquaintance {
  readonly metAt: number
  askedAt: number
}

interface Ask {
  readonly at: number
  readonly isFirst: boolean
  heard: number
  hinted: number
}

/**
 * Members tell each other whom they know, so that one address is enough to find all. Who comes asks the first two
 * it meets, then one at a time and ever more rarely; where both know the same the answer is empty. So to join costs
 * a node as much as there are members, and to stay costs a small frame every half minute.
 */
export class Gossip implements Source {
  readonly name = 'gossip'
  readonly #options: GossipOptions
  readonly #met = new Map<string, Acquaintance>()
  readonly #asks = new Map<string, Ask>()
  readonly #answeredAt = new Map<string, number>()
  /** Boots that were told of: who cannot be reached must not keep this node asking. */
  readonly #told = new Map<string, number>()
  /** Until when an endpoint of a boot is not told again. */
  readonly #barred = new Map<string, number>()
  #self: Announcement | null = null
  #on: Findings | undefined
  #askedAt = 0
  #intervalMs = FIRST_MS
  #dueAt = 0
  #cancel: (() => void) | undefined
  #ignored = 0
  #closed = false

  constructor(options: GossipOptions) {
    this.#options = options
  }

  /** Nobody who was asked at once still owes a first answer. */
  get isSettled(): boolean {
    const since = this.#options.clock.now() - ASK_MS
    return ![...this.#asks.values()].some((ask) => ask.isFirst && ask.at > since)
  }

  /** Frames that were not answered or not believed: asked too often, or told unasked. */
  get ignored(): number {
    return this.#ignored
  }

  start(self: Announcement | null, on: Findings): Promise<void> {
    if (this.#closed) return Promise.resolve()
    this.#self = self
    this.#on = on
    return Promise.resolve()
  }

  /** A member came up. */
  met(peerId: string): void {
    if (this.#on === undefined) return
    // Anew, so that the latest stand last.
    this.#met.delete(peerId)
    this.#met.set(peerId, { metAt: this.#options.clock.now(), askedAt: Number.NEGATIVE_INFINITY })
    if (this.#isAskedAtOnce()) this.#ask(peerId, true)
    if (this.#cancel === undefined) this.#quicken()
    else this.#dueIn(GATEWAY_FROM_MS * (1 + this.#options.clock.random() / 2))
  }

  lost(peerId: string): void {
    this.#met.delete(peerId)
    this.#answeredAt.delete(peerId)
    this.#asks.delete(peerId)
  }

  /** A gossip frame of a peer, whether it is up here already or not. */
  take(peerId: string, reader: Reader): void {
    const message = readGossip(reader)
    if (this.#closed) return
    if (message.kind === 'ask') this.#answer(peerId, message.digest)
    else if (this.#on !== undefined) this.#learn(peerId, message, this.#on)
  }

  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void {
    const key = `${sighting.boot} ${endpoint}`
    if (outcome.kind === 'up') this.#barred.delete(key)
    else remember(this.#barred, key, this.#options.clock.now() + BARRED_MS)
  }

  moved(self: Announcement | null): void {
    if (this.#on === undefined) return
    this.#self = self
    this.#barred.clear()
    this.#told.clear()
    this.#askSomebody()
    if (this.#met.size > 0) this.#quicken()
  }

  close(): Promise<void> {
    this.#closed = true
    this.#on = undefined
    this.#cancel?.()
    this.#cancel = undefined
    for (const known of [this.#met, this.#asks, this.#answeredAt, this.#told, this.#barred]) known.clear()
    return Promise.resolve()
  }

  /**
   * The first two each; of later ones two in as many as there are, and not in a burst: enough that two parts of a mesh
   * that meet soon know all of each other, too few for all to ask a newcomer.
   */
  #isAskedAtOnce(): boolean {
    const { clock } = this.#options
    const { size } = this.#met
    if (size <= AT_ONCE) return true
    return clock.now() - this.#askedAt >= FIRST_MS && clock.random() * size < AT_ONCE
  }

  #members(peerId: string): readonly Member[] {
    return this.#options.members(peerId).filter((member) => member.endpoints.length > 0)
  }

  #digest(members: readonly Member[]): Digest {
    return digestOf(this.#self === null ? members : [this.#self, ...members])
  }

  #ask(peerId: string, isFirst = false): void {
    const { clock, send } = this.#options
    this.#askedAt = clock.now()
    this.#met.get(peerId)!.askedAt = this.#askedAt
    this.#asks.set(peerId, { at: clock.now(), isFirst, heard: 0, hinted: 0 })
    const digest = this.#digest(this.#members(peerId))
    send(peerId, (writer) => writeGossip(writer, { kind: 'ask', digest }))
  }

  /** Answers false where all have been asked so lately that they would not answer. */
  #askSomebody(): boolean {
    const { clock } = this.#options
    const now = clock.now()
    const free: string[] = []
    let gateway: string | undefined
    for (const [id, { metAt, askedAt }] of this.#met) {
      if (now - askedAt < SAME_AGAIN_MS) continue
      free.push(id)
      const isNew = now - metAt >= GATEWAY_FROM_MS && now - metAt < GATEWAY_TO_MS
      if (isNew && askedAt < metAt) gateway = id
    }
    const chosen = gateway ?? free[Math.floor(clock.random() * free.length)]
    if (chosen === undefined) return false
    this.#ask(chosen)
    return true
  }

  /** The rhythm begins anew. */
  #quicken(): void {
    this.#intervalMs = FIRST_MS
    this.#dueIn(this.#jittered())
  }

  /** Asks then at the latest: never later than was planned, or a stream of newcomers would put it off for ever. */
  #dueIn(delayMs: number): void {
    if (this.#cancel === undefined || this.#options.clock.now() + delayMs < this.#dueAt) this.#arm(delayMs)
  }

  #jittered(): number {
    return this.#intervalMs * (0.5 + this.#options.clock.random())
  }

  #arm(delayMs: number): void {
    const { clock } = this.#options
    this.#cancel?.()
    this.#dueAt = clock.now() + delayMs
    this.#cancel = clock.after(delayMs, () => this.#beat())
  }

  #beat(): void {
    this.#cancel = undefined
    if (this.#met.size === 0) return
    if (this.#askSomebody()) this.#intervalMs = Math.min(MAX_MS, 2 * this.#intervalMs)
    this.#arm(this.#jittered())
  }

  #answer(peerId: string, digest: Digest): void {
    const { clock, send } = this.#options
    const now = clock.now()
    if (now - (this.#answeredAt.get(peerId) ?? Number.NEGATIVE_INFINITY) < ANSWER_MS) {
      this.#ignored++
      return
    }
    remember(this.#answeredAt, peerId, now)
    const members = this.#members(peerId)
    const mine = this.#digest(members)
    const isSame = mine.count === digest.count && mine.hash === digest.hash
    // Who does not gossip says so at once: the asker would wait for it.
    const isMute = this.#on === undefined
    const frames = framesOf(
      isSame || isMute ? [] : members.filter(({ id }) => id !== peerId).slice(0, MAX_MEMBERS),
    )
    for (const [at, part] of frames.entries()) {
      const done = at === frames.length - 1
      send(peerId, (writer) => writeGossip(writer, { kind: 'tell', members: part, done }))
    }
  }

  #learn(peerId: string, { members, done }: GossipMessage & { kind: 'tell' }, on: Findings): void {
    const ask = this.#asks.get(peerId)
    const now = this.#options.clock.now()
    if (ask === undefined || now - ask.at > LATE_MS) {
      this.#ignored++
      return
    }
    // An empty frame counts too, or an answer could go on for ever.
    ask.heard += Math.max(1, members.length)
    const isOver = done || ask.heard >= MAX_MEMBERS
    if (isOver) this.#asks.delete(peerId)
    if (members.length > 0) this.#tell(peerId, members, ask, on)
  }

  #tell(peerId: string, members: readonly Member[], ask: Ask, on: Findings): void {
    const now = this.#options.clock.now()
    const up = new Map(this.#options.members(peerId).map(({ id, boot }) => [id, boot]))
    let isNews = false
    for (const { id, boot, name, endpoints } of members) {
      if (ask.hinted >= MAX_HINTS) break
      if (boot === this.#self?.boot || up.get(id) === boot) continue
      const open = endpoints.filter((endpoint) => (this.#barred.get(`${boot} ${endpoint}`) ?? 0) <= now)
      if (open.length === 0) continue
      ask.hinted++
      isNews ||= !this.#told.has(boot)
      remember(this.#told, boot, now)
      on.seen({ id, boot, name, endpoints: [...new Set(open)], source: 'gossip' })
    }
    if (isNews) this.#quicken()
  }
}

/** Keeps the latest, and not more of them than a stranger may make a node remember. */
const remember = (map: Map<string, number>, key: string, value: number): void => {
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!)
}

/** One frame at least, none larger than a batch or of more members than 512. */
const framesOf = (members: readonly Member[]): Member[][] => {
  const frames: Member[][] = [[]]
  let bytes = 0
  for (const member of members) {
    const size = member.endpoints.reduce((sum, { length }) => sum + length, 34 + 3 * member.name.length)
    let frame = frames.at(-1)!
    if (frame.length === FRAME_MEMBERS || (bytes + size > BATCH_BYTES && frame.length > 0)) {
      frames.push([])
      frame = frames.at(-1)!
      bytes = 0
    }
    frame.push(member)
    bytes += size
  }
  return frames
}
