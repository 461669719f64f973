import { createNode } from 'skein'

const [mesh, count, total] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
const nodes = await Promise.all(
  Array.from({ length: count }, (_, index) => createNode({ mesh, name: `${process.pid}-${index}` })),
)
await Promise.all(nodes.map((node) => node.waitForPeers(total - 1, { timeoutMs: 60_000 })))
process.send?.('meshed')
process.on('message', (ask) => {
  if (ask === 'cpu') process.send?.(process.cpuUsage())
  else void Promise.all(nodes.map((node) => node.close())).then(() => process.disconnect())
})
