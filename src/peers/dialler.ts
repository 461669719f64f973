import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import type { Outcome, ReasonCode, Sighting } from '../discovery/discovery.ts'
import { ERROR_CODES, type ErrorCode, SkeinError } from '../errors.ts'
import type { Reader } from '../protocol/bytes.ts'
import { FRAME, type Hello, readHello } from '../protocol/control-frames.ts'
import { Link } from '../transport/link.ts'
import type { Transport } from '../transport/transport.ts'
import { type Candidate, Candidates } from './candidates.ts'
import { Peer, type PeerInfo } from './peer.ts'
import { clash, type Roster } from './roster.ts'

/** A broken connection that is not back by then is lost. */
export const BACK_MS = 500
const REDIAL_MS = 200
const REDIAL_MAX_MS = 10_000
/** How often the sources are looked at while the node starts. */
const LOOK_MS = 10
const MAX_OWN = 256
/** Of what an address says when it refuses this node; some hundreds of them are kept. */
const MAX_REFUSAL_BYTES = 1024

export interface DiallerOptions {
  readonly id: string
  readonly boot: string
  readonly mesh: string
  readonly transport: Transport
  readonly clock: Clock
  readonly changes: Changes
  readonly queueBytes: number
  readonly roster: Roster
  /** What this node says of itself. */
  hello(number: number, extra?: Partial<Hello>): Hello
  /** A frame from a peer that is neither its welcome nor its refusal. */
  frame(peer: Peer, type: number, reader: Reader, link: Link): void
  /** A peer that comes to this node cannot be dialled back. */
  oneWay(peer: Peer, cause: string): void
  /** Its connection was reset and stands again: what was under way on it may be lost. */
  resumed(peer: Peer, taken: number): void
  /** What became of an address that a source told. */
  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void
  warning(error: SkeinError): void
  fault(error: unknown): void
}

/**
 * Whom this node dials: addresses that sources told and connections that broke. An address is believed once its welcome
 * shows who is there.
 */
export class Dialler {
  readonly #options: DiallerOptions
  readonly #roster: Roster
  readonly #candidates: Candidates
  /** Addresses that have turned out to be this node itself. */
  readonly #own = new Set<string>()
  /** What an address said when it refused this node: said again at each try it is no news. */
  readonly #refusals = new Map<string, string>()
  readonly #linked = new WeakMap<Link, Peer>()
  #clash: SkeinError | undefined
  #closed = false

  constructor(options: DiallerOptions) {
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

  /** The network around this node has changed: what was its own address may be another's. */
  moved(): void {
    this.#own.clear()
  }

  isSought(id: string, boot: string): boolean {
    return this.#candidates.isSought(id, boot)
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
    if (peer.state === 'seen' && peer.route === undefined) this.#roster.down(peer, 'it said goodbye', [])
    else this.#roster.doubt(peer)
    this.#seekOn(peer)
  }

  /** A peer was lost without a goodbye: it is dialled again until it is forgotten. */
  redial(peer: Peer): void {
    if (this.#closed || peer.address === null) return
    const { clock } = this.#options
    peer.redialMs = Math.min(REDIAL_MAX_MS, Math.max(REDIAL_MS, 2 * peer.redialMs))
    clock.after(peer.redialMs * (0.5 + clock.random() / 2), () => {
      if (this.#closed || this.#roster.get(peer.id) !== peer || peer.link !== undefined) return
      this.dial(peer, [...new Set([...peer.ways(), ...peer.hints])])
    })
  }

  close(): void {
    this.#closed = true
    this.#candidates.close()
  }

  dial(
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
        this.#options.hello(
          number,
          candidate.id === undefined ? {} : { token: this.#roster.tokenFor(candidate.id, candidate.boot) },
        ),
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
    } else if (type === FRAME.who) link.asked()
    else if (type === FRAME.refuse) this.#rejected(link, reader.text8(), reader.words32(MAX_REFUSAL_BYTES))
    else {
      const peer = this.#peerOf(link)
      if (peer === undefined) return
      this.#roster.heard(peer)
      this.#options.frame(peer, type, reader, link)
    }
  }

  /** The node at the other end of a link that we dialled says who it is. */
  async #welcome(link: Link, hello: Hello): Promise<void> {
    this.#refusals.delete(link.endpoint)
    const known = this.#roster.get(hello.id)
    if (hello.address === null)
      throw new SkeinError('MALFORMED', `${link.endpoint} welcomes but says it listens nowhere`)
    if (known?.link === link && known.boot === hello.boot) {
      const back = !link.isOpen
      this.#roster.startOver(hello)
      if (known.link !== link || !link.welcomed(hello.number)) return
      this.#greeted(known, hello)
      if (back && known.isUp) this.#options.resumed(known, hello.taken)
      else if (!known.isUp) this.#roster.up(known)
      return
    }
    const candidate = this.#candidates.of(link)
    if (candidate === undefined) return this.#restarted(link, hello)
    if (!this.#isExpected(candidate, hello)) return
    if (
      known !== undefined &&
      known.boot !== hello.boot &&
      known.isUp &&
      (await this.#roster.challenge(known))
    ) {
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
    if (hello.mesh === this.#options.mesh) this.dial(hello, [link.endpoint])
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
        if (this.#closed || this.#peerOf(link) !== peer || link.isOpen || link.breaks !== breaks) return
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
    if (known.route !== undefined) this.#options.oneWay(known, reason)
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
    const sought = this.#roster.get(candidate.id ?? '')
    if (sought !== undefined && sought.boot === candidate.boot) this.#seekOn(sought)
  }

  /** Whoever is connected to this node and is not reached by it is dialled again, whatever ended the last try. */
  #seekOn(peer: Peer): void {
    if (peer.link === undefined && peer.route !== undefined && !peer.visitor) this.redial(peer)
  }
}

const SELF: Outcome = { kind: 'self', reason: 'it is this node itself' }
