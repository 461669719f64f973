import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Reject, type SkeinError } from '../../src/index.ts'
import { SimulatedNetwork } from '../../src/testing.ts'
import { errorOf, start } from '../support/mesh.ts'

test('dedupeId - a send that was refused leaves its id to the next one', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const node = await network.createNode({ limits: { quotaBytes: 10 } })
  const big = new Uint8Array(20)
  await node.push('jobs', big)
  const codes = await Promise.all(
    [1, 2].map(() =>
      node.push('jobs', big, { dedupeId: 'one' }).then(
        () => 'sent',
        ({ code }: SkeinError) => code,
      ),
    ),
  )
  expect(codes).toEqual(['OUTBOX_FULL', 'OUTBOX_FULL'])
  node.pull('jobs', () => {})
  await network.run(node.drain())
  const again = await Promise.all([1, 2].map(() => node.push('jobs', big, { dedupeId: 'one' })))
  expect(new Set(again.map(({ id }) => id)).size).toBe(1)
  expect((await network.run(again[0]!.settled))[0]!.outcome).toBe('handled')
  await network.run(node.close())
})

test('dedupeId - a second send resolves only when the first is on the disk (G1)', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'skein-'))
  try {
    const node = await start({ dataDir })
    let isOnDisk = false
    const first = node.push('jobs', 1, { dedupeId: 'one' }).then((receipt) => {
      isOnDisk = true
      return receipt.id
    })
    const { id } = await node.push('jobs', 1, { dedupeId: 'one' })
    expect(isOnDisk).toBe(true)
    expect(await first).toBe(id)
    await node.close()
  } finally {
    rmSync(dataDir, { recursive: true })
  }
})

test('dedupeId - two that are sent while nothing more fits to the disk are one', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const node = await network.createNode()
  const got: unknown[] = []
  node.pull('jobs', (value) => got.push(value))
  const fill = Array.from({ length: 5 }, () =>
    node.push('jobs', new Uint8Array(15 * 1024 * 1024), { lend: true }),
  )
  const sends = [1, 2].map(() => node.push('jobs', 'x'.repeat(10 * 1024 * 1024), { dedupeId: 'one' }))
  const ids = await network.run(Promise.all(sends))
  await network.run(Promise.all([...(await Promise.all(fill)), ...ids].map(({ settled }) => settled)))
  expect(got.filter((each) => typeof each === 'string').length).toBe(1)
  expect(ids[0]!.id).toBe(ids[1]!.id)
  await network.run(node.close())
})

test('dedupeId - it holds until the last addressee has handled the message, and 5 min after', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const node = await network.createNode()
  const got: string[] = []
  node.subscribe('order.*', () => void got.push('first'), { group: 'first' })
  await network.advance(1)
  const options = { delivery: 'at-least-once', dedupeId: 'one', owedTo: ['second'] } as const
  await node.publish('order.created', 1, options)
  await network.advance(600_000)
  expect(got).toEqual(['first'])
  await node.publish('order.created', 1, options)
  await network.advance(1000)
  expect(got).toEqual(['first'])
  node.subscribe('order.*', () => void got.push('second'), { group: 'second' })
  await network.advance(1)
  await network.advance(299_000)
  await node.publish('order.created', 1, options)
  await network.advance(2000)
  expect(got).toEqual(['first', 'second'])
  await node.publish('order.created', 1, options)
  await network.advance(1000)
  expect(got.sort()).toEqual(['first', 'first', 'second', 'second'])
  await network.run(node.close())
})

test('dead letters - one that is retried twice at once is owed once', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const node = await network.createNode()
  let runs = 0
  node.pull('jobs', () => {
    if (++runs === 1) throw new Reject('not today')
  })
  const receipt = await node.push('jobs', 1)
  await network.run(receipt.settled)
  const [letter] = await node.deadLetters.list()
  const [first, second] = [node.deadLetters.retry(letter!.id), node.deadLetters.retry(letter!.id)]
  const refused = errorOf(() => second)
  await network.run((await network.run(first)).settled)
  expect((await refused).code).toBe('DEAD_LETTER_UNKNOWN')
  await network.advance(1000)
  expect(runs).toBe(2)
  expect(await node.deadLetters.list()).toEqual([])
  await network.run(node.close())
})
