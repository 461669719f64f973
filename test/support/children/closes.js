// Uses a node, closes it, and has nothing else to do: the process must end by itself (G10).
import { createNode } from 'skein'

const node = await createNode({ mesh: 'closes', closeTimeoutMs: 500 })
const other = await createNode({ mesh: 'closes' })
await node.waitForPeers(1)
let got = 0
await other.subscribe('v', () => got++).ready
await other.respond('never', () => new Promise(() => {})).ready
await node.publish('v', 1)
node.request('never', 1, { timeoutMs: 60_000 }).catch((error) => console.log(error.code))
await node.publish('v', Buffer.alloc(400_000))
await node.close()
await other.close()
console.log(`got ${got}`)
