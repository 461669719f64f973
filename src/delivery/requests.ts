import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { Deadlines } from '../deadlines.ts'
import { SkeinError } from '../errors.ts'
import { isReserved } from '../observe/status.ts'
import type { Peer } from '../peers/peer.ts'
import type { Reader } from '../protocol/bytes.ts'
import { FRAME } from '../protocol/control-frames.ts'
import { decodeReceived, encodePayload, receivedLocally } from '../protocol/payload.ts'
import { type Headers, type Payload, readRecord, writeRecord } from '../protocol/record.ts'
import { validateTopic } from '../protocol/topics.ts'
import type { Origin } from './message.ts'
import { NumberedItems } from './numbered.ts'
import type { Answer, Responders } from './responders.ts'

/** How a reply frame says that the request ended. The wire's numbers: never change one. */
export const STATUS = {
  ok: 0,
  failed: 1,
  noResponder: 2,
  busy: 3,
  lost: 4,
  notTaken: 5,
  slow: 6,
  closed: 7,
} as const

export interface RequestOptions {
  /** How long to wait for the reply, in ms. The deadline travels to the responder. Default 5000. */
  timeoutMs?: number
  signal?: AbortSignal
  /** Id of the peer that is to answer. */
  to?: string
  headers?: Headers
  /** How long to wait, within the timeout, for a responder to appear. Default 0: NO_RESPONDER at once. */
  waitMs?: number
}

export interface RequestManyOptions {
  /** How long replies are gathered, in ms. Default 1000. */
  timeoutMs?: number
  /** Replies after which the survey ends. Default: as many as there are responders. */
  max?: number
  signal?: AbortSignal
  headers?: Headers
}

/** One answer to a survey. */
export interface Reply<T = unknown> {
  readonly from: string
  readonly value?: T
  readonly error?: SkeinError
}

/**
 * With few requests in flight a burst leaves in parts of this many: while the other end answers one, the next is
 * written, or all would wait for each other (64 in flight: 1.3 times as many a second). Many overlap by themselves.
 */
const PART_REQUESTS = 32
const SPLIT_OUTSTANDING = 256

/** This node as a responder to its own requests. */
const SELF = Symbol('self')
type Target = Peer | typeof SELF

interface Ask {
  readonly name: string
  readonly payload: Payload
  readonly timeoutMs: number
  readonly deadlineAt: number
  resolve: (value: unknown) => void
  reject: (error: SkeinError) => void
  /** One of several that a survey asks, which ends them all by itself. */
  readonly isSurvey: boolean
  tried: Set<Target> | undefined
  target: Target
  number: number
  cancel: (() => void) | undefined
}

export interface RequestsOptions {
  readonly clock: Clock
  readonly self: Origin
  readonly maxRequestBytes: number
  readonly responders: Responders
  peer(id: string): Peer | undefined
  members(): Peer[]
  readonly changes: Changes
}

/**
 * The asking side of requests. Every request ends: in a reply, a timeout, the loss of the peer, abort or close, and
 * the error says whether it may have run (G7). A request that has certainly not run is offered to another responder.
 */
export class Requests {
  readonly #options: RequestsOptions
  readonly #asks = new NumberedItems<Ask>()
  readonly #deadlines: Deadlines<Ask>
  readonly #outstanding = new Map<Target, number>()
  readonly #loads = new Map<Target, number>()
  #targets = new Map<string, Target[]>()
  #turn = 0
  #late = 0
  #closed = false

  constructor(options: RequestsOptions) {
    this.#options = options
    this.#deadlines = new Deadlines(options.clock, this.#asks, (ask) => this.#expire(ask))
  }

  get pending(): number {
    return this.#asks.size
  }

  /** Replies that came after their request had ended. */
  get late(): number {
    return this.#late
  }

  /** Throws what can be said at once. Not an async function: one costs a third of all that a request allocates. */
  request(name: string, value: unknown, options: RequestOptions): Promise<unknown> {
    const { timeoutMs = 5000, signal, to, headers, waitMs = 0 } = options
    const payload = this.#encode(name, value, headers)
    const deadlineAt = this.#options.clock.now() + timeoutMs
    signal?.throwIfAborted()
    if (waitMs <= 0) return this.#answer(name, payload, timeoutMs, deadlineAt, to, signal).catch(showAsker)
    return this.#responder(name, Math.min(waitMs, timeoutMs), signal)
      .then(() => this.#answer(name, payload, timeoutMs, deadlineAt, to, signal))
      .catch(showAsker)
  }

  #answer(
    name: string,
    payload: Payload,
    timeoutMs: number,
    deadlineAt: number,
    to: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    return new Promise<unknown>((resolve, reject) => {
      const ask: Ask = {
        name,
        payload,
        timeoutMs,
        deadlineAt,
        resolve,
        reject,
        isSurvey: false,
        tried: undefined,
        target: SELF,
        number: 0,
        cancel: undefined,
      }
      if (signal !== undefined) this.#endBy(signal, ask)
      if (to === undefined) this.#offer(ask)
      else this.#offerTo(ask, to)
      this.#deadlines.add(deadlineAt)
    })
  }

  async *requestMany(name: string, value: unknown, options: RequestManyOptions): AsyncGenerator<Reply> {
    const { timeoutMs = 1000, max = Number.POSITIVE_INFINITY, signal, headers } = options
    const payload = this.#encode(name, value, headers)
    signal?.throwIfAborted()
    const { clock } = this.#options
    const targets = [...this.#responding(name)]
    if (targets.length === 0) throw noResponder(name)
    const deadlineAt = clock.now() + timeoutMs
    const replies: Reply[] = []
    const open = new Set<Ask>()
    let wake: (() => void) | undefined
    let expired = false
    const stop = (): void => {
      expired = true
      for (const ask of open) this.#withdraw(ask)
      wake?.()
    }
    const cancel = clock.after(timeoutMs, stop)
    signal?.addEventListener('abort', stop, { once: true })
    try {
      for (const target of targets) {
        const from = target === SELF ? this.#options.self.id : target.id
        const came = (reply: Reply): void => {
          open.delete(ask)
          replies.push(reply)
          wake?.()
        }
        // All others count as tried: a survey asks each once and never one in place of another.
        const ask: Ask = {
          name,
          payload,
          timeoutMs,
          deadlineAt,
          resolve: (value) => came({ from, value }),
          reject: (error) => came({ from, error }),
          isSurvey: true,
          tried: new Set(targets),
          target,
          number: 0,
          cancel: undefined,
        }
        open.add(ask)
        this.#send(ask, target)
      }
      for (let given = 0; given < max; ) {
        const reply = replies.shift()
        if (reply !== undefined) {
          given++
          yield reply
        } else if (open.size === 0 || expired) break
        else
          await new Promise<void>((resolve) => {
            wake = resolve
          })
      }
      signal?.throwIfAborted()
    } finally {
      cancel()
      signal?.removeEventListener('abort', stop)
      for (const ask of open) this.#withdraw(ask)
    }
  }

  /** A reply frame: number u32 · status u8 · load u16 · record, or code and text. */
  replied(peer: Peer, reader: Reader): void {
    const number = reader.u32()
    const status = reader.u8()
    this.#loads.set(peer, reader.u16())
    const ask = this.#asks.get(number)
    if (ask === undefined || ask.target !== peer) {
      this.#late++
      return
    }
    this.#close(ask)
    if (status === STATUS.ok) {
      this.#succeed(ask, () => decodeReceived(readRecord(reader, reader.frame)))
      return
    }
    const code = reader.text8()
    this.#failed(ask, status, code, reader.text32())
  }

  /** The connection to this peer was reset: it says which requests it never got, and which replies are lost. */
  resumed(peer: Peer): void {
    const numbers = [...this.#asks].filter((ask) => ask.target === peer).map((ask) => ask.number)
    if (numbers.length === 0 || peer.link === undefined) return
    // Behind what waits in the lane, or requests that are still to leave would be taken for lost.
    const writer = peer.link.lane.begin(FRAME.pending, false)
    for (const number of numbers) writer.u32(number)
    peer.link.lane.end(writer)
  }

  /** Who responds to what has changed. */
  changed(): void {
    this.#targets = new Map()
  }

  down(peer: Peer): void {
    this.changed()
    this.#loads.delete(peer)
    for (const ask of [...this.#asks]) {
      if (ask.target !== peer) continue
      this.#close(ask)
      ask.reject(
        new SkeinError(
          'PEER_LOST',
          `request '${ask.name}': peer ${peer.label} was lost, ${peer.reason}; it may have run there`,
        ),
      )
    }
    this.#outstanding.delete(peer)
  }

  awaits(peer: Peer): boolean {
    return (this.#outstanding.get(peer) ?? 0) > 0
  }

  close(): void {
    this.#closed = true
    this.#deadlines.close()
    for (const ask of [...this.#asks]) {
      this.#close(ask)
      ask.reject(
        new SkeinError(
          'CLOSED',
          `request '${ask.name}': the node was closed before the reply; it may have run`,
        ),
      )
    }
  }

  #encode(name: string, value: unknown, headers: Headers | undefined): Payload {
    // A name that was asked for before is known to be valid.
    if (!this.#targets.has(name)) validateTopic(name)
    this.#assertOpen(name)
    return encodePayload(value, headers, true, this.#options.maxRequestBytes, () => `request '${name}'`)
  }

  async #responder(name: string, waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock } = this.#options
    const until = clock.now() + waitMs
    while (this.#responding(name).length === 0 && clock.now() < until && !this.#closed) {
      await this.#options.changes.next(Math.min(50, until - clock.now()))
      signal?.throwIfAborted()
    }
    this.#assertOpen(name)
  }

  #assertOpen(name: string): void {
    if (!this.#closed) return
    throw new SkeinError('CLOSED', `request '${name}': the node is closed`, { mayHaveRun: false })
  }

  #responding(name: string): readonly Target[] {
    let targets = this.#targets.get(name)
    if (targets !== undefined) return targets
    const { members, responders } = this.#options
    const responds = (peer: Peer): boolean => isReserved(name) || peer.interest.responders.includes(name)
    targets = members().filter((peer) => peer.link !== undefined && responds(peer))
    if (responders.has(name)) targets.push(SELF)
    this.#targets.set(name, targets)
    return targets
  }

  /** Gives the request to the least loaded responder that has not refused it yet. */
  #offer(ask: Ask, refused?: SkeinError): void {
    const targets = this.#responding(ask.name)
    let best: Target | undefined
    let bestLoad = Number.POSITIVE_INFINITY
    for (let i = 0; i < targets.length; i++) {
      // Equally loaded ones take turns.
      const target = targets[(i + this.#turn) % targets.length]!
      if (ask.tried?.has(target)) continue
      const load = this.#loadOf(target)
      if (load >= bestLoad) continue
      best = target
      bestLoad = load
    }
    this.#turn++
    if (best === undefined) ask.reject(refused ?? noResponder(ask.name))
    else this.#send(ask, best)
  }

  #offerTo(ask: Ask, id: string): void {
    const { self, peer } = this.#options
    const target = id === self.id ? SELF : peer(id)
    if (target === undefined || (target !== SELF && (!target.isUp || target.link === undefined))) {
      ask.reject(
        new SkeinError('PEER_UNKNOWN', `request '${ask.name}': no peer '${id}' is up; see node.peers`),
      )
      return
    }
    if (!this.#responding(ask.name).includes(target)) {
      ask.reject(noResponder(ask.name, `at peer '${id}'`))
      return
    }
    ask.tried = new Set(this.#responding(ask.name))
    this.#send(ask, target)
  }

  #loadOf(target: Target): number {
    if (target === SELF) return this.#options.responders.load
    const outstanding = this.#outstanding.get(target) ?? 0
    // One that does not answer pings is the last choice.
    return Math.max(outstanding, this.#loads.get(target) ?? 0) + (target.state === 'up' ? 0 : 1e9)
  }

  #send(ask: Ask, target: Target): void {
    ask.target = target
    if (target === SELF) {
      this.#askSelf(ask)
      return
    }
    const lane = target.link?.lane
    if (lane === undefined || !lane.hasRoom(ask.payload.sizeBytes)) {
      const text = `request '${ask.name}': too much waits already for peer ${target.label}`
      this.#again(ask, new SkeinError('OUTBOX_FULL', text))
      return
    }
    this.#asks.add(ask)
    const outstanding = (this.#outstanding.get(target) ?? 0) + 1
    this.#outstanding.set(target, outstanding)
    const writer = lane.begin(FRAME.request, false)
    writer.u32(ask.number)
    writer.u32(Math.max(1, Math.ceil(ask.deadlineAt - this.#options.clock.now())))
    writer.text8(ask.name)
    writeRecord(writer, ask.payload)
    lane.end(writer)
    if (lane.openFrames >= PART_REQUESTS && outstanding <= SPLIT_OUTSTANDING) lane.seal()
  }

  #askSelf(ask: Ask): void {
    const { responders, self, clock } = this.#options
    this.#asks.add(ask)
    const answered = (answer: Answer): void => {
      if (!this.#asks.has(ask)) return
      this.#close(ask)
      if (answer.ok) this.#succeed(ask, () => decodeReceived(receivedLocally(answer.payload)))
      else if (answer.error.code === 'REMOTE_ERROR')
        ask.reject(remoteError(ask.name, 'this node', answer.error.remoteCode!, answer.error.message))
      else this.#again(ask, answer.error)
    }
    // Not within the caller's turn: a handler never runs inside request().
    queueMicrotask(() => {
      if (!this.#asks.has(ask)) return
      const left = Math.max(1, ask.deadlineAt - clock.now())
      ask.cancel = responders.ask(ask.name, self, receivedLocally(ask.payload), left, answered)
    })
  }

  #succeed(ask: Ask, decode: () => unknown): void {
    let value: unknown
    try {
      value = decode()
    } catch (error) {
      ask.reject(
        new SkeinError('MALFORMED', `request '${ask.name}': the reply cannot be decoded; it has run`, {
          cause: error,
          mayHaveRun: true,
        }),
      )
      return
    }
    ask.resolve(value)
  }

  #failed(ask: Ask, status: number, code: string, text: string): void {
    const peer = ask.target as Peer
    const at = `request '${ask.name}' at peer ${peer.label}`
    switch (status) {
      case STATUS.noResponder:
        return this.#again(ask, noResponder(ask.name, `at peer ${peer.label} any more`))
      case STATUS.busy:
        return this.#again(
          ask,
          new SkeinError('BUSY', `${at}: ${text}; try again later, or start another responder`),
        )
      case STATUS.notTaken:
      case STATUS.closed:
        return this.#again(
          ask,
          new SkeinError('PEER_LOST', `${at} did not reach it before the connection broke`, {
            mayHaveRun: false,
          }),
        )
      case STATUS.lost:
        return ask.reject(
          new SkeinError('PEER_LOST', `${at}: the reply was lost with a connection; it has run`),
        )
      case STATUS.slow:
        return ask.reject(
          new SkeinError(
            'PEER_SLOW',
            `${at}: the reply did not fit into the queue to this node; read replies faster, or ask less at once`,
          ),
        )
      default:
        return ask.reject(remoteError(ask.name, `peer ${peer.label}`, code, text))
    }
  }

  /** It has certainly not run there: another responder may have it, within the deadline. */
  #again(ask: Ask, refused: SkeinError): void {
    ask.tried ??= new Set()
    ask.tried.add(ask.target)
    this.#offer(ask, refused)
  }

  #expire(ask: Ask): void {
    if (ask.isSurvey) return
    const where = ask.target === SELF ? 'this node' : `peer ${(ask.target as Peer).label}`
    this.#withdraw(ask)
    ask.reject(
      new SkeinError(
        'REQUEST_TIMEOUT',
        `request '${ask.name}' to ${where} had no reply within ${ask.timeoutMs} ms; it may have run`,
      ),
    )
  }

  /** Nobody waits for the reply any more: the responder is told, so that it can stop. */
  #withdraw(ask: Ask): void {
    if (!this.#asks.has(ask)) return
    this.#close(ask)
    if (ask.target === SELF) ask.cancel?.()
    else this.#cancel(ask.target as Peer, ask.number)
  }

  #cancel(peer: Peer, number: number): void {
    if (peer.link === undefined) return
    // Behind its request, which an urgent frame would overtake.
    const writer = peer.link.lane.begin(FRAME.cancel, false)
    writer.u32(number)
    peer.link.lane.end(writer)
  }

  /** The signal ends the request, and the request's end lets go of the signal, which may live much longer. */
  #endBy(signal: AbortSignal, ask: Ask): void {
    const { resolve, reject } = ask
    const abort = (): void => {
      this.#withdraw(ask)
      ask.reject(signal.reason as SkeinError)
    }
    signal.addEventListener('abort', abort, { once: true })
    ask.resolve = (value) => {
      signal.removeEventListener('abort', abort)
      resolve(value)
    }
    ask.reject = (error) => {
      signal.removeEventListener('abort', abort)
      reject(error)
    }
  }

  #close(ask: Ask): void {
    this.#asks.delete(ask)
    const outstanding = this.#outstanding.get(ask.target)
    if (outstanding !== undefined) this.#outstanding.set(ask.target, outstanding - 1)
  }
}

/** The error was made where the reply was read; its user needs to see where the request was made. */
const showAsker = (error: unknown): never => {
  if (error instanceof SkeinError) Error.captureStackTrace(error, showAsker)
  throw error
}

const noResponder = (name: string, where = 'anywhere in the mesh'): SkeinError =>
  new SkeinError(
    'NO_RESPONDER',
    `request '${name}': nobody responds to it ${where}; start a responder, or wait for one with 'waitMs'`,
  )

const remoteError = (name: string, where: string, remoteCode: string, text: string): SkeinError =>
  new SkeinError('REMOTE_ERROR', `request '${name}' failed at ${where}: ${text}`, { remoteCode })
