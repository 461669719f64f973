import { monitorEventLoopDelay } from 'node:perf_hooks'

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
 * A stall is seen as up to this much shorter than it was, and never as longer. Measured on a small virtual machine, a sample
 * each 20 ms costs an idle node a quarter of a per cent of a core, each 100 ms a tenth, and this one is lost in the noise.
 */
const LAG_SAMPLE_MS = 200

const measureLag = (): LagMeter => {
  const delays = monitorEventLoopDelay({ resolution: LAG_SAMPLE_MS })
  delays.enable()
  return {
    get worstMs() {
      // In nanoseconds from one sample to the next; 0 where there was none yet.
      return Math.max(0, delays.max / 1e6 - LAG_SAMPLE_MS)
    },
    reset: () => delays.reset(),
    close: () => void delays.disable(),
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
