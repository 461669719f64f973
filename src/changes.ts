import type { Clock } from './clock.ts'

/** Wakes those who wait for a condition whenever something that it may depend on has changed. */
export class Changes {
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  notify(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  /** Resolves at the next change, at the latest after `timeoutMs`. */
  next(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel()
        this.#waiting.delete(wake)
        resolve()
      }
      const cancel = this.#clock.after(timeoutMs, wake)
      this.#waiting.add(wake)
    })
  }

  /** Resolves to true as soon as the condition holds, to false after `timeoutMs`. */
  async until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const end = this.#clock.now() + timeoutMs
    while (!condition()) {
      const left = end - this.#clock.now()
      if (left <= 0) return false
      await this.next(left)
    }
    return true
  }
}
