import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import type { Outcome, ReasonCode, Sighting } from '../discovery/discovery.ts'
import { ERROR_CODES, type ErrorCode, SkeinError } from '../errors.ts'
import type { Reader, Writer } from '../protocol/bytes.ts'
import {
  type Address,
  FRAME,
  type Hello,
  type Interest,
  readAddress,
  readHello,
  readInterest,
  readTails,
  writeHello,
} from '../protocol/control-frames.ts'
import { Link, loneFrame, Route, readControlBatch } from '../transport/link.ts'
import type { Transport } from '../transport/transport.ts'
import { type Candidate, Candidates } from './candidates.ts'
import { Peer, type PeerInfo } from './peer.ts'
import type { Roster } from './roster.ts'

/** A broken connection that is not back by then is lost. */
const BACK_MS = 500
/** How long the holder of an id has to show that it lives, when another boot claims the same id. */
const CHALLENGE_MS = 500
const REDIAL_MS = 200
const REDIAL_MAX_MS = 10_000
/** How often the sources are looked at while the node starts. */
const LOOK_MS = 10
const MAX_OWN = 256

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
  /** What became of an address that a source told. */
  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void
  warning(error: SkeinError): void
  fault(error: unknown): void
}

/**
 * How strangers become peers: addresses are dialled, hellos exchanged and checked, and connections that broke are
 * taken up again. An address is believed once its hello shows who is there.
 */
export class Greeter {
  readonly #options: GreeterOptions
  readonly #roster: Roster
  readonly #candidates: Candidates
  /** Addresses that have turned out to be this node itself. */
  readonly #own = new Set<string>()
  /** What an address said when it refused this node: said again at each try it is no news. */
  readonly #refusals = new Map<string, string>()
  readonly #linked = new WeakMap<Link, Peer>()
  readonly #routes = new Map<string, { route: Route; peer: Peer }>()
  #address: Address | null = null
  #clash: SkeinError | undefined
  #closed = false

  constructor(options: GreeterOptions) {
    this.#options = options
    this.#roster = options.roster
    this.#candidates = new Candidates({
      clock: options.clock,
      resolve: (host) => options.transport.resolve(host),
      isMissing: ({ id, boot }) => {
        const peer = id === undefined ? undefined : this.#roster.get(id)
        return peer?.link === undefined || peer.boot !== boot
      },
      open: (candidate) => this.#link(candidate),
      tried: options.tried,
      failed: (candidate, outcome) => this.#unreached(candidate, outcome),
      changed: () => options.changes.notify(),
    })
  }

  /** Where this node listens; null if it only dials. */
  start(address: Address | null): void {
    this.#address = address
  }

  /** It is reached elsewhere from now on, or the network around it has changed. */
  moved(address: Address | null): void {
    this.#address = address
    this.#own.clear()
    this.#roster.moved(address)
  }

  /**
   * Resolves when the sources have told whom they know and every address known so far has answered or refused;
   * throws if another node holds our id.
   */
  async settled(timeoutMs: number, isTold: () => boolean): Promise<void> {
    const { clock, changes } = this.#options
    const end = clock.now() + timeoutMs
    while (this.#clash === undefined && !this.#closed && (this.#candidates.size > 0 || !isTold())) {
      const left = end - clock.now()
      if (left <= 0) return
      await changes.next(Math.min(left, LOOK_MS))
    }
    if (this.#clash !== undefined) throw this.#clash
  }

  /** Those at whose addresses nobody has answered yet. */
  candidates(): PeerInfo[] {
    const waiting = new Map<string, PeerInfo>()
    for (const { id, boot, endpoint, hints } of this.#candidates) {
      if (id === undefined || boot === undefined || this.#roster.lists(id)) continue
      const endpoints = [...(waiting.get(id)?.endpoints ?? []), endpoint]
      const foundBy = [
        ...new Set([...(waiting.get(id)?.foundBy ?? []), ...hints.map(({ sighting }) => sighting.source)]),
      ]
      const reason = 'it has not answered the hello yet'
      waiting.set(id, { id, boot, name: hints[0]!.sighting.name, state: 'seen', foundBy, endpoints, reason })
    }
    return [...waiting.values()]
  }

  /** Somebody may be there. */
  seen(sighting: Sighting): void {
    if (this.#closed || sighting.boot === this.#options.boot) return
    const known = sighting.id === undefined ? undefined : this.#roster.get(sighting.id)
    if (known !== undefined && known.boot === sighting.boot) {
      known.foundBy.add(sighting.source)
      // Perhaps it has moved, and that its old address is dead will only show.
      known.hints = sighting.endpoints
      if (known.link !== undefined) return
    }
    if (this.#roster.isFull) return
    const endpoints = sighting.id === undefined ? this.#unknown(sighting) : sighting.endpoints
    this.#candidates.dial({ ...sighting, endpoints })
  }

  /** A source withdraws what it told: whoever was never up is no longer listed, and whoever is up is asked. */
  gone(id: string, boot: string): void {
    this.#candidates.withdraw(id, boot)
    this.#roster.unlist(id)
    const peer = this.#roster.get(id)
    if (peer?.boot !== boot) return
    if (peer.state === 'seen') this.#roster.forget(peer)
    else this.#roster.doubt(peer)
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
    if (strange) this.#answer(key, 0, FRAME.who)
  }

  /** A peer was lost without a goodbye: it is dialled again until it is forgotten. */
  redial(peer: Peer): void {
    if (this.#closed || peer.address === null) return
    const { clock } = this.#options
    peer.redialMs = Math.min(REDIAL_MAX_MS, Math.max(REDIAL_MS, 2 * peer.redialMs))
    clock.after(peer.redialMs * (0.5 + clock.random() / 2), () => {
      if (this.#closed || this.#roster.get(peer.id) !== peer || peer.link !== undefined) return
      this.#dial(peer, [...new Set([...peer.ways(), ...peer.hints])])
    })
  }

  close(): void {
    this.#closed = true
    this.#candidates.close()
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

  #dial(
    { id, boot, name }: Peer | Hello,
    endpoints: readonly string[] = this.#roster.get(id)?.ways() ?? [],
  ): void {
    if (!this.#roster.isFull) this.#candidates.dial({ id, boot, name, endpoints, source: 'hello' })
  }

  #link(candidate: Omit<Candidate, 'link'>): Link {
    const { transport, clock, queueBytes, fault } = this.#options
    return new Link({
      transport,
      clock,
      queueBytes,
      fault,
      endpoint: candidate.endpoint,
      hello: (number) =>
        // Whoever is not known yet gets its token when it has shown who it is.
        this.#self(number, candidate.id === undefined ? {} : { token: this.#roster.tokenFor(candidate.id) }),
      frame: (from, type, reader) => this.#linkFrame(from, type, reader),
      broken: (from) => this.#broken(from),
      refused: (from, reason) => this.#refusedBy(from, reason),
    })
  }

  /** Where an address is all that is told, those that are connected already need no other visit. */
  #unknown(sighting: Sighting): string[] {
    return sighting.endpoints.filter((endpoint) => {
      const peer = this.#roster.at(endpoint)
      if (peer === undefined && !this.#own.has(endpoint)) return true
      peer?.foundBy.add(sighting.source)
      const outcome: Outcome = peer === undefined ? SELF : { kind: 'up', reason: '', peer: peer.id }
      this.#options.tried(sighting, endpoint, outcome)
      return false
    })
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
      case FRAME.moved:
        peer.address = readAddress(reader.bytes(reader.left))
        return
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
      // Ourselves, by an address of ours that a source told: the other end of it shall know.
      else this.#introduce(key, hello)
      return
    }
    const before = this.#routes.get(key)
    if (before !== undefined && before.peer.id !== hello.id) {
      throw new SkeinError('MALFORMED', 'a connection says hello for a second node; each node has its own')
    }
    const known = this.#roster.get(hello.id)
    if (before === undefined && known !== undefined && isLost(known, hello))
      return this.#introduce(key, hello)
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

  /** Says who is here, and nothing more: whoever wants to stay says hello again, and by then knows to whom. */
  #introduce(key: string, { number }: Hello): void {
    this.#answer(key, number, FRAME.welcome, (writer) => writeHello(writer, this.#self(number)))
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
      this.#left(peer)
    }
    if (peer.link === undefined) {
      peer.address = hello.address
      peer.visitor = hello.address === null
    } else {
      // It may have said that it cannot dial this node, and now it has.
      peer.reason = ''
    }
    this.#roster.heard(peer)
    this.#roster.interested(peer, hello.interest)
    this.#sendWelcome(peer, hello.number)
    if (peer.visitor) {
      if (!peer.isUp) this.#roster.up(peer)
    } else if (peer.link === undefined && !this.#candidates.isSought(hello.id, hello.boot)) this.#dial(peer)
  }

  /**
   * The connection by which a peer came is gone. Of several that it tried at once this may be one that it did not take:
   * it gets the time to speak on the other, or to be reached.
   */
  #left(peer: Peer): void {
    this.#options.clock.after(BACK_MS, () => {
      if (this.#closed || peer.link !== undefined || peer.route !== undefined || peer.state === 'down') return
      if (this.#roster.get(peer.id) === peer) this.#roster.down(peer, 'its connection is gone')
    })
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

  #sendWelcome(peer: Peer, number: number): void {
    const unreachable = peer.state === 'one-way' ? peer.reason : ''
    const known = Math.max(0, peer.interest.revision)
    const welcome = { token: peer.tokenGiven, taken: this.#options.takenFrom(peer), known, unreachable }
    peer.route?.send(FRAME.welcome, (writer) => writeHello(writer, this.#self(number, welcome)))
  }

  /** The node at the other end of a link that we dialled says who it is. */
  async #welcome(link: Link, hello: Hello): Promise<void> {
    this.#refusals.delete(link.endpoint)
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
    const candidate = this.#candidates.of(link)
    if (candidate === undefined) return this.#restarted(link, hello)
    if (!this.#isExpected(candidate, hello)) return
    if (known !== undefined && known.boot !== hello.boot && known.isUp && (await this.#challenge(known))) {
      const error = clash(hello)
      this.#candidates.end(candidate, { kind: 'rejected', reason: error.message, code: error.code })
      this.#options.warning(error)
      return
    }
    const peer =
      this.#closed || this.#candidates.of(link) === undefined ? undefined : this.#roster.meet(hello)
    if (peer === undefined || peer.link !== undefined) {
      this.#candidates.end(candidate, { kind: 'up', reason: '', peer: hello.id })
      return
    }
    if (!link.welcomed(hello.number)) return
    peer.link = link
    this.#linked.set(link, peer)
    for (const { sighting } of candidate.hints) peer.foundBy.add(sighting.source)
    peer.answered(link.endpoint)
    this.#candidates.won(candidate, hello.id, hello.boot)
    this.#greeted(peer, hello)
    this.#roster.up(peer)
  }

  /** Whether the one who answers is the one who was sought; where nobody in particular was, it is from now on. */
  #isExpected(candidate: Candidate, hello: Hello): boolean {
    const { link, endpoint } = candidate
    if (hello.id === this.#options.id) {
      // Our own address, found again; another boot of our id would have refused us.
      if (this.#own.size < MAX_OWN) this.#own.add(endpoint)
      this.#candidates.end(candidate, SELF)
      return false
    }
    if (hello.mesh !== this.#options.mesh || (candidate.shown && candidate.id !== hello.id)) {
      const reason = `${endpoint} is no node of this mesh that could be told from others`
      this.#candidates.end(candidate, { kind: 'rejected', reason, code: 'MESH_MISMATCH' })
      return false
    }
    const expected = candidate.id
    this.#candidates.show(candidate, hello.id, hello.boot)
    if (expected === hello.id) return true
    // The hello had no token in it, or that of somebody else, which is now void: this one gets its own.
    if (expected !== undefined) this.#roster.voidToken(expected)
    const known = this.#roster.get(hello.id)
    if (known?.link === undefined || known.boot !== hello.boot) {
      link.greet()
      return false
    }
    known.answered(endpoint)
    for (const { sighting } of candidate.hints) known.foundBy.add(sighting.source)
    this.#candidates.end(candidate, { kind: 'up', reason: '', peer: hello.id })
    return false
  }

  #greeted(peer: Peer, hello: Hello): void {
    peer.address = hello.address
    peer.token = hello.token
    this.#roster.knows(peer, hello.known)
    this.#roster.heard(peer)
    this.#roster.interested(peer, hello.interest)
    const before = peer.reason
    // Why it was not up is past; that it cannot dial this node back is not.
    peer.reason = hello.unreachable
    if (hello.unreachable !== '' && before !== hello.unreachable) {
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
    if (hello.mesh === this.#options.mesh) this.#dial(hello, [link.endpoint])
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

  #refusedBy(link: Link, reason?: string): void {
    const peer = this.#peerOf(link)
    const candidate = this.#candidates.of(link)
    if (peer !== undefined) this.#roster.down(peer, `connection refused at ${link.endpoint}`)
    else if (candidate !== undefined) this.#candidates.unconnected(candidate, reason)
  }

  /** No address of this node has led to it. */
  #unreached(candidate: Candidate, { kind, reason }: Outcome): void {
    const { id, boot } = candidate
    const known = this.#roster.get(id ?? '')
    if (this.#closed || known?.link !== undefined) return
    // Somebody may be there who is stopped or walled in, and whoever looks for the reason shall find it.
    if (known === undefined && kind === 'silent') this.#list(candidate, reason, 'NO_ANSWER')
    if (known === undefined || known.boot !== boot) return
    if (known.route !== undefined && known.state !== 'down') this.#oneWay(known, reason)
    else this.redial(known)
  }

  /** Kept in the list, so that `peers` can say why this one is not up. */
  #list({ id, boot, endpoint, hints }: Candidate, reason: string, code: ReasonCode): void {
    if (id === undefined || boot === undefined || id === this.#options.id || this.#closed) return
    const absent = new Peer(id, boot, hints[0]!.sighting.name)
    for (const { sighting } of hints) absent.foundBy.add(sighting.source)
    absent.answered(endpoint)
    absent.reason = reason
    absent.code = code
    this.#roster.list(absent)
  }

  #oneWay(peer: Peer, cause: string): void {
    const reason = `nobody answers at ${peer.ways().join(', ')} (${cause})`
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
    this.#answer(key, number, FRAME.refuse, (writer) => {
      writer.text8(error.code)
      writer.text32(error.message)
    })
  }

  /** One frame to somebody who has no lane here. */
  #answer(key: string, number: number, type: number, write?: (writer: Writer) => void): void {
    void this.#options.transport.answer(key, loneFrame(number, type, write))
  }

  /** We were refused, and are told why. */
  #rejected(link: Link, code: string, text: string): void {
    const known = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : 'MALFORMED'
    const error = new SkeinError(known, `${link.endpoint} refuses this node: ${text}`)
    const peer = this.#peerOf(link)
    if (known === 'NODE_ID_IN_USE') this.#clash = error
    if (this.#refusals.get(link.endpoint) !== error.message) this.#options.warning(error)
    if (this.#refusals.size >= MAX_OWN) this.#refusals.clear()
    this.#refusals.set(link.endpoint, error.message)
    if (peer !== undefined) this.#roster.down(peer, error.message)
    const candidate = this.#candidates.of(link)
    if (candidate === undefined) return
    this.#candidates.end(candidate, { kind: 'rejected', reason: error.message, code: known })
    this.#list(candidate, error.message, known)
  }

  #route(key: string, helloNumber: number): Route {
    const { transport, clock, queueBytes } = this.#options
    return new Route(key, helloNumber, transport, clock, queueBytes)
  }
}

const SELF: Outcome = { kind: 'self', reason: 'it is this node itself' }

const clash = (hello: Hello): SkeinError =>
  new SkeinError(
    'NODE_ID_IN_USE',
    `node id ${hello.id} is held by a living node, and '${hello.name}' (boot ${hello.boot.slice(0, 8)}) claims it too; give each instance its own id`,
  )

/** A connected peer that has come by another of our addresses, and does not know that it is here again. */
const isLost = (known: Peer, hello: Hello): boolean =>
  hello.token === '' && known.boot === hello.boot && known.isUp

/** Another boot of a living peer, or somebody who lacks the token that the peer itself has given us. */
const isDoubtful = (known: Peer, hello: Hello): boolean =>
  known.boot !== hello.boot || (known.link !== undefined && known.token !== '' && known.token !== hello.token)
