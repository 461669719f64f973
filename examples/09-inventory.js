// Stock of many articles, changed by several workers at once and yet in order: what has the same key is handled one at
// a time and as it was sent, what has another does not wait for it.
//   node examples/09-inventory.js warehouse
//   node examples/09-inventory.js warehouse
//   node examples/09-inventory.js shop
import { setTimeout as sleep } from 'node:timers/promises'
import { createNode } from 'skein'

const [role = 'warehouse'] = process.argv.slice(2)
const node = await createNode({ name: `${role}-${process.pid}`, mesh: 'inventory' })
process.once('SIGINT', () => void node.close())

const ARTICLES = ['apples', 'pears', 'plums']
const CHANGES = 10

if (role === 'shop') {
  /** @type {Map<string, number[]>} */
  const done = new Map(ARTICLES.map((sku) => [sku, []]))
  // The warehouses report what they did; a plain subscription is owed it as long as this program lives.
  await node.subscribe('stock.changed', (value) => {
    const { sku, step } = /** @type {{ sku: string, step: number }} */ (value)
    done.get(sku)?.push(step)
  }).ready
  const receipts = []
  for (let step = 1; step <= CHANGES; step++)
    for (const sku of ARTICLES) receipts.push(await node.push('stock', { sku, step }, { key: sku }))
  await Promise.all(receipts.map((receipt) => receipt.settled))
  for (const [sku, steps] of done) {
    const isInOrder = steps.every((step, index) => step === index + 1)
    console.log(
      `${sku}: ${steps.length} changes, ${isInOrder ? 'in order' : `not in order: ${steps.join(' ')}`}`,
    )
  }
  await node.close()
} else {
  let changes = 0
  node.pull(
    'stock',
    async (value) => {
      await sleep(Math.random() * 20)
      const receipt = await node.publish('stock.changed', value, { delivery: 'at-least-once' })
      // The change is made when whoever asked for it has heard of it.
      await receipt.settled
      changes++
    },
    { concurrency: 4 },
  )
  node.on('peer-down', ({ name }) => name.startsWith('shop') && console.log(`${changes} changes made here`))
  console.log('at work')
}
