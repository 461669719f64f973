import { expect, test } from 'vitest'
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
