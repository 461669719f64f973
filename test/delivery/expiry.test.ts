import { expect, test } from 'vitest'
import { SimulatedNetwork } from '../../src/testing.ts'

test('ttlMs - what was not kept in memory, and was loaded later, ends once, whoever has it in hand by then', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const sender = await network.createNode()
  const count = 3000
  const receipts = await network.run(
    Promise.all(Array.from({ length: count }, (_, n) => sender.push('jobs', n, { ttlMs: 10_000 }))),
  )
  let finish = (): void => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const worker = await network.createNode()
  const begun: number[] = []
  const work = (n: number): Promise<void> => {
    begun.push(n)
    return finished
  }
  worker.pull<number>('jobs', work, { concurrency: count })
  await network.advance(5000)
  expect(begun).toHaveLength(count)
  await network.advance(6000)
  const ends = (await network.run(Promise.all(receipts.map(({ settled }) => settled)))).flat()
  expect(new Set(ends.map(({ outcome }) => outcome))).toEqual(new Set(['expired']))
  finish()
  await network.advance(1000)
  expect(sender.stats().owed).toBe(0)
  const [last] = await network.run((await sender.push('jobs', -1)).settled)
  expect(last).toMatchObject({ outcome: 'handled' })
  expect(sender.stats().owed).toBe(0)
  expect(new Set(begun).size).toBe(begun.length)
  await network.close()
})
