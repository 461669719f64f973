import type { Node } from '../index.ts'

/** Which order is like no other: it cannot be packed until somebody has seen to that. */
export const POISON = 77
const PACKING_MS = 5

/** What the demo asks of those who take orders and pack them, and what they answer. */
export interface OrderAsks {
  take: { ask: { first: number; count: number }; answer: { durability: string } }
  owing: { ask: { until: number }; answer: { owed: number; dead: number; lastError: string } }
  retry: { ask: object; answer: { outcome: string } }
  hang: { ask: object; answer: object }
  fix: { ask: object; answer: object }
}

/** What a packer tells without being asked. */
export type OrderTold = { told: 'packing' } | { told: 'packed'; number: number; redelivered: boolean }

type Handlers<K extends keyof OrderAsks> = {
  [Name in K]: (ask: OrderAsks[Name]['ask']) => Promise<OrderAsks[Name]['answer']>
}

const LOOK_MS = 10

/** Takes orders; what it has taken is in its data directory before it says so. */
export const playShop = (node: Node): Handlers<'take' | 'owing' | 'retry'> => ({
  take: async ({ first, count }) => {
    const orders = Array.from({ length: count }, (_, n) => ({ number: first + n }))
    const receipts = await Promise.all(orders.map((order) => node.push('orders', order)))
    return { durability: receipts[0]!.durability }
  },
  owing: async ({ until }) => {
    while (node.stats().owed > until) await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    const letters = await node.deadLetters.list()
    return { owed: node.stats().owed, dead: letters.length, lastError: letters[0]?.lastError ?? '' }
  },
  retry: async () => {
    const [letter] = await node.deadLetters.list()
    if (letter === undefined) return { outcome: 'nothing to retry' }
    const [outcome] = await (await node.deadLetters.retry(letter.id)).settled
    return { outcome: outcome!.outcome }
  },
})

/** Packs orders, one at a time. */
export const playPacker = async (
  node: Node,
  tell: (told: OrderTold) => void,
): Promise<Handlers<'hang' | 'fix'>> => {
  let isHanging = false
  let isFixed = false
  const subscription = node.pull('orders', async (value, { redelivered }) => {
    const { number } = value as { number: number }
    if (isHanging) {
      tell({ told: 'packing' })
      await new Promise(() => {})
    }
    await new Promise((resolve) => setTimeout(resolve, PACKING_MS))
    if (number === POISON && !isFixed) throw new Error(`order ${number} is larger than any box`)
    tell({ told: 'packed', number, redelivered })
  })
  await subscription.ready
  return {
    hang: async () => {
      isHanging = true
      return {}
    },
    fix: async () => {
      isFixed = true
      return {}
    },
  }
}
