// A process with one node that does as its parent says through IPC: see test/faults/player.ts. What it sends carries a
// number, and says how it is to be handled.
import { createNode, Reject } from 'skein'

/** @typedef {{ n: number, by?: 'failing' | 'dying' | 'rejecting' | 'blocking', ms?: number }} Value */

/** @type {import('skein').Node | undefined} */
let current
/** @type {{ n: number, to: string, id: string, attempt: number, redelivered: boolean, at: number, doneAt: number }[]} */
let calls = []
/** @type {{ code: string, text: string }[]} */
const warnings = []
/** @type {Map<number, string>} */
const outcomes = new Map()
/** @type {Map<number, number>} */
const settledAt = new Map()
/** @type {Map<number, number>} */
const sentAt = new Map()
/** @type {Map<string, import('skein').Subscription>} */
const subscriptions = new Map()
/** @type {import('skein').Gap[]} */
const gaps = []
let isHolding = false
let isFixed = false
/** @type {(() => void)[]} */
const held = []

const node = () => {
  if (current === undefined) throw new Error('the node of this process is not started')
  return current
}

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const now = () => Number(process.hrtime.bigint()) / 1e6

/**
 * @param {string} to
 * @param {number} handlerMs
 */
const handler =
  (to, handlerMs) =>
  async (/** @type {Value} */ { n, by, ms = 0 }, /** @type {import('skein').Message} */ message) => {
    const { id, attempt, redelivered } = message
    const call = { n, to, id, attempt, redelivered, at: now(), doneAt: 0 }
    calls.push(call)
    process.send?.({ note: 'called' })
    if (isHolding) await new Promise((resolve) => held.push(() => resolve(undefined)))
    if (by === 'failing' && !isFixed) throw new Error(`cannot do ${n}`)
    if (by === 'rejecting' && !isFixed) throw new Reject(`never ${n}`)
    if (by === 'dying' && !isFixed) process.kill(process.pid, 'SIGKILL')
    if (by === 'blocking') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
    else if (handlerMs > 0) await pause(handlerMs)
    call.doneAt = now()
  }

/**
 * @param {number} n
 * @param {Promise<import('skein').Receipt>} sending
 */
const follow = async (n, sending) => {
  sentAt.set(n, now())
  try {
    const receipt = await sending
    void receipt.settled.then((all) => {
      settledAt.set(n, now())
      outcomes.set(n, all.map(({ outcome }) => outcome).join())
    })
    return { n, id: receipt.id, to: receipt.addressees }
  } catch (error) {
    const { code, message, mayHaveRun } = /** @type {import('skein').SkeinError} */ (error)
    return { n, code, message, mayHaveRun }
  }
}

/** @type {Record<string, (argument: any) => unknown>} */
const commands = {
  async start({ wallByMs = 0, ...options }) {
    if (wallByMs !== 0) commands.setWall?.({ byMs: wallByMs })
    current = await createNode(options)
    current.on('warning', ({ code, message }) => warnings.push({ code, text: message }))
    current.on('gap', (gap) => gaps.push(gap))
    return { id: current.id, name: current.name, boot: current.boot }
  },
  close: () => node().close(),
  drain: () => node().drain(),
  peers: () => node().peers,
  waitForPeers: ({ count, timeoutMs }) => node().waitForPeers(count, { timeoutMs }),

  pull: ({ queue, handlerMs = 0, ...options }) =>
    void subscriptions.set(queue, node().pull(queue, handler(`queue ${queue}`, handlerMs), options)),
  async subscribe({ pattern, handlerMs = 0, ...options }) {
    const to = options.group === undefined ? 'node' : `group ${options.group}`
    const subscription = node().subscribe(pattern, handler(to, handlerMs), options)
    subscriptions.set(pattern, subscription)
    await subscription.ready
  },
  unsubscribe: ({ pattern, ...options }) => subscriptions.get(pattern)?.unsubscribe(options),

  /** So many from `from` on, all at the same time; answers what became of each call. */
  push: ({ queue, from = 0, count = 1, value = {}, options = {}, fillBytes = 0 }) =>
    Promise.all(
      Array.from({ length: count }, (_, at) => {
        const n = from + at
        const fill = fillBytes > 0 ? { fill: 'x'.repeat(fillBytes) } : {}
        return follow(n, node().push(queue, { n, ...fill, ...value }, options))
      }),
    ),
  publish: ({ topic, from = 0, count = 1, value = {}, options = {}, fillBytes = 0 }) =>
    Promise.all(
      Array.from({ length: count }, (_, at) => {
        const n = from + at
        const fill = fillBytes > 0 ? { fill: 'x'.repeat(fillBytes) } : {}
        const given = { n, ...fill, ...value }
        return follow(n, node().publish(topic, given, { delivery: 'at-least-once', ...options }))
      }),
    ),
  request: ({ name, value }) => node().request(name, value, { timeoutMs: 5000 }),
  respond: ({ name }) => void node().respond(name, (value) => value),

  hold: () => {
    isHolding = true
  },
  /** Handlers go on, and the next ones do not stop. */
  release() {
    isHolding = false
    for (const go of held.splice(0)) go()
  },
  fix: () => {
    isFixed = true
  },
  /** The clock on the wall is set, by somebody else. */
  setWall({ byMs }) {
    const real = Date.now
    Date.now = () => real() + byMs
  },
  calls: () => calls,
  forgetCalls: () => {
    calls = []
  },
  outcomes: () => Object.fromEntries(outcomes),
  /** How long each took from its send until it was settled, by its number. */
  latencies: () => Object.fromEntries([...settledAt].map(([n, at]) => [n, at - (sentAt.get(n) ?? 0)])),
  warnings: () => warnings,
  gaps: () => gaps,
  stats: () => node().stats(),
  deadLetters: () => node().deadLetters.list(),
  retry: async ({ id }) => (await node().deadLetters.retry(id)).id,
}

/** @param {{ ask: number, command: string, argument: object }} message */
const answer = async ({ ask, command, argument }) => {
  try {
    process.send?.({ ask, result: await commands[command]?.(argument) })
  } catch (error) {
    process.send?.({
      ask,
      failed: `${command}: ${/** @type {Error} */ (error).message}`,
      code: /** @type {any} */ (error).code,
    })
  }
}

process.on('message', (/** @type {any} */ message) => void answer(message))
process.on('disconnect', () => process.exit())
