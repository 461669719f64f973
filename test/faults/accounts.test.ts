import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Ledger } from '../../src/delivery/ledger.ts'
import type { Node, Receipt } from '../../src/index.ts'
import { Journal } from '../../src/journal/journal.ts'
import { payloadOf } from '../support/memory-feed.ts'
import { eventually, start } from '../support/mesh.ts'
import { temporary } from './player.ts'

const COUNT = 3000

const pushAll = (node: Node, value: unknown): Promise<Receipt[]> =>
  Promise.all(Array.from({ length: COUNT }, () => node.push('jobs', value)))

const isHandled = async (receipts: readonly Receipt[]): Promise<void> => {
  const ends = (await Promise.all(receipts.map(({ settled }) => settled))).flat()
  expect(ends.every(({ outcome }) => outcome === 'handled')).toBe(true)
}

test('accounts - texts of which most wait in the journal are counted off as they were counted: a quota is free again when all is settled (G6)', async () => {
  const text = 'x'.repeat(1000)
  const node = await start({ limits: { quotaBytes: (COUNT * text.length) / 2 } })
  // All of a round are accepted before the first of them counts.
  for (let round = 0; round < 3; round++) {
    const receipts = await pushAll(node, text)
    const subscription = node.pull('jobs', () => {}, { concurrency: 100 })
    await isHandled(receipts)
    await subscription.unsubscribe()
  }
})

test('accounts - what was found at a start is counted off as it was counted (G6)', async () => {
  const dataDir = temporary('accounts')
  const value = Buffer.alloc(10)
  const before = await start({ dataDir })
  await pushAll(before, value)
  await before.close()
  const node = await start({ dataDir, limits: { quotaBytes: 4 * COUNT * value.length } })
  let handled = 0
  node.pull('jobs', () => void handled++, { concurrency: 100 })
  await eventually(() => handled === COUNT)
  await isHandled(await pushAll(node, value))
})

test('accounts - a message to nobody that a crash kept from being settled is so at the next start (G6)', async () => {
  const { journal } = await Journal.open({ durability: 'memory', clock: systemClock, fault: () => {} })
  const fault = (error: unknown): never => {
    throw error
  }
  const envelope = {
    ...{ boot: 'b'.repeat(32), acceptedAt: 0, topic: 'a', key: undefined, dedupeId: undefined },
    ...{ notBefore: undefined, expiresAt: undefined, retryOf: undefined, addressees: [] },
  }
  await new Ledger(journal, fault).accept(envelope, payloadOf(1)).durable
  expect(journal.stats().liveRecords).toBe(1)
  await new Ledger(journal, fault).recover()
  await eventually(() => journal.stats().liveRecords === 0)
  await journal.close()
})
