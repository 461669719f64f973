import { queryObjects } from 'node:v8'
import { expect, test } from 'vitest'
import { Backlog } from '../../src/delivery/backlog.ts'
import { SimulatedNetwork } from '../../src/testing.ts'

const backlogs = (): number => queryObjects(Backlog, { format: 'count' })

test('queues - one for every job leaves nothing behind when it is handled, and is there again when it is named again (G6)', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const sender = await network.createNode()
  const worker = await network.createNode()
  const handled: unknown[] = []
  const use = async (name: string): Promise<void> => {
    const receipt = sender.push(name, name)
    const subscription = worker.pull(name, (value) => void handled.push(value))
    await network.run((await network.run(receipt)).settled)
    await network.run(subscription.unsubscribe())
  }
  const names = Array.from({ length: 50 }, (_, at) => `jobs-${at}`)
  for (const name of names) await use(name)
  await network.run(sender.push('waits', 'waits'))
  expect(backlogs()).toBeGreaterThan(50)
  await network.advance(61_000)
  expect(backlogs()).toBe(1)
  for (const name of [...names.slice(0, 3), 'waits']) await use(name)
  expect(handled).toEqual([...names, ...names.slice(0, 3), 'waits', 'waits'])
  expect(sender.stats().owed).toBe(0)
  await network.close()
})
