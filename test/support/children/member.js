// A process with one node, driven by its parent through IPC: see test/support/processes.ts.
import { readFileSync } from 'node:fs'
import { createNode } from 'skein'
import { Tally } from './tally.js'

/** @typedef {import('skein').Node} Node */

/** @type {Node | undefined} */
let current
/** @type {{ type: string, id: string, reason: string, at: number }[]} */
let events = []
/** @type {{ code: string, text: string, at: number }[]} */
let warnings = []
/** What runs on until it is stopped, by topic. @type {Map<string, () => Promise<number>>} */
const flows = new Map()
/** @type {Set<string>} */
let statesSeen = new Set()
/** @type {Map<string, Tally>} */
let tallies = new Map()
/** @type {Map<string, Promise<unknown>>} */
const asked = new Map()

const now = () => Date.now()

/** @param {object} note */
const note = (note) => process.send?.(note)

/** @returns {Node} */
const node = () => {
  if (current === undefined) throw new Error('the node of this process is not started')
  return current
}

const look = () => {
  for (const { state } of current?.peers ?? []) statesSeen.add(state)
}

/** @param {number[]} values */
const p99 = (values) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Number.POSITIVE_INFINITY

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** How long this thread was ready to run while others had the cores: no fault of its own. Linux tells, others say 0. */
const waitedMs = () => {
  try {
    return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6
  } catch {
    return 0
  }
}

/** @param {number} ms */
const spin = (ms) => {
  const until = performance.now() + ms
  while (performance.now() < until);
}

/** @type {Record<string, (argument: any) => unknown>} */
const commands = {
  async start(options) {
    events = []
    warnings = []
    tallies = new Map()
    current = await createNode(options)
    current.on('warning', ({ code, message }) => warnings.push({ code, text: message, at: now() }))
    for (const type of /** @type {const} */ (['peer-up', 'peer-down'])) {
      current.on(type, ({ id, reason = '' }) => events.push({ type, id, reason, at: now() }))
    }
    current.on('gap', (gap) => {
      for (const tally of tallies.values()) tally.gap(gap)
    })
    return { id: current.id, name: current.name, boot: current.boot, pid: process.pid }
  },

  close: () => node().close(),
  drain: () => node().drain(),
  stats: () => node().stats(),
  events: () => events,
  warnings: () => warnings,
  peers: () => node().peers,
  waitForPeers: async ({ count, timeoutMs }) => {
    await node().waitForPeers(count, { timeoutMs })
    return now()
  },
  waitForSubscribers: ({ topic, count, timeoutMs }) => node().waitForSubscribers(topic, { count, timeoutMs }),

  /** A handler that counts: at once, as slowly as a timer (`asyncMs`), or with the event loop held up (`blockMs`). */
  async subscribe({ pattern, asyncMs = 0, blockMs = 0, waits = true }) {
    const tally = new Tally(pattern)
    tallies.set(pattern, tally)
    const clock = new Int32Array(new SharedArrayBuffer(4))
    const subscription = node().subscribe(pattern, (/** @type {Uint8Array} */ value, message) => {
      tally.message(message.topic, value)
      // Held up without burning a core, which on a small machine would slow down the other processes as well.
      if (tally.isSlow && blockMs > 0) Atomics.wait(clock, 0, 0, blockMs)
      return tally.isSlow && asyncMs > 0 ? pause(asyncMs) : undefined
    })
    tally.unsubscribe = () => subscription.unsubscribe()
    if (waits) await subscription.ready
  },
  unsubscribe: ({ pattern }) => tallies.get(pattern)?.unsubscribe(),
  hurry({ pattern }) {
    const tally = tallies.get(pattern)
    if (tally !== undefined) tally.isSlow = false
  },
  tally: ({ pattern }) => tallies.get(pattern)?.report(),

  publish: ({ topic, value }) => node().publish(topic, value),

  /** Publishes 1, 2, 3 and so on, one at a time, until `stopFlow`. */
  flow({ topic, everyMs }) {
    let sent = 0
    let more = true
    const flowing = (async () => {
      while (more) {
        await node().publish(topic, ++sent)
        await pause(everyMs)
      }
    })()
    flows.set(topic, async () => {
      more = false
      await flowing
      return sent
    })
  },
  /** How many there were. */
  stopFlow: ({ topic }) => flows.get(topic)?.(),

  /**
   * Messages of `bytes` with their number in front, in a tight loop; with `sliceMs`, a slice at a time; with
   * `topicEach`, each slice to a topic of its own.
   */
  async publishMany({
    topic,
    count,
    bytes = 100,
    slice = count,
    sliceMs = 0,
    topicEach = false,
    warmUp = 0,
  }) {
    for (let i = 0; i < warmUp; i++) await node().publish('warm.up', new Uint8Array(bytes))
    await node().drain()
    const baseBytes = process.memoryUsage.rss()
    let mostBytes = baseBytes
    let tickAt = performance.now()
    const waitedBefore = waitedMs()
    let waited = waitedBefore
    /** @type {number[]} */
    const lateMs = []
    /** @type {number[]} */
    const lateOwnMs = []
    const tick = () => {
      const at = performance.now()
      const waitedNow = waitedMs()
      lateMs.push(at - tickAt - 10)
      lateOwnMs.push(at - tickAt - 10 - (waitedNow - waited))
      tickAt = at
      waited = waitedNow
      mostBytes = Math.max(mostBytes, process.memoryUsage.rss())
    }
    const ticking = setInterval(tick, 10)
    const startedAt = performance.now()
    for (let number = 1; number <= count; number++) {
      const value = new Uint8Array(bytes)
      new DataView(value.buffer).setUint32(0, number)
      await node().publish(topicEach ? `${topic}.${Math.ceil(number / slice)}` : topic, value)
      if (number % slice !== 0 || sliceMs === 0) continue
      note({ note: 'slice' })
      await pause(Math.max(0, startedAt + (number / slice) * sliceMs - performance.now()))
    }
    const durationMs = performance.now() - startedAt
    clearInterval(ticking)
    // Had no tick ever come, this one would be as late as the run was long.
    tick()
    const lateSumMs = lateOwnMs.reduce((sum, late) => sum + Math.max(0, late), 0)
    const offCoreMs = waitedMs() - waitedBefore
    return {
      durationMs,
      offCoreMs,
      grownBytes: mostBytes - baseBytes,
      ticks: 1 - lateSumMs / durationMs,
      lateP99Ms: p99(lateMs),
      lateOwnP99Ms: p99(lateOwnMs),
    }
  },

  /** Answers with its own name; a query of 'hang' is never answered, and the parent is told that it runs. */
  async respond({ name }) {
    const responder = node().respond(
      name,
      async (query) => {
        if (query !== 'hang') return node().name
        note({ note: 'hanging' })
        await new Promise(() => {})
      },
      { concurrency: 100 },
    )
    await responder.ready
  },
  async request({ name, query, ...options }) {
    try {
      return { value: await node().request(name, query, options), at: now() }
    } catch (error) {
      const { code, mayHaveRun, message } = /** @type {import('skein').SkeinError} */ (error)
      return { code, mayHaveRun, message, at: now() }
    }
  },
  /** A request that stays under way; `outcome` waits for its end. */
  ask({ as, ...rest }) {
    asked.set(as, Promise.resolve(commands.request?.(rest)))
  },
  outcome: ({ as }) => asked.get(as),

  /** Holds up the event loop; from then on every state of a peer that shows is kept for `statesSeen`. */
  block({ ms }) {
    const startedAt = now()
    statesSeen = new Set()
    note({ note: 'blocking' })
    // Overdue at the end, right behind the tick on which liveness judges and before anything that came is read.
    setTimeout(look, 1500)
    spin(ms)
    const until = performance.now() + 4000
    const again = () => {
      look()
      if (performance.now() < until) setTimeout(again, 1)
    }
    setImmediate(again)
    look()
    return { startedAt, endedAt: now() }
  },
  statesSeen: () => [...statesSeen],
}

/** @param {{ ask: number, command: string, argument: unknown }} message */
const answer = async ({ ask, command, argument }) => {
  try {
    const run = commands[command]
    if (run === undefined) throw new Error(`'${command}' is no command`)
    note({ ask, result: await run(argument) })
  } catch (error) {
    note({ ask, failed: error instanceof Error ? error.message : String(error) })
  }
}

process.on('message', (message) => void answer(/** @type {any} */ (message)))

// The parent is gone: nobody would end this process.
process.on('disconnect', () => process.exit())
