/** Time and chance as the modules see them, so that a simulated network can bring its own. */
export interface Clock {
  /** Milliseconds, monotonic; they may stand still while the machine sleeps. */
  now(): number
  /** Milliseconds since 1970, as people set it. */
  wall(): number
  /** From 0 to below 1. */
  random(): number
  /** Calls `run` once after `delayMs`; the answer cancels it. Never keeps a process alive. */
  after(delayMs: number, run: () => void): () => void
  /** Calls `run` when the present turn of the event loop has ended. */
  turn(run: () => void): void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  random: () => Math.random(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
  turn: (run) => void setImmediate(run),
}
