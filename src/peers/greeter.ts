import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
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
import { BACK_MS, type Dialler } from './dialler.ts'
import type { Peer } from './peer.ts'
import { clash, type Roster } from './roster.ts'

/** Whoever claims an id of ours says so at each of its tries, and one connection can say it ten thousand times. */
const CLASH_WARNING_MS = 1000

export interface GreeterOptions {
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly mesh: string
  readonly transport: Transport
  readonly clock: Clock
  readonly queueBytes: number
  readonly roster: Roster
  readonly dialler: Dialler
  interest(): Interest
  /** A frame that is not about presence. */
  frame(peer: Peer, type: number, reader: Reader, onLink: boolean): void
  /** The last delivery batch taken from this peer. */
  takenFrom(peer: Peer): number
  /** What the other end says it has sent or taken: a difference is a loss. */
  pinged(peer: Peer, sent: number): void
  ponged(peer: Peer, taken: number): void
  /** It has said hello, or said it again. */
  greeted(peer: Peer): void
  warning(error: SkeinError): void
  fault(error: unknown): void
}

/** Who dials this node: hellos are checked, accepted or refused, and what peers say of themselves is noted. */
export class Greeter {
  readonly #options: GreeterOptions
  readonly #roster: Roster
  readonly #dialler: Dialler
  readonly #routes = new Map<string, { route: Route; peer: Peer }>()
  #address: Address | null = null
  #clashedAt = Number.NEGATIVE_INFINITY
  #closed = false

  constructor(options: GreeterOptions) {
    this.#options = options
    this.#roster = options.roster
    this.#dialler = options.dialler
  }

  /** Where this node listens; null if it only dials. */
  start(address: Address | null): void {
    this.#address = address
  }

  /** It is reached elsewhere from now on, or the network around it has changed. */
  moved(address: Address | null): void {
    this.#address = address
    this.#dialler.moved()
    this.#roster.moved(address)
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
          this.frame(known.peer, type, reader, known.route)
        },
      )
    } catch (error) {
      if (error instanceof SkeinError && error.code === 'VERSION_MISMATCH') this.#refuse(key, 0, error)
      throw error
    }
    // Whoever is unknown here, after a reset or because its hello was lost, is asked for a hello.
    if (strange) this.#answer(key, 0, FRAME.who)
  }

  /** What this node says of itself. */
  self(number: number, extra: Partial<Hello> = {}): Hello {
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

  frame(peer: Peer, type: number, reader: Reader, end: Link | Route): void {
    switch (type) {
      case FRAME.ping:
        this.#options.pinged(peer, reader.u48())
        return this.#sendPong(peer, reader.u48(), end)
      case FRAME.pong:
        this.#options.ponged(peer, reader.u48())
        return this.#roster.ponged(peer, reader.u48())
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

  #sendPong(peer: Peer, number: number, end: Link | Route): void {
    end.send(FRAME.pong, (writer) => {
      writer.u48(this.#options.takenFrom(peer))
      writer.u48(number)
    })
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
    this.#roster
      .challenge(known)
      .then((alive) => {
        if (this.#closed) return
        if (alive) this.#refuseClash(key, hello)
        else this.#accept(key, hello)
      })
      .catch(this.#options.fault)
  }

  /** Says who is here, and nothing more: whoever wants to stay says hello again, and by then knows to whom. */
  #introduce(key: string, { number }: Hello): void {
    this.#answer(key, number, FRAME.welcome, (writer) => writeHello(writer, this.self(number)))
  }

  #accept(key: string, hello: Hello): void {
    this.#roster.startOver(hello)
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
    if (peer.state === 'down') this.#roster.returned(peer)
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
    this.#options.greeted(peer)
    if (peer.visitor) {
      if (!peer.isUp) this.#roster.up(peer)
    } else if (peer.link === undefined && !this.#dialler.isSought(hello.id, hello.boot))
      this.#dialler.dial(peer)
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

  #sendWelcome(peer: Peer, number: number): void {
    const unreachable = peer.state === 'one-way' ? peer.reason : ''
    const known = Math.max(0, peer.interest.revision)
    const welcome = { token: peer.tokenGiven, taken: this.#options.takenFrom(peer), known, unreachable }
    peer.route?.send(FRAME.welcome, (writer) => writeHello(writer, this.self(number, welcome)))
  }

  oneWay(peer: Peer, cause: string): void {
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
    this.#dialler.redial(peer)
  }

  #refuseClash(key: string, hello: Hello): void {
    const { clock, warning } = this.#options
    const error = clash(hello)
    this.#refuse(key, hello.number, error)
    if (clock.now() - this.#clashedAt < CLASH_WARNING_MS) return
    this.#clashedAt = clock.now()
    warning(error)
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

  #route(key: string, helloNumber: number): Route {
    const { transport, clock, queueBytes } = this.#options
    return new Route(key, helloNumber, transport, clock, queueBytes)
  }

  close(): void {
    this.#closed = true
  }
}

/** A connected peer that has come by another of our addresses, and does not know that it is here again. */
const isLost = (known: Peer, hello: Hello): boolean =>
  hello.token === '' && known.boot === hello.boot && known.isUp

/** Another boot of a living peer, or somebody who lacks the token that the peer itself has given us. */
const isDoubtful = (known: Peer, hello: Hello): boolean =>
  known.boot !== hello.boot || (known.link !== undefined && known.token !== '' && known.token !== hello.token)
