// Orders are put into a queue, and a pool of workers packs them: start any number of each, in any order.
//   node examples/06-orders.js shop ./data/shop 5
//   node examples/06-orders.js packer
//   node examples/06-orders.js packer
// Kill a packer while it packs, or the shop before all is packed: when it is started again, nothing is missing.
import { setTimeout as sleep } from 'node:timers/promises'
import { createNode, Reject } from 'skein'

const [role = 'packer', dataDir = './data/shop', count = '5'] = process.argv.slice(2)

if (role === 'shop') {
  // What is pushed is on the disk before push() resolves; what an earlier run has left is handed over, too.
  const node = await createNode({ name: 'shop', mesh: 'orders', dataDir })
  process.once('SIGINT', () => void node.close())
  node.on('dead-letter', ({ value, lastError }) => console.log('cannot be packed:', value, lastError))
  const receipts = await Promise.all(
    Array.from({ length: Number(count) }, (_, n) => node.push('orders', { number: n + 1, items: n % 4 })),
  )
  console.log(`${receipts.length} orders taken`)
  const outcomes = (await Promise.all(receipts.map((receipt) => receipt.settled))).flat()
  const packed = outcomes.filter(({ outcome }) => outcome === 'handled').length
  const dead = outcomes.filter(({ outcome }) => outcome === 'dead').length
  console.log(`${packed} packed, ${dead} cannot be`)
  await node.close()
} else {
  const node = await createNode({ name: `packer-${process.pid}`, mesh: 'orders' })
  process.once('SIGINT', () => void node.close())
  node.pull('orders', async (value, { redelivered }) => {
    const { number, items } = /** @type {{ number: number, items: number }} */ (value)
    // To try again would not help: the shop is told at once, and keeps it as a dead letter.
    if (items === 0) throw new Reject(`order ${number} is empty`)
    await sleep(50 * items)
    console.log(`packed order ${number}${redelivered ? ', which somebody may have packed before' : ''}`)
  })
  console.log('packing')
}
