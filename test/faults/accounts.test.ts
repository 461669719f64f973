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
  const node = await start({ limits: { quotaBytes: COUNT * text.length } })
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

test('accounts - what one of several addressees has handled is not counted as owed to it after a restart (G6)', async () => {
  const { journal } = await Journal.open({ durability: 'memory', clock: systemClock, fault: () => {} })
  const fault = (error: unknown): never => {
    throw error
  }
  const ledger = new Ledger(journal, fault)
  const envelope = {
    ...{ boot: 'b'.repeat(32), acceptedAt: 0, topic: 'a', key: undefined, dedupeId: undefined },
    ...{ notBefore: undefined, expiresAt: undefined, retryOf: undefined },
    addressees: ['one', 'other'].map((name) => ({ kind: 'group' as const, name })),
  }
  const sequences = [1000, 10].map((size) => ledger.accept(envelope, payloadOf(Buffer.alloc(size))).sequence)
  await ledger.settle([{ sequence: sequences[0]!, index: 0 }])
  const { owed } = await new Ledger(journal, fault).recover()
  expect(
    [...owed.values()].map(({ addressee, sequences, bytes }) => [addressee.name, sequences, bytes]),
  ).toEqual([
    ['one', sequences.slice(1), 10],
    ['other', sequences, 1010],
  ])
  await journal.close()
})

test('accounts - that one of several addressees has handled a message counts as recorded when it is, and not before (G9)', async () => {
  const durable: (() => void)[] = []
  const settled: ((isRecorded: boolean) => void)[] = []
  let sequence = 0
  const journal = {
    append: () => ({
      sequence: ++sequence,
      durable: new Promise<void>((resolve) => void durable.push(resolve)),
    }),
    settle: () => new Promise<boolean>((resolve) => void settled.push(resolve)),
  } as unknown as Journal
  const ledger = new Ledger(journal, () => {})
  const envelope = {
    ...{ boot: 'b'.repeat(32), acceptedAt: 0, topic: 'a', key: undefined, dedupeId: undefined },
    ...{ notBefore: undefined, expiresAt: undefined, retryOf: undefined },
    addressees: ['one', 'other', 'third'].map((name) => ({ kind: 'group' as const, name })),
  }
  const message = ledger.accept(envelope, payloadOf(1)).sequence
  const recorded: string[] = []
  const settle = (index: number): void =>
    void ledger.settle([{ sequence: message, index }]).then((is) => recorded.push(`${index} ${is}`))
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  settle(0)
  await turn()
  expect([durable.length, recorded]).toEqual([2, []])
  settle(1)
  durable[1]!()
  await turn()
  expect([durable.length, recorded]).toEqual([3, []])
  durable[2]!()
  await turn()
  expect(recorded.toSorted()).toEqual(['0 true', '1 true'])
  settle(2)
  await turn()
  expect(recorded).toHaveLength(2)
  for (const resolve of settled) resolve(true)
  await turn()
  expect(recorded).toHaveLength(3)
  const both = ledger.accept({ ...envelope, addressees: envelope.addressees.slice(1) }, payloadOf(2)).sequence
  const atOnce = ledger.settle([0, 1].map((index) => ({ sequence: both, index })))
  await turn()
  for (const resolve of settled) resolve(true)
  expect(await atOnce).toBe(true)
})
