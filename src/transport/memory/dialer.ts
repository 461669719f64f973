import { SkeinError } from '../../errors.ts'
import type { Task } from '../schedule.ts'
import { type DialEvents, GIVEN_UP_MS, givenUp, WRONG_SOCKET } from '../transport.ts'
import type { Fabric } from './fabric.ts'
import type { Listening, Machine } from './machine.ts'
import { type Line, type LineEnd, Pipe, type Road } from './pipe.ts'
import type { Reader } from './reader.ts'
import { Wire } from './wire.ts'

const RETRY_MS = 100
const RETRY_MAX_MS = 5000
const CONNECT_TIMEOUT_MS = 3000
/** TCP says once more that it wants a connection, before the time for that is over. */
const KNOCK_AGAIN_MS = 1000

const TAKEN = Promise.resolve()

/** What all sockets of one node have in common. */
export interface Home {
  readonly fabric: Fabric
  readonly machine: Machine
  /** Those that are open. */
  readonly dialers: Set<Dialer>
}

interface Pending {
  readonly frames: Buffer[]
  resolve(): void
  reject(error: SkeinError): void
}

interface Found {
  readonly machine: Machine
  readonly address: string
}

/** What a dialer does next, when the moment has come that it waits for; each step leads to the next. */
type Step = 'knock' | 'knock again' | 'knocked' | 'greeted' | 'refused' | 'failed' | 'given up'

/** A socket that dials, and dials again whenever its connection is gone. */
export class Dialer implements LineEnd, Task {
  readonly sink: Reader
  readonly #home: Home
  readonly #road: Road
  readonly #host: string
  readonly #port: number
  readonly #on: DialEvents
  readonly #restate: ((pipe: Pipe) => void) | undefined
  #pipe = new Pipe()
  #wire: Wire | undefined
  /** The send that waits for room. */
  #pending: Pending | undefined
  #step: Step = 'knock'
  #found: Found | undefined
  #listening: Listening | undefined
  #retryMs = RETRY_MS
  #stood = false
  #startedAt = 0
  #isClosed = false

  /**
   * With `restate`, which says at the beginning of each connection what the other end must know, nothing that waited is
   * sent on the next one.
   */
  constructor(
    home: Home,
    road: Road,
    at: { readonly host: string; readonly port: number },
    sink: Reader,
    on: DialEvents,
    restate?: (pipe: Pipe) => void,
  ) {
    this.#home = home
    this.#road = road
    this.#host = at.host
    this.#port = at.port
    this.sink = sink
    this.#on = on
    this.#restate = restate
  }

  /** The way to the other end, while a connection stands. */
  get pipe(): Pipe | undefined {
    return this.#wire === undefined ? undefined : this.#pipe
  }

  /** Dials; nothing is said of it before this call returns. */
  open(): void {
    this.#home.dialers.add(this)
    this.#knock()
  }

  /** Takes the next step. */
  run(): void {
    if (this.#isClosed) return
    const found = this.#found!
    switch (this.#step) {
      case 'knock':
        return this.#knock()
      case 'knock again':
        return this.#sendKnock(true)
      case 'knocked':
        return this.#knocked(found)
      case 'greeted':
        return this.#greeted(found, this.#listening!)
      case 'failed':
        this.#on.fault(
          new SkeinError('PEER_UNKNOWN', `cannot dial '${this.#host}': it is no 'tcp://host:port'`),
        )
        return this.#tell('refused')
      case 'given up':
        if (this.#stood) this.#on.fault(givenUp(this.#target))
        return this.#tell('refused', this.#stood ? undefined : WRONG_SOCKET)
      case 'refused':
        this.#home.fabric.happened(
          'refused',
          this.#road,
          this.#home.machine,
          found?.machine ?? this.#home.machine,
        )
        this.#retry()
        return this.#tell('refused')
    }
  }

  /** Resolves when there was room for it. */
  send(frames: Buffer[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#gone())
    if (this.#port < 0)
      return Promise.reject(new SkeinError('PEER_LOST', `send to '${this.#host}': it could not be dialled`))
    if (this.#pending !== undefined) {
      return Promise.reject(
        new SkeinError('BUSY', `send to ${this.#target}: the former send still waits; await it first`),
      )
    }
    if (this.#pipe.hasRoom) {
      this.#pipe.write(frames)
      return TAKEN
    }
    this.#pipe.roomy = () => this.#sendPending()
    return new Promise((resolve, reject) => {
      this.#pending = { frames, resolve, reject }
    })
  }

  lost(_line: Line, offended: boolean): void {
    this.#wire = undefined
    this.#pipe = this.#restate === undefined ? this.#pipe.renewed() : new Pipe()
    this.#sendPending()
    if (offended) this.#later(GIVEN_UP_MS, 'given up')
    else this.#retry()
    this.#tell('down')
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.sink.close()
    this.#wire?.close(this)
    this.#wire = undefined
    this.#pending?.reject(this.#gone())
    this.#pending = undefined
    this.#home.dialers.delete(this)
  }

  #sendPending(): void {
    const pending = this.#pending
    if (pending === undefined || !this.#pipe.hasRoom) return
    this.#pending = undefined
    this.#pipe.roomy = undefined
    this.#pipe.write(pending.frames)
    pending.resolve()
  }

  #knock(): void {
    if (this.#port < 0) return this.#later(0, 'failed')
    this.#startedAt = this.#home.fabric.clock.now()
    this.#sendKnock(false)
  }

  /** The first packet leaves. */
  #sendKnock(isAgain: boolean): void {
    const { fabric, machine } = this.#home
    this.#found = fabric.find(machine, this.#host)
    const there = this.#found?.machine
    if (there !== undefined && fabric.isOpen(machine, there))
      this.#later(fabric.delay(machine, there), 'knocked')
    else if (there === undefined && isName(this.#host)) this.#retry()
    else if (isAgain) this.#timeOut()
    else this.#later(KNOCK_AGAIN_MS, 'knock again')
  }

  /** It has arrived. */
  #knocked({ machine: there, address }: Found): void {
    const { fabric, machine } = this.#home
    if (!fabric.isOpen(there, machine)) {
      this.#timeOut()
      return
    }
    this.#listening = there.listener(address, this.#port)
    if (this.#listening === undefined) this.#later(fabric.delay(there, machine), 'refused')
    else {
      const delayMs =
        fabric.delay(there, machine) + fabric.delay(machine, there) + fabric.delay(there, machine)
      this.#later(delayMs, 'greeted')
    }
  }

  /** Both ends have said what they are. */
  #greeted({ machine: there, address }: Found, listening: Listening): void {
    const { fabric, machine } = this.#home
    this.#listening = this.#found = undefined
    if (there.listener(address, this.#port) !== listening) this.#later(0, 'refused')
    else if (!fabric.isOpen(there, machine) || !fabric.isOpen(machine, there)) this.#timeOut()
    else if (listening.road !== this.#road) this.#tell('down')
    else {
      this.#retryMs = RETRY_MS
      this.#wire = new Wire(fabric, this.#road, machine, there, address, this.#pipe)
      this.#restate?.(this.#pipe)
      this.#wire.connect(this, listening)
      this.#tell('up')
    }
  }

  /** Nothing came back: this attempt ends when its time is over. */
  #timeOut(): void {
    this.#later(this.#startedAt + CONNECT_TIMEOUT_MS - this.#home.fabric.clock.now(), 'refused')
  }

  #retry(): void {
    this.#later(this.#retryMs, 'knock')
    this.#retryMs = Math.min(RETRY_MAX_MS, 2 * this.#retryMs)
  }

  #later(delayMs: number, step: Step): void {
    const { clock } = this.#home.fabric
    this.#step = step
    clock.at(clock.now() + delayMs, this)
  }

  #tell(what: 'up' | 'down' | 'refused', reason?: string): void {
    const on = this.#on
    this.#stood ||= what === 'up'
    try {
      if (!this.#isClosed) on[what]?.(reason)
    } catch (error) {
      on.fault(error)
    }
  }

  get #target(): string {
    return `tcp://${this.#host}:${this.#port}`
  }

  #gone(): SkeinError {
    return new SkeinError('CLOSED', `send to ${this.#target}: this connection was closed`)
  }
}

const isName = (host: string): boolean => /[a-z]/i.test(host) && !host.includes(':')
