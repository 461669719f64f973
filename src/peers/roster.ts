import type { Clock } from '../clock.ts'
import type { Sighting } from '../discovery/discovery.ts'
import { ERROR_CODES, type ErrorCode, SkeinError } from '../errors.ts'
import type { Reader } from '../protocol/bytes.ts'
import {
  type Address,
  endpointOf,
  FRAME,
  type Hello,
  type Interest,
  readHello,
  readInterest,
  readTails,
  writeHello,
  writeInterest,
  writeTails,
} from '../protocol/control-frames.ts'
import type { TopicLast } from '../protocol/feed-batch.ts'
import { Link, Route, readControlBatch } from '../transport/link.ts'
import type { Transport } from '../transport/transport.ts'
import { Liveness } from './liveness.ts'
import { Peer, type PeerInfo } from './peer.ts'

/** A broken connection that is not back by then is lost. */
const BACK_MS = 500
/** How long the holder of an id has to show that it lives, when another boot claims the same id. */
const CHALLENGE_MS = 500
const REDIAL_MS = 500
const REDIAL_MAX_MS = 10_000
const MAX_PEERS = 4096
const KNOWN_TIMEOUT_MS = 10_000

export interface RosterOptions {
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly mesh: string
  readonly transport: Transport
  readonly clock: Clock
  readonly queueBytes: number
  readonly goneMs: number
  interest(): Interest
  /** A frame that is not about presence. */
  frame(peer: Peer, type: number, reader: Reader): void
  /** The last delivery batch taken from this peer, and the last one sent to it. */
  takenFrom(peer: Peer): number
  sentTo(peer: Peer): number
  /** What the other end says of the same: a difference is a loss. */
  pinged(peer: Peer, sent: number): void
  ponged(peer: Peer, taken: number): void
  /** Whether a reply, an ack or credit is awaited from it. */
  awaits(peer: Peer): boolean
  up(peer: Peer): void
  /** Its connection was reset and stands again: what was under way on it may be lost. */
  resumed(peer: Peer, taken: number): void
  down(peer: Peer, tails: readonly TopicLast[] | undefined): void
  /** It is forgotten: it will not return under this boot. */
  gone(peer: Peer): void
  /** What it subscribes or responds to has changed. */
  interested(peer: Peer): void
  refused(sighting: Sighting): void
  warning(error: SkeinError): void
  fault(error: unknown): void
}

interface Candidate {
  readonly link: Link
  readonly sighting: Sighting
}

/** Who is there: every sign of life ends here, and every verdict comes from here. */
export class Roster {
  readonly #options: RosterOptions
  readonly #peers = new Map<string, Peer>()
  readonly #routes = new Map<string, { route: Route; peer: Peer }>()
  /** Links that have not been welcomed yet, by endpoint. */
  readonly #candidates = new Map<string, Candidate>()
  readonly #linked = new Map<Link, Peer>()
  readonly #tokens = new Map<string, Peer>()
  readonly #waiting = new Set<() => void>()
  readonly #liveness: Liveness
  #address: Address | null = null
  #clash: SkeinError | undefined
  #closed = false

  constructor(options: RosterOptions) {
    this.#options = options
    this.#liveness = new Liveness({
      clock: options.clock,
      awaits: options.awaits,
      ping: (peer) =>
        (peer.link ?? peer.route)?.send(FRAME.ping, (writer) => writer.u48(options.sentTo(peer))),
      changed: () => this.#changed(),
      lost: (peer, reason) => this.#down(peer, reason),
    })
  }

  start(address: Address | null): void {
    this.#address = address
    this.#liveness.start(this.#peers)
  }

  get(id: string): Peer | undefined {
    return this.#peers.get(id)
  }

  /** The peer that was given this token for its delivery batches. */
  byToken(token: string): Peer | undefined {
    return this.#tokens.get(token)
  }

  /** Every known peer, visitors too. */
  all(): Iterable<Peer> {
    return this.#peers.values()
  }

  /** Peers that are up and listen somewhere. */
  members(): Peer[] {
    return [...this.#peers.values()].filter((peer) => peer.isUp && !peer.visitor)
  }

  infos(): PeerInfo[] {
    return [...this.#peers.values()].filter((peer) => !peer.visitor).map((peer) => peer.info())
  }

  /** Resolves when every address known so far has answered or refused; throws if another node holds our id. */
  async settled(timeoutMs: number): Promise<void> {
    const { clock } = this.#options
    const until = clock.now() + timeoutMs
    while (this.#candidates.size > 0 && this.#clash === undefined && clock.now() < until) {
      await this.change(until - clock.now())
    }
    if (this.#clash !== undefined) throw this.#clash
  }

  /** Resolves at the next change of any peer, at the latest after `timeoutMs`. */
  change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel()
        this.#waiting.delete(done)
        resolve()
      }
      const cancel = this.#options.clock.after(timeoutMs, done)
      this.#waiting.add(done)
    })
  }

  /** Somebody may be at this address. */
  seen(sighting: Sighting): void {
    if (this.#closed || sighting.boot === this.#options.boot) return
    const known = this.#peers.get(sighting.id)
    if (known !== undefined && known.boot === sighting.boot) {
      known.foundBy.add(sighting.source)
      known.endpoints.add(sighting.endpoint)
      if (known.link !== undefined) return
    }
    this.#dial(sighting)
  }

  /** A batch on the control socket, from whoever dialled it. */
  control(key: string, batch: Buffer): void {
    let strange = false
    try {
      readControlBatch(
        batch,
        (number) => {
          strange = this.#routes.get(key)?.route.lane.helloNumber !== number
          return true
        },
        (type, reader) => {
          if (type === FRAME.hello) {
            strange = false
            this.#hello(key, readHello(reader.bytes(reader.left)))
            return
          }
          const known = this.#routes.get(key)
          if (strange || known === undefined) return
          this.#liveness.heard(known.peer)
          this.#frame(known.peer, type, reader, known.route)
        },
      )
    } catch (error) {
      if (error instanceof SkeinError && error.code === 'VERSION_MISMATCH') this.#refuse(key, 0, error)
      throw error
    }
    // Whoever is unknown here, after a reset or because its hello was lost, is asked for a hello.
    if (strange) this.#route(key, 0).send(FRAME.who)
  }

  /** Something that others wait for has changed outside the roster. */
  touch(): void {
    this.#changed()
  }

  /** Asks a subscriber to say when it has read the batch of this number. */
  askReport(id: string, number: number): void {
    const peer = this.#peers.get(id)
    const end = peer?.link?.isOpen ? peer.link : peer?.route
    end?.send(FRAME.askReport, (writer) => writer.u48(number))
  }

  heard(peer: Peer): void {
    this.#liveness.heard(peer)
  }

  /** Tells every peer what this node subscribes and responds to now. */
  stateInterest(): void {
    const interest = this.#options.interest()
    for (const peer of this.#peers.values()) {
      const end = peer.link?.isOpen ? peer.link : peer.route
      end?.send(FRAME.interest, (writer) => writeInterest(writer, interest))
    }
  }

  /** Resolves when every member knows our interest of this revision. */
  async known(revision: number): Promise<void> {
    const { clock } = this.#options
    const until = clock.now() + KNOWN_TIMEOUT_MS
    for (;;) {
      const missing = this.members().filter((peer) => peer.known < revision)
      if (missing.length === 0 || this.#closed) return
      if (clock.now() >= until) {
        const names = missing.map((peer) => peer.label).join(', ')
        throw new SkeinError(
          'WAIT_TIMEOUT',
          `what this node responds to was not confirmed within ${KNOWN_TIMEOUT_MS} ms by ${names}`,
        )
      }
      await this.change(until - clock.now())
    }
  }

  /** Says goodbye to everybody, with the ends of the topics that each should have seen. */
  async leave(tails: (peer: Peer) => readonly TopicLast[], timeoutMs: number): Promise<void> {
    const drained: Promise<void>[] = []
    for (const peer of this.#peers.values()) {
      const end = peer.link?.isOpen ? peer.link : peer.route
      if (end === undefined) continue
      end.send(FRAME.bye, (writer) => writeTails(writer, tails(peer)))
      drained.push(end.lane.drained())
    }
    await Promise.race([
      Promise.all(drained),
      new Promise<void>((resolve) => this.#options.clock.after(timeoutMs, resolve)),
    ])
  }

  close(): void {
    this.#closed = true
    this.#liveness.close()
    for (const { link } of this.#candidates.values()) link.close()
    for (const peer of this.#peers.values()) peer.link?.close()
    for (const { route } of this.#routes.values()) route.lane.close()
    this.#candidates.clear()
    this.#changed()
  }

  #self(number: number, extra: Partial<Hello> = {}): Hello {
    const { mesh, id, boot, name, interest } = this.#options
    const address = this.#address
    return {
      mesh,
      id,
      boot,
      name,
      number,
      address,
      interest: interest(),
      token: '',
      taken: 0,
      known: 0,
      unreachable: '',
      ...extra,
    }
  }

  #dial(sighting: Sighting): void {
    if (this.#candidates.has(sighting.endpoint) || this.#peers.size + this.#candidates.size >= MAX_PEERS)
      return
    const { transport, clock, queueBytes, fault } = this.#options
    const link: Link = new Link({
      transport,
      clock,
      queueBytes,
      fault,
      endpoint: sighting.endpoint,
      hello: (number) => this.#self(number, { token: this.#tokenFor(link, sighting) }),
      frame: (from, type, reader) => this.#linkFrame(from, type, reader),
      broken: (from) => this.#broken(from),
      refused: (from) => this.#refusedBy(from),
    })
    this.#candidates.set(sighting.endpoint, { link, sighting })
    link.open()
  }

  #tokenFor(link: Link, { id, boot }: Sighting): string {
    const peer = this.#linked.get(link) ?? this.#peers.get(id)
    return peer === undefined || (peer.id === id && peer.boot !== boot) ? '' : peer.tokenGiven
  }

  #linkFrame(link: Link, type: number, reader: Reader): void {
    if (type === FRAME.welcome) void this.#welcome(link, readHello(reader.bytes(reader.left)))
    else if (type === FRAME.who) link.greet()
    else if (type === FRAME.refuse) this.#rejected(link, reader.text8(), reader.text32())
    else {
      const peer = this.#linked.get(link)
      if (peer === undefined) return
      this.#liveness.heard(peer)
      this.#frame(peer, type, reader, link)
    }
  }

  #frame(peer: Peer, type: number, reader: Reader, end: Link | Route): void {
    switch (type) {
      case FRAME.ping:
        end.send(FRAME.pong, (writer) => writer.u48(this.#options.takenFrom(peer)))
        return this.#options.pinged(peer, reader.u48())
      case FRAME.pong:
        return this.#options.ponged(peer, reader.u48())
      case FRAME.interest:
        this.#interest(peer, readInterest(reader.bytes(reader.left)))
        return end.send(FRAME.known, (writer) => writer.u48(peer.interest.revision))
      case FRAME.known:
        return this.#known(peer, reader.u48())
      case FRAME.bye:
        return this.#leave(peer, readTails(reader))
      default:
        return this.#options.frame(peer, type, reader)
    }
  }

  /** Somebody dialled us and says who it is. */
  #hello(key: string, hello: Hello): void {
    const { id, mesh } = this.#options
    if (hello.mesh !== mesh) {
      const text = `this node is in mesh '${mesh}', the hello of '${hello.name}' names mesh '${hello.mesh}'`
      return this.#refuse(key, hello.number, new SkeinError('MESH_MISMATCH', text))
    }
    if (hello.id === id) {
      if (hello.boot !== this.#options.boot) this.#refuseClash(key, hello)
      return
    }
    const known = this.#peers.get(hello.id)
    if (known !== undefined && known.boot !== hello.boot && known.isUp) {
      void this.#challenge(known, hello.boot).then((alive) => {
        if (this.#closed) return
        if (alive) this.#refuseClash(key, hello)
        else this.#accept(key, hello)
      })
      return
    }
    this.#accept(key, hello)
  }

  #accept(key: string, hello: Hello): void {
    this.#startOver(hello)
    const peer = this.#meet(hello)
    if (peer === undefined) return
    if (hello.token !== '') peer.token = hello.token
    const route = this.#route(key, hello.number)
    if (peer.route !== undefined && peer.route.key !== key) this.#dropRoute(peer.route)
    peer.route = route
    this.#routes.set(key, { route, peer })
    peer.address = hello.address
    peer.visitor = hello.address === null
    this.#liveness.heard(peer)
    this.#interest(peer, hello.interest)
    this.#sendWelcome(peer, hello.number)
    if (peer.visitor) {
      if (!peer.isUp) this.#up(peer)
    } else if (peer.link === undefined && !this.#isSought(hello)) {
      const { host, control } = hello.address!
      this.#dial({
        id: hello.id,
        boot: hello.boot,
        name: hello.name,
        endpoint: endpointOf(host, control),
        source: 'hello',
      })
    }
  }

  /**
   * Another token than before: the peer has given this node up meanwhile and remembers nothing, while it was up all
   * the time for us. What was counted and numbered with it begins anew here, too, or the two never agree again.
   */
  #startOver(hello: Hello): void {
    const peer = this.#peers.get(hello.id)
    if (peer === undefined || peer.boot !== hello.boot || peer.token === '' || hello.token === '') return
    if (peer.token !== hello.token && (peer.isUp || peer.state === 'one-way')) {
      this.#down(peer, 'it had given this node up and starts over')
    }
  }

  #isSought(hello: Hello): boolean {
    return [...this.#candidates.values()].some(
      ({ sighting }) => sighting.id === hello.id && sighting.boot === hello.boot,
    )
  }

  #sendWelcome(peer: Peer, number: number): void {
    const unreachable = peer.state === 'one-way' ? peer.reason : ''
    const known = Math.max(0, peer.interest.revision)
    const welcome = { token: peer.tokenGiven, taken: this.#options.takenFrom(peer), known, unreachable }
    peer.route?.send(FRAME.welcome, (writer) => writeHello(writer, this.#self(number, welcome)))
  }

  /** The node at the other end of a link that we dialled says who it is. */
  async #welcome(link: Link, hello: Hello): Promise<void> {
    const candidate = this.#candidates.get(link.endpoint)
    const known = this.#peers.get(hello.id)
    if (known?.link === link && known.boot === hello.boot) {
      const back = !link.isOpen
      this.#startOver(hello)
      if (known.link !== link || !link.welcomed(hello.number)) return
      this.#greeted(known, hello)
      if (back && known.isUp) this.#options.resumed(known, hello.taken)
      else if (!known.isUp) this.#up(known)
      return
    }
    if (candidate?.link !== link) return this.#restarted(link, hello)
    if (hello.id === this.#options.id) {
      // Our own address, found again; another boot of our id would have refused us.
      this.#dropCandidate(link)
      return
    }
    if (
      known !== undefined &&
      known.boot !== hello.boot &&
      known.isUp &&
      (await this.#challenge(known, hello.boot))
    ) {
      this.#dropCandidate(link)
      this.#options.warning(clash(hello))
      return
    }
    const peer = this.#closed ? undefined : this.#meet(hello)
    if (peer === undefined || (peer.link !== undefined && peer.link !== link)) {
      this.#dropCandidate(link)
      return
    }
    if (!link.welcomed(hello.number)) return
    this.#candidates.delete(link.endpoint)
    peer.link = link
    this.#linked.set(link, peer)
    peer.foundBy.add(candidate.sighting.source)
    peer.endpoints.add(link.endpoint)
    this.#greeted(peer, hello)
    this.#up(peer)
  }

  #greeted(peer: Peer, hello: Hello): void {
    peer.address = hello.address
    peer.token = hello.token
    this.#known(peer, hello.known)
    this.#liveness.heard(peer)
    this.#interest(peer, hello.interest)
    if (hello.unreachable !== '' && peer.reason !== hello.unreachable) {
      peer.reason = hello.unreachable
      this.#options.warning(
        new SkeinError(
          'PEER_UNKNOWN',
          `peer ${peer.label} cannot dial this node back: ${hello.unreachable}; open that port, or set 'advertise'`,
        ),
      )
    }
  }

  /** Another boot, or another node, answers where this link was connected to. */
  #restarted(link: Link, hello: Hello): void {
    const peer = this.#linked.get(link)
    if (peer === undefined) return
    this.#down(peer, `another node answers at ${link.endpoint}`)
    if (hello.mesh === this.#options.mesh) {
      this.#dial({
        id: hello.id,
        boot: hello.boot,
        name: hello.name,
        endpoint: link.endpoint,
        source: 'hello',
      })
    }
  }

  /** The peer of this hello, made or renewed for its boot. */
  #meet(hello: Hello): Peer | undefined {
    let peer = this.#peers.get(hello.id)
    if (peer !== undefined && peer.boot !== hello.boot) {
      if (peer.isUp) this.#down(peer, 'it was started anew')
      this.#forget(peer)
      peer = undefined
    }
    if (peer !== undefined) return peer
    if (this.#peers.size >= MAX_PEERS) return undefined
    peer = new Peer(hello.id, hello.boot, hello.name)
    peer.foundBy.add('hello')
    this.#peers.set(hello.id, peer)
    this.#tokens.set(peer.tokenGiven, peer)
    return peer
  }

  #up(peer: Peer): void {
    peer.state = 'up'
    peer.redialMs = REDIAL_MS
    if (!peer.visitor && peer.link !== undefined) peer.foundBy.delete('hello')
    if (peer.foundBy.size === 0) peer.foundBy.add('hello')
    this.#options.up(peer)
    this.#changed()
  }

  #interest(peer: Peer, interest: Interest): void {
    if (interest.revision <= peer.interest.revision) return
    peer.interest = interest
    this.#options.interested(peer)
    this.#changed()
  }

  #known(peer: Peer, revision: number): void {
    peer.known = Math.max(peer.known, revision)
    this.#changed()
  }

  #broken(link: Link): void {
    const peer = this.#linked.get(link)
    if (peer === undefined) return
    this.#options.clock.after(BACK_MS, () => {
      // The events of a stalled loop come late: what has arrived by now is read before the verdict.
      this.#options.clock.turn(() => {
        if (peer.link === link && !link.isOpen) this.#down(peer, 'its connection broke and did not come back')
      })
    })
  }

  #refusedBy(link: Link): void {
    const peer = this.#linked.get(link)
    if (peer !== undefined) {
      this.#down(peer, `connection refused at ${link.endpoint}`)
      return
    }
    const candidate = this.#candidates.get(link.endpoint)
    if (candidate?.link !== link) return
    const { sighting } = candidate
    this.#dropCandidate(link)
    this.#options.refused(sighting)
    const known = this.#peers.get(sighting.id)
    if (known === undefined || known.boot !== sighting.boot) return
    if (known.route !== undefined && known.state !== 'down') this.#oneWay(known, link.endpoint)
    else this.#redial(known)
  }

  #oneWay(peer: Peer, endpoint: string): void {
    const reason = `nobody answers at ${endpoint}`
    if (peer.state !== 'one-way') {
      peer.state = 'one-way'
      peer.reason = reason
      this.#sendWelcome(peer, peer.route!.lane.helloNumber)
      this.#options.warning(
        new SkeinError(
          'PEER_UNKNOWN',
          `peer ${peer.label} reaches this node but cannot be dialled back: ${reason}; open that port there, or set its 'advertise'`,
        ),
      )
    }
    this.#redial(peer)
  }

  #redial(peer: Peer): void {
    if (this.#closed || peer.address === null) return
    const endpoint = endpointOf(peer.address.host, peer.address.control)
    peer.redialMs = Math.min(REDIAL_MAX_MS, Math.max(REDIAL_MS, 2 * peer.redialMs))
    this.#options.clock.after(peer.redialMs * (0.5 + Math.random() / 2), () => {
      if (this.#closed || this.#peers.get(peer.id) !== peer || peer.link !== undefined) return
      this.#dial({ id: peer.id, boot: peer.boot, name: peer.name, endpoint, source: 'hello' })
    })
  }

  #down(peer: Peer, reason: string, tails?: readonly TopicLast[]): void {
    if (peer.link !== undefined) {
      this.#linked.delete(peer.link)
      peer.link.close()
      peer.link = undefined
    }
    if (peer.route !== undefined) this.#dropRoute(peer.route)
    peer.route = undefined
    const wasUp = peer.isUp || peer.state === 'one-way'
    peer.state = 'down'
    peer.reason = reason
    peer.pingedAt = 0
    this.#tokens.delete(peer.tokenGiven)
    peer.forget()
    this.#tokens.set(peer.tokenGiven, peer)
    peer.interest = { revision: -1, patterns: [], responders: [] }
    if (wasUp) this.#options.down(peer, tails)
    const { clock, goneMs } = this.#options
    const downAt = clock.now()
    peer.downAt = downAt
    clock.after(goneMs, () => {
      if (peer.state === 'down' && peer.downAt === downAt) this.#forget(peer)
    })
    if (tails === undefined) this.#redial(peer)
    else this.#forget(peer)
    this.#changed()
  }

  #leave(peer: Peer, tails: readonly TopicLast[]): void {
    this.#down(peer, 'it said goodbye', tails)
  }

  #forget(peer: Peer): void {
    if (this.#peers.get(peer.id) === peer) this.#peers.delete(peer.id)
    this.#tokens.delete(peer.tokenGiven)
    this.#options.gone(peer)
    this.#changed()
  }

  /** Whether the present holder of an id still answers. */
  async #challenge(holder: Peer, claimant: string): Promise<boolean> {
    if (holder.link === undefined || !holder.link.isOpen || holder.boot === claimant) return false
    const { clock, sentTo } = this.#options
    const askedAt = clock.now()
    holder.link.send(FRAME.ping, (writer) => writer.u48(sentTo(holder)))
    while (clock.now() < askedAt + CHALLENGE_MS && holder.isUp && holder.heardAt <= askedAt) {
      await this.change(Math.min(20, CHALLENGE_MS))
    }
    return holder.isUp && holder.heardAt > askedAt
  }

  #refuseClash(key: string, hello: Hello): void {
    const error = clash(hello)
    this.#refuse(key, hello.number, error)
    this.#options.warning(error)
  }

  #refuse(key: string, number: number, error: SkeinError): void {
    this.#route(key, number).send(FRAME.refuse, (writer) => {
      writer.text8(error.code)
      writer.text32(error.message)
    })
  }

  /** We were refused, and are told why. */
  #rejected(link: Link, code: string, text: string): void {
    const known = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : 'MALFORMED'
    const error = new SkeinError(known, `${link.endpoint} refuses this node: ${text}`)
    const candidate = this.#candidates.get(link.endpoint)
    const peer = this.#linked.get(link)
    if (known === 'NODE_ID_IN_USE') this.#clash = error
    this.#options.warning(error)
    if (peer !== undefined) this.#down(peer, error.message)
    if (candidate?.link !== link) return
    this.#dropCandidate(link)
    const { sighting } = candidate
    // Kept in the list, so that `peers` can say why this one is not up.
    if (this.#peers.has(sighting.id) || sighting.id === this.#options.id || this.#closed) return
    const refusing = new Peer(sighting.id, sighting.boot, sighting.name)
    refusing.foundBy.add(sighting.source)
    refusing.endpoints.add(sighting.endpoint)
    refusing.reason = error.message
    this.#peers.set(sighting.id, refusing)
  }

  #route(key: string, helloNumber: number): Route {
    const { transport, clock, queueBytes } = this.#options
    return new Route(key, helloNumber, transport, clock, queueBytes)
  }

  #dropRoute(route: Route): void {
    this.#routes.delete(route.key)
    route.lane.close()
  }

  #dropCandidate(link: Link): void {
    this.#candidates.delete(link.endpoint)
    link.close()
    this.#changed()
  }

  #changed(): void {
    for (const done of [...this.#waiting]) done()
  }
}

const clash = (hello: Hello): SkeinError =>
  new SkeinError(
    'NODE_ID_IN_USE',
    `node id ${hello.id} is held by a living node, and '${hello.name}' (boot ${hello.boot.slice(0, 8)}) claims it too; give each instance its own id`,
  )
