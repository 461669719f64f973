import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { parseEndpoint } from '../discovery/discovery.ts'
import { SkeinError } from '../errors.ts'
import type { Reader, Writer } from '../protocol/bytes.ts'
import {
  type Address,
  FRAME,
  type Hello,
  type Interest,
  readWindows,
  type Service,
  writeAddress,
  writeInterest,
  writeTails,
  writeWindows,
} from '../protocol/control-frames.ts'
import type { TopicLast } from '../protocol/feed-batch.ts'
import { newId } from '../protocol/header.ts'
import { matches } from '../protocol/topics.ts'
import { isLoopback } from '../transport/hosts.ts'
import type { Link, Route } from '../transport/link.ts'
import { Liveness } from './liveness.ts'
import { Peer, type PeerInfo } from './peer.ts'

const MAX_PEERS = 4096
const MAX_REFUSING = 64
const KNOWN_TIMEOUT_MS = 10_000
/** How long the holder of an id may be silent without an answer, when another boot claims the same id. */
const CHALLENGE_MS = 500
/** Whoever still talks after this long lives, though its answer has not come through. */
const CHALLENGE_MAX_MS = 5000

export interface RosterOptions {
  /** Of this node. */
  readonly id: string
  readonly clock: Clock
  readonly changes: Changes
  readonly goneMs: number
  /** Where this node listens; null if it only dials. */
  address(): Address | null
  interest(): Interest
  /** The last delivery batch sent to this peer. */
  sentTo(peer: Peer): number
  /** Whether a reply, an ack or credit is awaited from it. */
  awaits(peer: Peer): boolean
  up(peer: Peer): void
  /** It was up and is lost; with tails it said goodbye. */
  down(peer: Peer, tails: readonly TopicLast[] | undefined): void
  /** It is forgotten: it will not return under this boot. */
  gone(peer: Peer): void
  /** What it subscribes or responds to has changed. */
  interested(peer: Peer): void
  /** It was lost without a goodbye and may be found again. */
  lost(peer: Peer): void
}

/** A member as another one is told of it. */
export interface Told {
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly endpoints: readonly string[]
}

/** Who is there: every sign of life ends here, and every verdict comes from here. */
export class Roster {
  readonly #options: RosterOptions
  readonly #peers = new Map<string, Peer>()
  readonly #tokens = new Map<string, Peer>()
  readonly #reserved = new Map<string, string>()
  /** Those that refuse this node. */
  readonly #refusing = new Map<string, Peer>()
  readonly #liveness: Liveness
  #pings = 0
  #closed = false

  constructor(options: RosterOptions) {
    this.#options = options
    this.#liveness = new Liveness({
      id: options.id,
      clock: options.clock,
      awaits: options.awaits,
      ping: (peer) => this.ping(peer),
      changed: () => options.changes.notify(),
      lost: (peer, reason) => this.down(peer, reason, undefined, true),
    })
  }

  start(): void {
    this.#liveness.start(this.#peers)
  }

  get(id: string): Peer | undefined {
    return this.#peers.get(id)
  }

  /** How late this node's event loop was at the worst in the last ten seconds, in ms. */
  get lagMs(): number {
    return this.#liveness.lagMs
  }

  get isFull(): boolean {
    return this.#peers.size >= MAX_PEERS
  }

  /** The token that this node gives to a peer, reserved already while it is only known by its address. */
  tokenFor(id: string, boot: string | undefined): string {
    const peer = this.#peers.get(id)
    // Another boot of it gets a token of its own: told the present one, it would seem to be somebody else by its next hello.
    const isAnother = peer !== undefined && boot !== undefined && peer.boot !== boot
    const given = (isAnother ? undefined : peer?.tokenGiven) ?? this.#reserved.get(id)
    if (given !== undefined) return given
    const token = newId()
    if (this.#reserved.size >= MAX_PEERS) this.#reserved.clear()
    this.#reserved.set(id, token)
    return token
  }

  /** Somebody else was told this token. */
  voidToken(id: string): void {
    this.#reserved.delete(id)
  }

  /** The peer that was given this token for its delivery batches. */
  byToken(token: string): Peer | undefined {
    return this.#tokens.get(token)
  }

  /** Peers that are up and listen somewhere. */
  members(): Peer[] {
    return [...this.#peers.values()].filter((peer) => peer.isUp && !peer.visitor)
  }

  infos(): PeerInfo[] {
    const refusing = [...this.#refusing.values()].filter(({ id }) => !this.#peers.has(id))
    const met = [...this.#peers.values()].filter((peer) => !peer.visitor)
    return [...met, ...refusing].map((peer) => peer.info())
  }

  /** Those that subscribe or respond to this topic, and are not up. */
  wanting(topic: string): string[] {
    const wants = ({ interest }: Peer): boolean =>
      interest.responders.includes(topic) || interest.patterns.some((pattern) => matches(pattern, topic))
    const absent = [...this.#peers.values()].filter((peer) => peer.state !== 'up' && !peer.visitor)
    return absent.filter(wants).map(({ id }) => id)
  }

  /** Asks a subscriber to say when it has read the batch of this number. */
  askReport(id: string, number: number): void {
    this.tell(id, FRAME.askReport, (writer) => writer.u48(number))
  }

  /** Asks a peer for a sign of life. Returns the number of the ping, which the answer repeats. */
  ping(peer: Peer): number {
    const number = ++this.#pings
    endOf(peer)?.send(FRAME.ping, (writer) => {
      writer.u48(this.#options.sentTo(peer))
      writer.u48(number)
    })
    return number
  }

  ponged(peer: Peer, number: number): void {
    peer.ponged = number
    this.#options.changes.notify()
  }

  /** Life is any traffic. */
  heard(peer: Peer): void {
    this.#liveness.heard(peer)
  }

  /** The members that a peer may be told of. What is only on this host's loopback is nothing to those elsewhere. */
  toldTo(id: string): Told[] {
    const to = this.#peers.get(id)
    // Where a visitor comes from nobody knows, but to loopback only from here.
    const isHere = to?.visitor ? this.#isOnlyHere : to?.ways().some(isOnLoopback)
    return this.members().flatMap((peer) => {
      const endpoints = peer.ways().filter((endpoint) => isHere || !isOnLoopback(endpoint))
      return endpoints.length === 0 ? [] : [{ id: peer.id, boot: peer.boot, name: peer.name, endpoints }]
    })
  }

  get #isOnlyHere(): boolean {
    return this.#options.address()?.hosts.every(isLoopback) ?? false
  }

  /** Sends one urgent frame to a peer, if it is connected. */
  tell(id: string, type: number, write: (writer: Writer) => void): void {
    const peer = this.#peers.get(id)
    if (peer !== undefined) endOf(peer)?.send(type, write)
  }

  /** Somebody says that it is gone, or the network has changed: it is asked. */
  doubt(peer: Peer): void {
    this.#liveness.doubt(peer)
  }

  /** This node is reached elsewhere now, and whoever is not there any more is found out. */
  moved(address: Address | null): void {
    for (const peer of this.#peers.values()) {
      if (address !== null) endOf(peer)?.send(FRAME.moved, (writer) => writeAddress(writer, address))
      this.#liveness.doubt(peer)
    }
  }

  /** The peer that is up and has answered at this endpoint. */
  at(endpoint: string): Peer | undefined {
    for (const peer of this.#peers.values()) if (peer.isUp && peer.endpoints.has(endpoint)) return peer
    return undefined
  }

  /** Tells every peer what this node subscribes and responds to now. */
  stateInterest(): void {
    const interest = this.#options.interest()
    for (const peer of this.#peers.values()) {
      endOf(peer)?.send(FRAME.interest, (writer) => writeInterest(writer, interest))
    }
  }

  /** How much of its work each peer may give this node at a time, in totals. */
  stateWindows(services: readonly Service[]): void {
    this.tellAll(FRAME.window, (writer) => writeWindows(writer, services))
  }

  /** A peer states its windows anew. */
  windowed(peer: Peer, reader: Reader): void {
    const services = readWindows(reader, peer.interest.services)
    if (services === peer.interest.services) return
    peer.interest = { ...peer.interest, services }
    this.#options.interested(peer)
  }

  tellAll(type: number, write: (writer: Writer) => void): void {
    for (const peer of this.#peers.values()) endOf(peer)?.send(type, write)
  }

  /** Resolves when every member knows our interest of this revision. */
  async known(revision: number): Promise<void> {
    const missing = (): Peer[] => (this.#closed ? [] : this.members().filter((peer) => peer.known < revision))
    if (await this.#options.changes.until(() => missing().length === 0, KNOWN_TIMEOUT_MS)) return
    const names = missing()
      .map((peer) => peer.label)
      .join(', ')
    throw new SkeinError(
      'WAIT_TIMEOUT',
      `what this node responds to was not confirmed within ${KNOWN_TIMEOUT_MS} ms by ${names}`,
    )
  }

  /** Says goodbye to everybody, with the ends of the topics that each should have seen. */
  async leave(tails: (peer: Peer) => readonly TopicLast[], timeoutMs: number): Promise<void> {
    const drained: Promise<void>[] = []
    for (const peer of this.#peers.values()) {
      // On the connection of the settlements, which must not come behind it.
      const end = peer.route ?? endOf(peer)
      if (end === undefined) continue
      end.send(FRAME.bye, (writer) => writeTails(writer, tails(peer)))
      drained.push(end.lane.drained())
    }
    let cancel = (): void => {}
    const expired = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(timeoutMs, resolve)
    })
    await Promise.race([Promise.all(drained), expired])
    cancel()
  }

  close(): void {
    this.#closed = true
    this.#liveness.close()
    for (const peer of [...this.#peers.values(), ...this.#refusing.values()]) {
      peer.cancelGone()
      peer.link?.close()
      peer.route?.close()
    }
    this.#options.changes.notify()
  }

  /** The peer of this hello, made or renewed for its boot. */
  meet(hello: Hello): Peer | undefined {
    let peer = this.#peers.get(hello.id)
    if (peer !== undefined && peer.boot !== hello.boot) {
      if (peer.state !== 'down') this.down(peer, 'it was started anew')
      this.forget(peer)
      peer = undefined
    }
    if (peer !== undefined) return peer
    if (this.isFull) return undefined
    peer = new Peer(hello.id, hello.boot, hello.name, this.tokenFor(hello.id, hello.boot))
    this.#reserved.delete(hello.id)
    peer.foundBy.add('hello')
    this.unlist(hello.id)
    this.#peers.set(hello.id, peer)
    this.#tokens.set(peer.tokenGiven, peer)
    return peer
  }

  /**
   * Another token than before: the peer has given this node up meanwhile and remembers nothing, while it was up all
   * the time for us. What was counted and numbered with it begins anew here, too, or the two never agree again.
   */
  startOver(hello: Hello): void {
    const peer = this.get(hello.id)
    if (peer === undefined || peer.boot !== hello.boot || peer.token === '' || hello.token === '') return
    if (peer.token !== hello.token && (peer.isUp || peer.state === 'one-way')) {
      this.down(peer, 'it had given this node up and starts over', undefined, true)
    }
  }

  /** Whether the present holder of an id still answers: what it had sent before it died is read after its death. */
  async challenge(holder: Peer): Promise<boolean> {
    if (holder.link === undefined || !holder.link.isOpen) return false
    const { clock, changes } = this.#options
    const askedAt = clock.now()
    const number = this.ping(holder)
    const isAnswered = (): boolean => holder.ponged >= number
    const isTalking = (): boolean => clock.now() < Math.max(askedAt, holder.heardAt) + CHALLENGE_MS
    while (holder.isUp && !isAnswered() && isTalking() && clock.now() < askedAt + CHALLENGE_MAX_MS) {
      await changes.next(CHALLENGE_MS / 10)
    }
    return holder.isUp && (isAnswered() || isTalking())
  }

  /** Lists somebody who is no member, so that `peers` can say why; of very many the latest. */
  list(peer: Peer): void {
    this.unlist(peer.id)
    this.#refusing.set(peer.id, peer)
    if (this.#refusing.size > MAX_REFUSING) this.unlist(this.#refusing.keys().next().value!)
    this.#afterGoneMs(peer, () => this.unlist(peer.id))
  }

  unlist(id: string): void {
    this.#refusing.get(id)?.cancelGone()
    if (this.#refusing.delete(id)) this.#options.changes.notify()
  }

  lists(id: string): boolean {
    return this.#peers.has(id) || this.#refusing.has(id)
  }

  /** It was lost and dials this node again: it is there, and has to be dialled. */
  returned(peer: Peer): void {
    peer.cancelGone()
    peer.state = 'seen'
    peer.reason = ''
  }

  up(peer: Peer): void {
    peer.state = 'up'
    peer.redialMs = 0
    if (!peer.visitor && peer.link !== undefined) peer.foundBy.delete('hello')
    if (peer.foundBy.size === 0) peer.foundBy.add('hello')
    this.#options.up(peer)
    this.#options.changes.notify()
  }

  /** It states what it subscribes and responds to. */
  interested(peer: Peer, interest: Interest): void {
    // Said again under the same revision it may bring windows that were lost with a connection.
    if (interest.revision < peer.interest.revision) return
    peer.interest = interest
    this.#options.interested(peer)
    this.#options.changes.notify()
  }

  /** It says which revision of our interest it knows. */
  knows(peer: Peer, revision: number): void {
    peer.known = Math.max(peer.known, revision)
    this.#options.changes.notify()
  }

  /** It is lost, or has said goodbye and where its topics end. */
  down(peer: Peer, reason: string, tails?: readonly TopicLast[], mayLive = false): void {
    const { link, route } = peer
    peer.link = undefined
    peer.route = undefined
    link?.close()
    route?.close()
    const wasMet = peer.state !== 'down'
    peer.state = 'down'
    peer.reason = reason
    peer.mayLive = mayLive
    peer.pingedAt = 0
    peer.interest = { revision: -1, patterns: [], responders: [], services: [] }
    this.#tokens.delete(peer.tokenGiven)
    peer.forget()
    this.#tokens.set(peer.tokenGiven, peer)
    if (wasMet) this.#options.down(peer, tails)
    peer.announced = false
    this.#afterGoneMs(peer, () => {
      if (peer.state === 'down') this.forget(peer)
    })
    // Nobody could dial a visitor, so it is not waited for.
    if (tails === undefined && !peer.visitor) this.#options.lost(peer)
    else this.forget(peer)
    this.#options.changes.notify()
  }

  forget(peer: Peer): void {
    peer.cancelGone()
    if (this.#peers.get(peer.id) === peer) this.#peers.delete(peer.id)
    this.#tokens.delete(peer.tokenGiven)
    this.#options.gone(peer)
    this.#options.changes.notify()
  }

  #afterGoneMs(peer: Peer, run: () => void): void {
    peer.cancelGone()
    peer.cancelGone = this.#options.clock.after(this.#options.goneMs, run)
  }
}

const isOnLoopback = (endpoint: string): boolean => isLoopback(parseEndpoint(endpoint)?.host ?? '')

/** The connection to answer or tell a peer on: ours, or while that is not welcomed the one it dialled. */
const endOf = (peer: Peer): Link | Route | undefined =>
  peer.link?.isOpen ? peer.link : (peer.route ?? peer.link)

/** Two living nodes with one id. */
export const clash = (hello: Hello): SkeinError =>
  new SkeinError(
    'NODE_ID_IN_USE',
    `node id ${hello.id} is held by a living node, and '${hello.name}' (boot ${hello.boot.slice(0, 8)}) claims it too; give each instance its own id`,
  )
