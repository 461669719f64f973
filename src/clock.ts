/** How long an event loop was held up at a stretch. */
export interface LagMeter {
  /** The longest since the last reset, in ms: it took at least so long. */
  readonly worstMs: number
  reset(): void
  close(): void
}

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
  /** Begins to measure how the event loop is held up. A clock without it has none that could be. */
  lag?(): LagMeter
}

/**
 * A stall is seen as up to this much shorter than it was, and never as longer. More samples, or the histogram that Node
 * keeps of them (half a megabyte, cleared each second), cost an idle node a tenth of a per cent of a core and more.
 */
const LAG_SAMPLE_MS = 200

const measureLag = (): LagMeter => {
  let sampledAt = performance.now()
  let worstMs = 0
  const timer = setInterval(() => {
    const now = performance.now()
    worstMs = Math.max(worstMs, now - sampledAt - LAG_SAMPLE_MS)
    sampledAt = now
  }, LAG_SAMPLE_MS)
  timer.unref()
  return {
    get worstMs() {
      return worstMs
    },
    reset() {
      worstMs = 0
    },
    close: () => clearInterval(timer),
  }
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
  lag: measureLag,
}
