import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import { Chance } from './chance.ts'
import { Schedule, type Task } from './schedule.ts'

/** Each is a turn of the real event loop's own queue; measured, 32 at once cost a sixth of 32 one after the other. */
const STEPS_PER_ROUND = 32

/** Turns take no time; a program that never waits for anything else would make time stand still for ever. */
const TURNS_AT_ONCE = 1000
const LATE_TURN_MS = 0.1

const RUN_LIMIT_MS = 60_000

export interface VirtualClockOptions {
  /** What `random` depends on. Default 1. */
  seed?: number
  /** What `wall` shows at first, in milliseconds since 1970. Default the first second of 2026, UTC. */
  wallMs?: number
}

/**
 * Time that passes only when it is told to, and then as fast as the machine can compute: a minute of a mesh that has
 * little to do takes milliseconds. Timers run in the order in which they are due; in between, everything that waits in
 * microtasks runs to its end, and turns end before time goes on. Nothing depends on how fast the machine is.
 *
 * What is awaited outside (files, real sockets) takes no time here: wrap it in `outside`, or time runs away from it.
 *
 * @example
 * const clock = new VirtualClock({ seed: 7 })
 * let rings = 0
 * clock.after(60_000, () => rings++)
 * await clock.advance(59_999)   // rings is 0
 * await clock.advance(1)        // rings is 1, and no minute has passed
 */
export class VirtualClock implements Clock {
  readonly #schedule = new Schedule()
  readonly #chance: Chance
  readonly #wallMs: number
  #now = 0
  /** What runs when the present turn has ended, and where in that this clock is. */
  #turns: (() => void)[] = []
  #turn = 0
  #nextTurns: (() => void)[] = []
  #turnsHere = 0
  #outside = 0
  #events = 0
  /** Those for whom time passes, and the first moment at which one of them does not want it to go on. */
  readonly #waits = new Set<Wait>()
  #until = Number.POSITIVE_INFINITY
  #isDriven = false

  constructor(options: VirtualClockOptions = {}) {
    this.#chance = new Chance(options.seed ?? 1)
    this.#wallMs = options.wallMs ?? Date.UTC(2026, 0, 1)
  }

  now(): number {
    return this.#now
  }

  wall(): number {
    return this.#wallMs + this.#now
  }

  random(): number {
    return this.#chance.next()
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = new Timer(run)
    // As setTimeout takes what is no number.
    this.#schedule.add(this.#now + Math.max(0, delayMs || 0), timer)
    return () => {
      if (timer.end()) this.#schedule.ended()
    }
  }

  // A field, because it is passed on without its clock.
  readonly turn = (run: () => void): void => void this.#nextTurns.push(run)

  /**
   * @internal Runs a task of the network, which has no need to call it off. These moments are whole microseconds, so that
   * very many tasks share them: with a quarter of a million connections that halves what an event costs.
   */
  at(moment: number, task: Task): void {
    this.#schedule.add(Math.max(this.#now, Math.ceil(moment * 1000) / 1000), task)
  }

  /** How many timers and turns wait. */
  get pending(): number {
    return this.#schedule.size + this.#turns.length - this.#turn + this.#nextTurns.length
  }

  /** How many timers and turns have run. */
  get events(): number {
    return this.#events
  }

  /** Lets this much time pass. Rejects with whatever a timer or turn throws. */
  advance(ms: number): Promise<void> {
    const until = this.#now + ms
    return new Promise((resolve, reject) =>
      this.#add({ until, isRun: false, over: () => resolve(), fail: reject }),
    )
  }

  /**
   * Lets time pass until the promise settles, and answers as it does. Several may run at the same time, and time goes on
   * as long as one of them waits.
   *
   * @throws SkeinError WAIT_TIMEOUT when `limitMs` (60,000) of virtual time are over, or nothing is left to happen
   * @example
   * const node = await clock.run(createNode({ name: 'orders' }))
   */
  run<T>(promise: Promise<T>, options: { limitMs?: number } = {}): Promise<T> {
    const { limitMs = RUN_LIMIT_MS } = options
    const startedAt = this.#now
    return new Promise((resolve, reject) => {
      const over = (isIdle: boolean): void => {
        const why = isIdle
          ? 'nothing is left to happen, and it still waits'
          : `it still waits; set a higher 'limitMs' if it needs more than ${limitMs} ms of virtual time`
        const passedMs = Math.round(this.#now - startedAt)
        reject(new SkeinError('WAIT_TIMEOUT', `run a promise until it settles: after ${passedMs} ms ${why}`))
      }
      const wait: Wait = { until: startedAt + limitMs, isRun: true, over, fail: reject }
      this.#add(wait)
      promise.then(
        (value) => {
          this.#drop(wait)
          resolve(value)
        },
        (error: unknown) => {
          this.#drop(wait)
          reject(error as Error)
        },
      )
    })
  }

  /**
   * Time stands still until this promise has settled, because something outside of the simulation brings it about.
   *
   * @example
   * node.respond('config.get', () => clock.outside(readFile('config.json', 'utf8')))
   */
  outside<T>(promise: Promise<T>): Promise<T> {
    this.#outside++
    return promise.finally(() => {
      this.#outside--
    })
  }

  #add(wait: Wait): void {
    this.#waits.add(wait)
    this.#until = Math.min(this.#until, wait.until)
    if (this.#isDriven) return
    this.#isDriven = true
    this.#drive()
  }

  #drop(wait: Wait): void {
    this.#waits.delete(wait)
    this.#until = Math.min(...Array.from(this.#waits, ({ until }) => until))
  }

  /** Takes step after step, each in a macrotask of its own: Node runs all microtasks between any two of them. */
  #drive(): void {
    if (this.#waits.size === 0) {
      this.#isDriven = false
      return
    }
    for (let i = 0; i < STEPS_PER_ROUND; i++) setImmediate(this.#tick)
    setImmediate(() => this.#drive())
  }

  readonly #tick = (): void => {
    if (this.#waits.size === 0) return
    try {
      if (!this.#step(this.#until)) this.#over()
    } catch (error) {
      const waits = [...this.#waits]
      for (const wait of waits) this.#drop(wait)
      for (const wait of waits) wait.fail(error as Error)
    }
  }

  /** Nothing happens before the first of those that wait is at its end. */
  #over(): void {
    const until = this.#until
    const waits = [...this.#waits]
    // Whoever waits for a moment only may make something happen then.
    const isIdle = this.pending === 0 && waits.every(({ isRun }) => isRun)
    if (!isIdle) this.#now = Math.max(this.#now, until)
    for (const wait of waits) {
      if (!isIdle && wait.until > until) continue
      this.#drop(wait)
      wait.over(isIdle)
    }
  }

  /** Does the next thing; answers false if there is none until that moment. */
  #step(until: number): boolean {
    if (this.#turn < this.#turns.length) {
      this.#events++
      this.#turns[this.#turn++]!()
      return true
    }
    // What is due at the same moment is of the same turn of the event loop, as what one poll finds is.
    const { nextAt } = this.#schedule
    if (nextAt > this.#now) {
      if (this.#nextTurns.length > 0) return this.#endTurn(Math.min(nextAt, until))
      if (this.#outside > 0) return true
      this.#turnsHere = 0
      if (nextAt > until || nextAt === Number.POSITIVE_INFINITY) return false
      this.#now = nextAt
    }
    this.#events++
    this.#schedule.take().run()
    return true
  }

  #endTurn(until: number): boolean {
    if (++this.#turnsHere > TURNS_AT_ONCE) {
      if (this.#now >= until) return false
      this.#now = Math.min(until, this.#now + LATE_TURN_MS)
    }
    this.#turns = this.#nextTurns
    this.#turn = 0
    this.#nextTurns = []
    return true
  }
}

interface Wait {
  readonly until: number
  /** It waits for something, and not just for its time to be over. */
  readonly isRun: boolean
  over(isIdle: boolean): void
  fail(error: Error): void
}

class Timer implements Task {
  #run: (() => void) | undefined

  constructor(run: () => void) {
    this.#run = run
  }

  get isOver(): boolean {
    return this.#run === undefined
  }

  run(): void {
    const run = this.#run
    this.#run = undefined
    run?.()
  }

  /** Answers whether it still waited. */
  end(): boolean {
    const waited = this.#run !== undefined
    this.#run = undefined
    return waited
  }
}
