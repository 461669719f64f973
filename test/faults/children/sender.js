// Sends to a queue, to keys of a queue, and to a group and whoever subscribes, as fast as it is told to, until it is
// killed; or, with nothing left to send, hands over what is owed. Its parent learns each number that was attempted.
import { createNode } from 'skein'
import { recorder } from './record.js'

/**
 * @type {{
 *   mesh: string, dataDir: string, history: string, from: number, perSecond: number, sends: boolean,
 *   fillBytes?: number, durability?: 'disk' | 'os', options?: import('skein').NodeOptions
 * }}
 */
const {
  mesh,
  dataDir,
  history,
  from,
  perSecond,
  sends,
  fillBytes = 200,
  durability,
  options,
} = JSON.parse(process.argv[2] ?? '')

const AT_ONCE = 20
const KEYS = 8

const record = recorder(history, 'sender')
const node = await createNode({
  ...{ name: `sender ${process.pid}`, mesh, dataDir },
  ...(durability !== undefined && { durability }),
  ...options,
})
node.on('warning', ({ code, message }) => record({ kind: 'warning', pid: process.pid, code, message }))
process.send?.({ id: node.id, boot: node.boot })

/** @param {number} n */
const send = (n) => {
  const value = { n, fill: 'x'.repeat((n * 37) % fillBytes) }
  if (n % 4 === 0)
    return node.publish('order.created', value, { delivery: 'at-least-once', owedTo: ['bills'] })
  if (n % 4 === 1) return node.push('keyed', value, { key: keyOf(n) ?? '' })
  return node.push('jobs', value)
}

/** @param {number} n */
const keyOf = (n) => (n % 4 === 1 ? `key ${(n >> 2) % KEYS}` : undefined)

/** @param {number} n */
const attempt = async (n) => {
  try {
    const receipt = await send(n)
    record({ kind: 'ok', n, to: receipt.addressees.map(({ kind, name }) => `${kind} ${name}`) })
    void receipt.settled.then((outcomes) => {
      for (const { kind, name, outcome } of outcomes)
        if (outcome !== 'handled' && outcome !== 'closed')
          record({ kind: 'ended', n, to: `${kind} ${name}`, outcome })
    })
  } catch (error) {
    const { code, mayHaveRun } = /** @type {import('skein').SkeinError} */ (error)
    record({ kind: 'fail', n, code, isUncertain: mayHaveRun === true || code === 'JOURNAL_UNCERTAIN' })
  }
}

let isStopping = false
const close = async () => {
  const { unsettled } = await node.close()
  process.send?.({ unsettled })
  process.disconnect()
}
process.on('message', (message) => {
  isStopping = true
  if (message === 'close') void close()
})

const begunAt = performance.now()
for (let n = from; sends && !isStopping; n += AT_ONCE) {
  const all = Array.from({ length: AT_ONCE }, (_, at) => n + at)
  record(...all.map((each) => ({ kind: 'send', n: each, key: keyOf(each) })))
  process.send?.({ next: n + AT_ONCE })
  await Promise.all(all.map(attempt))
  const aheadMs = ((n + AT_ONCE - from) / perSecond) * 1000 - (performance.now() - begunAt)
  if (aheadMs > 0) await new Promise((resolve) => setTimeout(resolve, aheadMs))
}
