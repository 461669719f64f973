import type { Clock } from '../clock.ts'
import { isSkeinError, messageOf, SkeinError } from '../errors.ts'
import { isReserved } from '../observe/status.ts'
import { encodePayload } from '../protocol/payload.ts'
import type { Payload, Received } from '../protocol/record.ts'
import { validateTopic } from '../protocol/topics.ts'
import { Message, type Origin } from './message.ts'

const MAX_ERROR_TEXT = 2048

export type RespondHandler = (query: unknown, message: Message) => unknown

export interface RespondOptions {
  /** Handlers running at the same time. Default 256. */
  concurrency?: number
  /** Requests that may wait for a handler; beyond that the asker gets BUSY, or another responder. Default 10,000. */
  queue?: number
}

interface Failure {
  readonly ok: false
  readonly error: SkeinError
}

/** How a request ended at the responder. */
export type Answer = { readonly ok: true; readonly payload: Payload } | Failure

/** A name that this node responds to. */
export interface Responder {
  readonly name: string
  /** Resolves when every peer that is up knows of it. */
  readonly ready: Promise<void>
  /** Stops responding; requests that run are let finish. */
  close(): Promise<void>
}

interface Job {
  readonly message: Message
  readonly deadlineAt: number
  readonly answer: (answer: Answer) => void
  cancelled: boolean
  /** Its handler was told that the deadline has passed: timers may be early by a little. */
  expired: boolean
}

interface Service {
  readonly handler: RespondHandler
  readonly concurrency: number
  readonly queue: number
  running: number
  waiting: Job[]
}

export interface RespondersOptions {
  readonly clock: Clock
  readonly maxReplyBytes: number
  /** What this node answers to of itself: never stated, since every node does. */
  readonly own?: Readonly<Record<string, RespondHandler>>
  changed(): Promise<void>
}

/** The answering side of requests: runs handlers within their concurrency, deadline and queue. */
export class Responders {
  readonly #options: RespondersOptions
  readonly #services = new Map<string, Service>()
  readonly #running = new Set<Job>()
  #load = 0

  constructor(options: RespondersOptions) {
    this.#options = options
    for (const [name, handler] of Object.entries(options.own ?? {}))
      this.#services.set(name, serviceOf(handler, {}))
  }

  /** Requests that run or wait here, which askers choose by. */
  get load(): number {
    return this.#load
  }

  names(): string[] {
    return [...this.#services.keys()].filter((name) => !isReserved(name))
  }

  has(name: string): boolean {
    return this.#services.has(name)
  }

  add(name: string, handler: RespondHandler, options: RespondOptions): Responder {
    validateTopic(name)
    if (isReserved(name))
      throw new SkeinError(
        'TOPIC_INVALID',
        `respond to '${name}': names that begin with '$skein.' are skein's own; choose another`,
      )
    if (this.#services.has(name)) {
      throw new SkeinError(
        'OPTION_INVALID',
        `this node responds to '${name}' already; close the first responder before`,
      )
    }
    const service = serviceOf(handler, options)
    this.#services.set(name, service)
    const ready = Promise.resolve().then(() => this.#options.changed())
    ready.catch(() => {})
    const close = async (): Promise<void> => {
      if (this.#services.get(name) !== service) return
      this.#services.delete(name)
      for (const job of service.waiting.splice(0))
        this.#end(job, refusal('NO_RESPONDER', `'${name}' has no responder any more`))
      await this.#options.changed().catch(() => {})
    }
    return { name, ready, close }
  }

  /** Takes a request and calls `answer` once; the result cancels it. */
  ask(
    name: string,
    origin: Origin,
    record: Received,
    timeoutMs: number,
    answer: (answer: Answer) => void,
  ): () => void {
    const service = this.#services.get(name)
    if (service === undefined) {
      answer(refusal('NO_RESPONDER', `'${name}' has no responder here`))
      return NOTHING_TO_CANCEL
    }
    const now = this.#options.clock.now()
    const message = new Message(name, origin, 0, 0, record)
    const job: Job = { message, deadlineAt: now + timeoutMs, answer, cancelled: false, expired: false }
    if (service.running < service.concurrency) {
      this.#load++
      this.#run(service, job)
    } else if (service.waiting.length < service.queue) {
      this.#load++
      service.waiting.push(job)
    } else {
      answer(refusal('BUSY', `'${name}' has ${service.queue} requests waiting already`))
      return NOTHING_TO_CANCEL
    }
    return () => {
      job.cancelled = true
      const place = service.waiting.indexOf(job)
      if (place >= 0) {
        service.waiting.splice(place, 1)
        this.#load--
      }
      const late = this.#options.clock.now() >= job.deadlineAt
      message.abort(new SkeinError(late ? 'REQUEST_TIMEOUT' : 'CANCELLED', `the asker of '${name}' gave up`))
    }
  }

  close(): void {
    const closed = refusal('CLOSED', 'the responding node closes')
    for (const service of this.#services.values())
      for (const job of service.waiting.splice(0)) this.#end(job, closed)
    this.#services.clear()
    for (const { message } of this.#running)
      message.abort(new SkeinError('CLOSED', 'the responding node closes'))
  }

  #run(service: Service, job: Job): void {
    let result: unknown
    let isLater: boolean
    try {
      job.message.whenWatched(() => this.#watch(job))
      result = service.handler(job.message.value, job.message)
      isLater = typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function'
    } catch (error) {
      this.#end(job, failure(error))
      return
    }
    if (!isLater) {
      this.#end(job, this.#encode(job, result))
      return
    }
    service.running++
    this.#running.add(job)
    // As `await` does it: a `then` that throws is a failure.
    Promise.resolve(result).then(
      (value) => this.#ran(service, job, this.#encode(job, value)),
      (error: unknown) => this.#ran(service, job, failure(error)),
    )
  }

  #ran(service: Service, job: Job, answer: Answer): void {
    service.running--
    this.#running.delete(job)
    this.#end(job, answer)
    while (service.running < service.concurrency && service.waiting.length > 0) {
      const next = service.waiting.shift()!
      // Whoever asked has given up by now: running it would only delay the others.
      if (next.cancelled) this.#load--
      else if (next.deadlineAt < this.#options.clock.now()) this.#end(next, expired(next))
      else this.#run(service, next)
    }
  }

  #end(job: Job, answer: Answer): void {
    this.#load--
    if (job.cancelled) return
    // What fails because its time is over must not look like a failure of its own, however close the race.
    const late = !answer.ok && (job.expired || this.#options.clock.now() >= job.deadlineAt)
    job.answer(late ? expired(job) : answer)
  }

  #encode(job: Job, value: unknown): Answer {
    try {
      const what = () => `reply to '${job.message.topic}'`
      return { ok: true, payload: encodePayload(value, undefined, false, this.#options.maxReplyBytes, what) }
    } catch (error) {
      return failure(error)
    }
  }

  /** A handler looked at its signal: only now a timer for the deadline is worth its cost. */
  #watch(job: Job): void {
    const left = job.deadlineAt - this.#options.clock.now()
    this.#options.clock.after(Math.max(0, left), () => {
      job.expired = true
      job.message.abort(expired(job).error)
    })
  }
}

const serviceOf = (handler: RespondHandler, options: RespondOptions): Service => ({
  ...{ handler, concurrency: 256, queue: 10_000 },
  ...options,
  ...{ running: 0, waiting: [] },
})

const NOTHING_TO_CANCEL = (): void => {}

const expired = ({ message }: Job): Failure => ({
  ok: false,
  error: new SkeinError('REQUEST_TIMEOUT', `the deadline of '${message.topic}' has passed`),
})

const refusal = (code: 'BUSY' | 'NO_RESPONDER' | 'CLOSED', text: string): Answer => ({
  ok: false,
  error: new SkeinError(code, text, { mayHaveRun: false }),
})

/** Of anything that was thrown, which may throw itself when it is looked at. */
const codeOf = (cause: unknown): unknown => {
  try {
    return (cause as { code?: unknown } | null | undefined)?.code
  } catch {
    return undefined
  }
}

/** What crosses the wire of an error: a code and its message, never a stack. */
const failure = (cause: unknown): Answer => {
  const own = codeOf(cause)
  const remoteCode = typeof own === 'string' && own.length > 0 && own.length <= 64 ? own : 'ERROR'
  const error = new SkeinError('REMOTE_ERROR', messageOf(cause).slice(0, MAX_ERROR_TEXT), { remoteCode })
  return { ok: false, error: isSkeinError(cause, 'BUSY') ? cause : error }
}
