// Works off queues and a group, or only watches with a plain subscription, and writes down each call of a handler.
import { createNode } from 'skein'
import { recorder } from './record.js'

/** @type {{ mesh: string, history: string, watches: boolean, handlerMs: number, leaseMs: number, dataDir?: string }} */
const { mesh, history, watches, handlerMs, leaseMs, dataDir } = JSON.parse(process.argv[2] ?? '')

const record = recorder(history, watches ? 'watcher' : 'worker')
const { pid } = process
const node = await createNode({ name: `worker ${pid}`, mesh, ...(dataDir !== undefined && { dataDir }) })
node.on('warning', ({ code, message }) => record({ kind: 'warning', pid, code, message }))

/** @param {string} to */
const handler =
  (to) =>
  async (/** @type {{ n: number }} */ { n }, /** @type {import('skein').Message} */ message) => {
    const { id, attempt, redelivered } = message
    record({ kind: 'got', n, to, pid, id, attempt, redelivered })
    await new Promise((resolve) => setTimeout(resolve, handlerMs))
    record({ kind: 'done', n, to, pid })
  }

if (watches) {
  await node.subscribe('order.*', handler(`node ${node.id}`)).ready
} else {
  const options = { concurrency: 4, leaseMs }
  node.pull('jobs', handler('queue jobs'), options)
  node.pull('keyed', handler('queue keyed'), options)
  node.subscribe('order.*', handler('group bills'), { ...options, group: 'bills' })
}
process.send?.({ id: node.id, boot: node.boot })
