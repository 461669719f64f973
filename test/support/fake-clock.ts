import type { Clock } from '../../src/clock.ts'

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** Everything that waits in microtasks runs before a macrotask of the real event loop does. */
const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Chance that is the same in every run (mulberry32). */
const seeded = (seed: number): (() => number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), 1 | state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** Time that passes only when a test says so: timers and turns run in order, microtasks in between. */
export class FakeClock implements Clock {
  /** How far people's clock is ahead of this one: to change it is to set that clock. */
  wallAheadMs = Date.UTC(2026, 0, 1)
  /** Seeded, so that runs are alike; a test may put its own in its place. */
  random: () => number
  #now = 1000
  #timers: Timer[] = []
  #turns: (() => void)[] = []

  constructor(seed = 1) {
    this.random = seeded(seed)
  }

  now(): number {
    return this.#now
  }

  wall(): number {
    return this.#now + this.wallAheadMs
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), run }
    const before = this.#timers.findIndex((other) => other.at > timer.at)
    this.#timers.splice(before === -1 ? this.#timers.length : before, 0, timer)
    return () => {
      const at = this.#timers.indexOf(timer)
      if (at !== -1) this.#timers.splice(at, 1)
    }
  }

  // A field, because it is passed on without its clock.
  readonly turn = (run: () => void): void => void this.#turns.push(run)

  get pendingTimers(): number {
    return this.#timers.length
  }

  /** Runs what waits in microtasks, and nothing else. */
  microtasks(): Promise<void> {
    return microtasks()
  }

  /** Ends the present turn of the event loop; answers whether anything waited for that. */
  async endTurn(): Promise<boolean> {
    await microtasks()
    const turns = this.#turns
    this.#turns = []
    for (const run of turns) {
      run()
      await microtasks()
    }
    return turns.length > 0
  }

  /** Lets `ms` pass. Turns take no time, so all of them end before the next timer runs. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms
    for (;;) {
      while (await this.endTurn()) {}
      const next = this.#timers[0]
      if (next === undefined || next.at > until) break
      this.#timers.shift()
      this.#now = Math.max(this.#now, next.at)
      next.run()
    }
    this.#now = until
  }

  /** A stall: time passes, and nothing runs until it is over. */
  stall(ms: number): void {
    this.#now += ms
  }

  /** The machine sleeps: people's clock goes on, timers and this clock stand still. */
  sleep(ms: number): void {
    this.wallAheadMs += ms
  }
}
