import type { Clock } from '../../src/clock.ts'

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** Everything that waits in microtasks runs before a macrotask of the real event loop does. */
const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Time that passes only when a test says so: timers and turns run in order, microtasks in between. */
export class FakeClock implements Clock {
  #now = 1000
  #timers: Timer[] = []
  #turns: (() => void)[] = []

  now(): number {
    return this.#now
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
}
