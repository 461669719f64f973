// Two services; start them in any order, and more than one "prices" if you like.
//   node examples/02-request-respond.js prices
//   node examples/02-request-respond.js shop a1 b2 nothing
import { createNode, SkeinError } from 'skein'

const [role = 'prices', ...skus] = process.argv.slice(2)
const node = await createNode({ name: role })
process.once('SIGINT', () => void node.close())

const prices = new Map([
  ['a1', 19.9],
  ['b2', 4.5],
])

if (role === 'prices') {
  node.respond('price.get', (query) => {
    const { sku } = /** @type {{ sku: string }} */ (query)
    const price = prices.get(sku)
    if (price === undefined)
      throw Object.assign(new Error(`nothing is called "${sku}"`), { code: 'UNKNOWN_SKU' })
    return { sku, price }
  })
  console.log('answering price.get')
} else {
  for (const sku of skus.length > 0 ? skus : ['a1']) {
    try {
      // waitMs: the other service may still be starting.
      console.log(await node.request('price.get', { sku }, { timeoutMs: 2000, waitMs: 5000 }))
    } catch (error) {
      if (!(error instanceof SkeinError)) throw error
      console.log(`no price for ${sku}: ${error.remoteCode ?? error.code}`)
    }
  }
  await node.close()
}
