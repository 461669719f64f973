/** Time as the modules see it, so that a simulated network can bring its own. Milliseconds, monotonic. */
export interface Clock {
  now(): number
  /** Calls `run` once after `delayMs`; the answer cancels it. Never keeps a process alive. */
  after(delayMs: number, run: () => void): () => void
  /** Calls `run` when the present turn of the event loop has ended. */
  turn(run: () => void): void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
  turn: (run) => void setImmediate(run),
}
