import type { Changes } from '../changes.ts'
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
} from '../protocol/control-frames.ts'
import { Link, loneFrame, Route, readControlBatch } from '../transport/link.ts'
import type { Transport } from '../transport/transport.ts'
import { Peer, type PeerInfo } from './peer.ts'
import type { Roster } from './roster.ts'

/** A broken connection that is not back by then is lost. */
const BACK_MS = 500
/** How long the holder of an id has to show that it lives, when another boot claims the same id. */
const CHALLENGE_MS = 500
const REDIAL_MS = 200
const REDIAL_MAX_MS = 10_000
const MAX_CANDIDATES = 1024
/** An address that has not welcomed by then is given up; its node says hello itself when it can. */
const CANDIDATE_MS = 5000

export interface GreeterOptions {
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly mesh: string
  readonly transport: Transport
  readonly clock: Clock
  readonly changes: Changes
  readonly queueBytes: number
  readonly roster: Roster
  interest(): Interest
  /** A frame that is not about presence. */
  frame(peer: Peer, type: number, reader: Reader, onLink: boolean): void
  /** The last delivery batch taken from this peer. */
  takenFrom(peer: Peer): number
  /** What the other end says it has sent or taken: a difference is a loss. */
  pinged(peer: Peer, sent: number): void
  ponged(peer: Peer, taken: number): void
  /** Its connection was reset and stands again: what was under way on it may be lost. */
  resumed(peer: Peer, taken: number): void
  /** Nobody is at this address. */
  refused(sighting: Sighting): void
  warning(error: SkeinError): void
  fault(error: unknown): void
}

interface Candidate {
  readonly link: Link
  readonly sighting: Sighting
}

/**
 * How strangers become peers: addresses are dialled, hellos exchanged and checked, and connections that broke are
 * taken up again. An address is believed once its hello shows who is there.
 */
export class Greeter {
  readonly #options: GreeterOptions
  readonly #roster: Roster
  /** Links that have not been welcomed yet, by endpoint. */
  readonly #candidates = new Map<string, Candidate>()
  readonly #linked = new WeakMap<Link, Peer>()
  readonly #routes = new Map<string, { route: Route; peer: Peer }>()
  #address: Address | null = null
  #clash: SkeinError | undefined
  #closed = false

  constructor(options: GreeterOptions) {
    this.#options = options
    this.#roster = options.roster
  }

  /** Where this node listens; null if it only dials. */
  start(address: Address | null): void {
    this.#address = address
  }

  /** Resolves when every address known so far has answered or refused; throws if another node holds our id. */
  async settled(timeoutMs: number): Promise<void> {
    await this.#options.changes.until(
      () => this.#candidates.size === 0 || this.#clash !== undefined,
      timeoutMs,
    )
    if (this.#clash !== undefined) throw this.#clash
  }

  /** Those at whose address nobody has answered yet. */
  candidates(): PeerInfo[] {
    const unknown = [...this.#candidates.values()].filter(
      ({ sighting }) => this.#roster.get(sighting.id) === undefined,
    )
    return unknown.map(({ sighting: { id, boot, name, source, endpoint } }) => ({
      ...{ id, boot, name, state: 'seen', foundBy: [source], endpoints: [endpoint] },
      reason: 'it has not answered the hello yet',
    }))
  }

  /** Somebody may be at this address. */
  seen(sighting: Sighting): void {
    if (this.#closed || sighting.boot === this.#options.boot) return
    const known = this.#roster.get(sighting.id)
    if (known !== undefined && known.boot === sighting.boot) {
      known.foundBy.add(sighting.source)
      known.endpoints.add(sighting.endpoint)
      if (known.link !== undefined) return
    }
    this.#dial(sighting)
  }

  /** A source withdraws what it told: whoever was never up is no longer listed. */
  gone(id: string, boot: string): void {
    for (const { link, sighting } of [...this.#candidates.values()]) {
      if (sighting.id === id && sighting.boot === boot) this.#dropCandidate(link)
    }
    const peer = this.#roster.get(id)
    if (peer?.boot === boot && peer.state === 'seen') this.#roster.forget(peer)
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
          this.#roster.heard(known.peer)
          this.#frame(known.peer, type, reader, known.route)
        },
      )
    } catch (error) {
      if (error instanceof SkeinError && error.code === 'VERSION_MISMATCH') this.#refuse(key, 0, error)
      throw error
    }
    // Whoever is unknown here, after a reset or because its hello was lost, is asked for a hello.
    if (strange) void this.#options.transport.answer(key, loneFrame(0, FRAME.who))
  }

  /** A peer was lost without a goodbye: it is dialled again until it is forgotten. */
  redial(peer: Peer): void {
    if (this.#closed || peer.address === null) return
    const endpoint = endpointOf(peer.address.host, peer.address.control)
    peer.redialMs = Math.min(REDIAL_MAX_MS, Math.max(REDIAL_MS, 2 * peer.redialMs))
    this.#options.clock.after(peer.redialMs * (0.5 + Math.random() / 2), () => {
      if (this.#closed || this.#roster.get(peer.id) !== peer || peer.link !== undefined) return
      this.#dial({ id: peer.id, boot: peer.boot, name: peer.name, endpoint, source: 'hello' })
    })
  }

  close(): void {
    this.#closed = true
    for (const { link } of this.#candidates.values()) link.close()
    this.#candidates.clear()
    this.#options.changes.notify()
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
    if (
      this.#candidates.has(sighting.endpoint) ||
      this.#roster.isFull ||
      this.#candidates.size >= MAX_CANDIDATES
    )
      return
    const { transport, clock, queueBytes, fault } = this.#options
    const link: Link = new Link({
      transport,
      clock,
      queueBytes,
      fault,
      endpoint: sighting.endpoint,
      hello: (number) => this.#self(number, { token: this.#roster.tokenFor(sighting.id) }),
      frame: (from, type, reader) => this.#linkFrame(from, type, reader),
      broken: (from) => this.#broken(from),
      refused: (from) => this.#refusedBy(from),
    })
    this.#candidates.set(sighting.endpoint, { link, sighting })
    clock.after(CANDIDATE_MS, () => {
      if (this.#candidates.get(sighting.endpoint)?.link === link) this.#refusedBy(link, false)
    })
    link.open()
  }

  /** The peer whose link this is, and not one it had before. */
  #peerOf(link: Link): Peer | undefined {
    const peer = this.#linked.get(link)
    return peer?.link === link ? peer : undefined
  }

  #linkFrame(link: Link, type: number, reader: Reader): void {
    if (type === FRAME.welcome) {
      this.#welcome(link, readHello(reader.bytes(reader.left))).catch(this.#options.fault)
    } else if (type === FRAME.who) link.greet()
    else if (type === FRAME.refuse) this.#rejected(link, reader.text8(), reader.text32())
    else {
      const peer = this.#peerOf(link)
      if (peer === undefined) return
      this.#roster.heard(peer)
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
        this.#roster.interested(peer, readInterest(reader.bytes(reader.left)))
        return end.send(FRAME.known, (writer) => writer.u48(peer.interest.revision))
      case FRAME.known:
        return this.#roster.knows(peer, reader.u48())
      case FRAME.bye:
        return this.#roster.down(peer, 'it said goodbye', readTails(reader))
      default:
        return this.#options.frame(peer, type, reader, end instanceof Link)
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
    const before = this.#routes.get(key)
    if (before !== undefined && before.peer.id !== hello.id) {
      throw new SkeinError('MALFORMED', 'a connection says hello for a second node; each node has its own')
    }
    const known = this.#roster.get(hello.id)
    if (known === undefined || !known.isUp || !isDoubtful(known, hello)) {
      this.#accept(key, hello)
      return
    }
    this.#challenge(known)
      .then((alive) => {
        if (this.#closed) return
        if (alive) this.#refuseClash(key, hello)
        else this.#accept(key, hello)
      })
      .catch(this.#options.fault)
  }

  #accept(key: string, hello: Hello): void {
    this.#startOver(hello)
    const peer = this.#roster.meet(hello)
    if (peer === undefined) {
      return this.#refuse(
        key,
        hello.number,
        new SkeinError('BUSY', 'this node knows as many peers as it can'),
      )
    }
    if (hello.token !== '') peer.token = hello.token
    const route = this.#route(key, hello.number)
    const old = peer.route
    peer.route = route
    this.#routes.set(key, { route, peer })
    old?.close()
    route.closed = () => {
      if (this.#routes.get(key)?.route === route) this.#routes.delete(key)
      if (peer.route !== route) return
      peer.route = undefined
      if (peer.link === undefined && !this.#closed) this.#roster.down(peer, 'its connection is gone')
    }
    if (peer.link === undefined) {
      peer.address = hello.address
      peer.visitor = hello.address === null
    }
    this.#roster.heard(peer)
    this.#roster.interested(peer, hello.interest)
    this.#sendWelcome(peer, hello.number)
    if (peer.visitor) {
      if (!peer.isUp) this.#roster.up(peer)
    } else if (peer.link === undefined && hello.address !== null && !this.#isSought(hello)) {
      const { host, control } = hello.address
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
    const peer = this.#roster.get(hello.id)
    if (peer === undefined || peer.boot !== hello.boot || peer.token === '' || hello.token === '') return
    if (peer.token !== hello.token && (peer.isUp || peer.state === 'one-way')) {
      this.#roster.down(peer, 'it had given this node up and starts over')
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
    const known = this.#roster.get(hello.id)
    if (hello.address === null)
      throw new SkeinError('MALFORMED', `${link.endpoint} welcomes but says it listens nowhere`)
    if (known?.link === link && known.boot === hello.boot) {
      const back = !link.isOpen
      this.#startOver(hello)
      if (known.link !== link || !link.welcomed(hello.number)) return
      this.#greeted(known, hello)
      if (back && known.isUp) this.#options.resumed(known, hello.taken)
      else if (!known.isUp) this.#roster.up(known)
      return
    }
    if (candidate?.link !== link) return this.#restarted(link, hello)
    if (hello.id === this.#options.id) {
      // Our own address, found again; another boot of our id would have refused us.
      this.#dropCandidate(link)
      return
    }
    if (known !== undefined && known.boot !== hello.boot && known.isUp && (await this.#challenge(known))) {
      this.#dropCandidate(link)
      this.#options.warning(clash(hello))
      return
    }
    const peer = this.#closed ? undefined : this.#roster.meet(hello)
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
    this.#roster.up(peer)
  }

  #greeted(peer: Peer, hello: Hello): void {
    peer.address = hello.address
    peer.token = hello.token
    this.#roster.knows(peer, hello.known)
    this.#roster.heard(peer)
    this.#roster.interested(peer, hello.interest)
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
    const peer = this.#peerOf(link)
    if (peer === undefined) return
    this.#roster.down(peer, `another node answers at ${link.endpoint}`)
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

  #broken(link: Link): void {
    const peer = this.#peerOf(link)
    if (peer === undefined) return
    const { clock } = this.#options
    const { breaks } = link
    clock.after(BACK_MS, () => {
      // The events of a stalled loop come late: what has arrived by now is read before the verdict. A link that was
      // back and broke again has a verdict of its own to come.
      clock.turn(() => {
        if (this.#peerOf(link) !== peer || link.isOpen || link.breaks !== breaks) return
        this.#roster.down(peer, 'its connection broke and did not come back')
      })
    })
  }

  /** Nobody is there; or there is somebody who says nothing, of whom no source is told. */
  #refusedBy(link: Link, isAbsent = true): void {
    const peer = this.#peerOf(link)
    if (peer !== undefined) {
      this.#roster.down(peer, `connection refused at ${link.endpoint}`)
      return
    }
    const candidate = this.#candidates.get(link.endpoint)
    if (candidate?.link !== link) return
    const { sighting } = candidate
    this.#dropCandidate(link)
    if (isAbsent) this.#options.refused(sighting)
    const known = this.#roster.get(sighting.id)
    if (known === undefined || known.boot !== sighting.boot) return
    if (known.route !== undefined && known.state !== 'down') this.#oneWay(known, link.endpoint)
    else this.redial(known)
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
    this.redial(peer)
  }

  /** Whether the present holder of an id still answers. */
  async #challenge(holder: Peer): Promise<boolean> {
    if (holder.link === undefined || !holder.link.isOpen) return false
    const { clock } = this.#options
    const askedAt = clock.now()
    this.#roster.ping(holder)
    while (clock.now() < askedAt + CHALLENGE_MS && holder.isUp && holder.heardAt <= askedAt) {
      await this.#options.changes.next(Math.min(20, CHALLENGE_MS))
    }
    return holder.isUp && holder.heardAt > askedAt
  }

  #refuseClash(key: string, hello: Hello): void {
    const error = clash(hello)
    this.#refuse(key, hello.number, error)
    this.#options.warning(error)
  }

  #refuse(key: string, number: number, error: SkeinError): void {
    const refusal = loneFrame(number, FRAME.refuse, (writer) => {
      writer.text8(error.code)
      writer.text32(error.message)
    })
    void this.#options.transport.answer(key, refusal)
  }

  /** We were refused, and are told why. */
  #rejected(link: Link, code: string, text: string): void {
    const known = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : 'MALFORMED'
    const error = new SkeinError(known, `${link.endpoint} refuses this node: ${text}`)
    const candidate = this.#candidates.get(link.endpoint)
    const peer = this.#peerOf(link)
    if (known === 'NODE_ID_IN_USE') this.#clash = error
    this.#options.warning(error)
    if (peer !== undefined) this.#roster.down(peer, error.message)
    if (candidate?.link !== link) return
    this.#dropCandidate(link)
    const { sighting } = candidate
    // Kept in the list, so that `peers` can say why this one is not up.
    if (sighting.id === this.#options.id || this.#closed) return
    const refusing = new Peer(sighting.id, sighting.boot, sighting.name)
    refusing.foundBy.add(sighting.source)
    refusing.endpoints.add(sighting.endpoint)
    refusing.reason = error.message
    this.#roster.keep(refusing)
  }

  #route(key: string, helloNumber: number): Route {
    const { transport, clock, queueBytes } = this.#options
    return new Route(key, helloNumber, transport, clock, queueBytes)
  }

  #dropCandidate(link: Link): void {
    this.#candidates.delete(link.endpoint)
    link.close()
    this.#options.changes.notify()
  }
}

const clash = (hello: Hello): SkeinError =>
  new SkeinError(
    'NODE_ID_IN_USE',
    `node id ${hello.id} is held by a living node, and '${hello.name}' (boot ${hello.boot.slice(0, 8)}) claims it too; give each instance its own id`,
  )

/** Another boot of a living peer, or somebody who lacks the token that the peer itself has given us. */
const isDoubtful = (known: Peer, hello: Hello): boolean =>
  known.boot !== hello.boot || (known.link !== undefined && known.token !== '' && known.token !== hello.token)
