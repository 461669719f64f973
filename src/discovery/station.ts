import type { Clock } from '../clock.ts'
import type { Service } from './advert.ts'

const SERVICE_TYPE = 'skein'
export const SERVICE_NAME = `_${SERVICE_TYPE}._tcp.local`
/** What browsers of all types of service ask for. */
const ALL_TYPES = '_services._dns-sd._udp.local'

/** Who is there has answered by then. */
const ANSWERED_MS = 250
const RETRY_MS = 5000
export const RETRY_MAX_MS = 300_000
const GOODBYE_MS = 500
/** Below the time in which answers are awaited. One packet asks thousands of times; bonjour-service answered each. */
const ANSWER_GAP_MS = 150

/** An interface of this host and its IPv4 address. */
export interface MdnsInterface {
  readonly interface: string
  readonly address: string
  readonly family: string
  readonly internal: boolean
}

/** When it is asked who is there: at these times, then each interval between `everyMs` and twice that. */
export interface Queries {
  readonly atMs: readonly number[]
  readonly everyMs: number
}

export interface Question {
  readonly name: string
  readonly type: string
  readonly class?: string
}

export interface Answer {
  readonly name: string
  readonly type: string
  readonly ttl?: number
  readonly data?: unknown
}

export interface Packet {
  readonly id: number
  readonly questions: readonly Question[]
  readonly answers: readonly Answer[]
  readonly additionals: readonly Answer[]
}

export interface PacketSource {
  readonly address: string
}

/** What is used of bonjour-service, whose own types know neither `interface` and `bind` nor the inner emitter. */
export interface Bonjour {
  readonly server: { readonly mdns: Multicast }
  publish(service: object): unknown
  unpublishAll(done: () => void): void
  destroy(done: () => void): void
}

interface Multicast {
  on(event: 'error' | 'warning', listener: (error: Error) => void): unknown
  on(event: 'ready', listener: () => void): unknown
  on(event: 'query' | 'response', listener: (packet: Packet, from: PacketSource) => void): unknown
  listeners(event: 'query'): unknown[]
  removeAllListeners(event: 'query'): unknown
  query(query: object, done: (error?: Error | null) => void): void
}

export type MakeBonjour = (
  options: { interface: string; bind: string; port: number },
  onError: (error: Error) => void,
) => Bonjour

export interface StationOptions {
  readonly host: MdnsInterface
  readonly port: number
  readonly clock: Clock
  readonly queries: Queries
  /** Null for a node that does not listen. */
  readonly service: Service | null
  readonly make: MakeBonjour
  /** A number for the next query, by which it is known when it comes back. */
  number(): number
  isOurs(number: number): boolean
  /** Somebody else asks for our type of service. */
  asked(address: string): void
  answered(packet: Packet, from: PacketSource): void
  unreadable(error: Error): void
  trouble(host: MdnsInterface, error: Error): void
}

/** The way in which bonjour-service answers. */
type Answering = (packet: Pick<Packet, 'questions'>) => void

const nothing = (): void => {}

const isSocketError = (error: Error): boolean => 'syscall' in error

const destroy = (bonjour: Bonjour): Promise<void> =>
  new Promise((resolve) => {
    try {
      bonjour.destroy(resolve)
    } catch {
      // Its socket is closed already.
      resolve()
    }
  })

/** Multicast DNS on one interface: announces one service, asks who else is there, and comes back after failures. */
export class Station {
  readonly host: MdnsInterface
  readonly #options: StationOptions
  /** The present one: whatever others still report is of no interest. */
  #bonjour: Bonjour | undefined
  #isReady = false
  #hasFailed = false
  #failures = 0
  #openedAt = 0
  #askedFirstAt: number | undefined
  #overheardAt = Number.NEGATIVE_INFINITY
  #answeredAt = Number.NEGATIVE_INFINITY
  #otherAnsweredAt = Number.NEGATIVE_INFINITY
  #isAnswering = false
  #opened = nothing
  #cancelAnswer = nothing
  #cancelQuery = nothing
  #cancelRetry = nothing

  constructor(options: StationOptions) {
    this.host = options.host
    this.#options = options
  }

  /** Whoever is there has had the time to answer, or nobody can be asked. */
  get isSettled(): boolean {
    const { clock } = this.#options
    return (
      this.#hasFailed || (this.#askedFirstAt !== undefined && clock.now() - this.#askedFirstAt >= ANSWERED_MS)
    )
  }

  /** Resolves when the socket is open, has failed or was closed. */
  open(): Promise<void> {
    return new Promise((resolve) => {
      this.#opened = resolve
      const { host, port, make, answered, unreadable, clock } = this.#options
      let made: Bonjour | undefined
      const isPresent = (): boolean => made !== undefined && this.#bonjour === made
      const fail = (error: Error): void => {
        if (isPresent()) this.#fail(error)
        resolve()
      }
      this.#isReady = false
      this.#hasFailed = false
      this.#openedAt = clock.now()
      try {
        // Bound to the address itself it would be deaf on Linux.
        made = make({ interface: host.address, bind: '0.0.0.0', port }, fail)
      } catch (error) {
        this.#fail(error as Error)
        return resolve()
      }
      this.#bonjour = made
      const { mdns } = made.server
      const [answer] = mdns.listeners('query') as Answering[]
      mdns.removeAllListeners('query')
      mdns.on('error', fail)
      mdns.on('warning', (error) => {
        if (isSocketError(error)) fail(error)
        else if (isPresent()) unreadable(error)
      })
      mdns.on('query', (packet, from) => {
        if (isPresent() && answer !== undefined) this.#asked(packet, from, answer)
      })
      mdns.on('response', (packet, from) => {
        if (isPresent()) answered(packet, from)
      })
      mdns.on('ready', () => {
        if (isPresent()) this.#begin(made!)
        resolve()
      })
    })
  }

  /** Somebody else has asked what this one would ask: the answers are heard by all. */
  overhear(): void {
    this.#overheardAt = this.#options.clock.now()
  }

  async close(goodbye: boolean): Promise<void> {
    const bonjour = this.#bonjour
    const said = goodbye && this.#isReady && this.#options.service !== null
    this.#bonjour = undefined
    this.#opened()
    this.#cancelRetry()
    this.#quiet()
    if (bonjour === undefined) return
    if (said) await this.#withdraw(bonjour)
    await destroy(bonjour)
  }

  #begin(bonjour: Bonjour): void {
    // What was sent although the interface could not be chosen would leave by another one.
    if (this.#hasFailed) return this.#drop()
    this.#isReady = true
    const { service } = this.#options
    if (service !== null) {
      const { instance, port, txt } = service
      // Probing prints on stdout when a name is taken, and says goodbye for its owner; ours are never taken.
      const how = { type: SERVICE_TYPE, protocol: 'tcp', probe: false }
      bonjour.publish({ ...how, name: instance, host: `${instance}.local`, port, txt })
    }
    this.#ask(bonjour)
    this.#askLater(1)
  }

  #ask(bonjour: Bonjour): void {
    const questions = [{ name: SERVICE_NAME, type: 'PTR' }]
    bonjour.server.mdns.query({ id: this.#options.number(), questions }, (error) => {
      if (this.#bonjour !== bonjour) return
      if (error) this.#fail(error)
      else this.#askedFirstAt ??= this.#options.clock.now()
    })
  }

  #askLater(turn: number): void {
    const { clock, queries } = this.#options
    const { atMs, everyMs } = queries
    const intervalMs =
      turn < atMs.length
        ? (atMs[turn]! - atMs[turn - 1]!) * (0.75 + clock.random() / 2)
        : everyMs * (1 + clock.random())
    this.#cancelQuery = clock.after(intervalMs, () => {
      if (clock.now() - this.#overheardAt > intervalMs / 2) this.#ask(this.#bonjour!)
      this.#askLater(turn + 1)
    })
  }

  #asked({ id, questions }: Packet, { address }: PacketSource, answer: Answering): void {
    const { service, clock, isOurs, asked } = this.#options
    if (isOurs(id)) return
    const forUs = questions.filter(
      ({ name, type }) => name.toLowerCase() === SERVICE_NAME && (type === 'PTR' || type === 'ANY'),
    )
    // Of any other class are those who want the answers for themselves.
    if (forUs.some((question) => question.class === 'IN')) asked(address)
    if (service === null || !this.#isReady) return
    if (forUs.length > 0) this.#answerSoon(() => answer({ questions: [{ name: SERVICE_NAME, type: 'PTR' }] }))
    const { instance } = service
    const own = [`${instance}.${SERVICE_NAME}`, `${instance}.local`, ALL_TYPES].filter((each) =>
      questions.some(({ name }) => name.toLowerCase() === each),
    )
    if (own.length === 0 || clock.now() - this.#otherAnsweredAt < ANSWER_GAP_MS) return
    this.#otherAnsweredAt = clock.now()
    answer({ questions: own.map((name) => ({ name, type: 'ANY' })) })
  }

  #answerSoon(answer: () => void): void {
    if (this.#isAnswering) return
    const { clock } = this.#options
    const now = (): void => {
      this.#isAnswering = false
      this.#answeredAt = clock.now()
      answer()
    }
    const waitMs = this.#answeredAt + ANSWER_GAP_MS - clock.now()
    if (waitMs <= 0) return now()
    this.#isAnswering = true
    this.#cancelAnswer = clock.after(waitMs, now)
  }

  #fail(error: Error): void {
    if (this.#hasFailed) return
    this.#hasFailed = true
    this.#quiet()
    const { clock, trouble } = this.#options
    if (clock.now() - this.#openedAt > RETRY_MAX_MS) this.#failures = 0
    const waitMs = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** this.#failures) * (0.75 + clock.random() / 2)
    this.#failures = Math.min(16, this.#failures + 1)
    // Until then it listens on, if it can: where nothing may be sent, something may still arrive.
    this.#cancelRetry = clock.after(waitMs, () => {
      this.#drop()
      void this.open()
    })
    trouble(this.host, error)
  }

  #quiet(): void {
    this.#cancelQuery()
    this.#cancelAnswer()
    this.#isAnswering = false
  }

  #drop(): void {
    const bonjour = this.#bonjour
    this.#bonjour = undefined
    if (bonjour !== undefined) void destroy(bonjour)
  }

  #withdraw(bonjour: Bonjour): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(GOODBYE_MS, resolve)
      bonjour.unpublishAll(() => {
        cancel()
        resolve()
      })
    })
  }
}
