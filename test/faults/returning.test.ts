import { expect, test } from 'vitest'
import type { Gap } from '../../src/index.ts'
import { SimulatedNetwork } from '../../src/testing.ts'
import { keeping, type Warning } from '../support/mesh.ts'

const ID = 'a'.repeat(32)

test('returning - a node that is back under its id, and dialled by others while it dials them, is taken for nobody else', async () => {
  const warnings: Warning[] = []
  for (let seed = 1; seed <= 40; seed++) {
    const network = new SimulatedNetwork({ seed, latencyMs: [0.1, 30] })
    const logger = keeping(warnings)
    const watchers = await Promise.all([1, 2, 3].map(() => network.createNode({ logger })))
    const before = await network.createNode({ id: ID, logger })
    await network.run(before.waitForPeers(3))
    const host = network.host()
    network.partition(network.hostOf(before))
    const after = await network.createNode({ id: ID, host, logger })
    await network.run(after.waitForPeers(3))
    await network.advance(2000)
    expect(watchers.map((watcher) => watcher.peers.find(({ id }) => id === ID)?.boot)).toEqual(
      watchers.map(() => after.boot),
    )
    await network.close()
  }
  expect(warnings.filter(({ code }) => code === 'NODE_ID_IN_USE')).toEqual([])
}, 30_000)

test('returning - a subscriber that was given up after goneMs, and was there all the time, is told what it was owed (G5)', async () => {
  const network = new SimulatedNetwork({ seed: 5 })
  const [publisher, subscriber] = await Promise.all(
    ['publisher', 'subscriber'].map((name) => network.createNode({ name, goneMs: 30_000 })),
  )
  const received: unknown[] = []
  const gaps: Gap[] = []
  subscriber!.on('gap', (gap) => gaps.push(gap))
  await network.run(subscriber!.subscribe('order.*', (value) => void received.push(value)).ready)
  const send = (topic: string, n: number) =>
    network.run(publisher!.publish(topic, n, { delivery: 'at-least-once' }))
  await network.run((await send('order.created', 0)).settled)
  network.partition(network.hostOf(publisher!), network.hostOf(subscriber!))
  // Found out at last: from then on nothing is handed over, so what is owed is known never to have come.
  await network.advance(20_000)
  const [owed] = [await send('order.created', 1), await send('order.created', 2), await send('order.paid', 3)]
  await network.advance(60_000)
  expect((await owed!.settled)[0]).toMatchObject({ outcome: 'gone' })
  network.heal()
  await network.advance(60_000)
  expect(received).toEqual([0])
  expect(gaps.filter(({ reason }) => reason === 'lost')).toEqual([
    { publisher: publisher!.id, topic: 'order.created', count: 2, reason: 'lost' },
    { publisher: publisher!.id, topic: 'order.paid', count: 1, reason: 'lost' },
  ])
  await network.run((await send('order.paid', 4)).settled)
  expect(received).toEqual([0, 4])
  await network.close()
})
