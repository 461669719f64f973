// A test of a service of one's own, with three nodes and a partition: node --test examples/05-test-with-a-partition.js
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimulatedNetwork } from 'skein/testing'

/**
 * The service under test: it answers with what it has heard last, and says how old that is.
 *
 * @param {import('skein').Node} node
 * @param {() => number} now
 */
const serveTemperature = async (node, now) => {
  /** @type {{ c: number, at: number } | undefined} */
  let latest
  const { ready } = node.subscribe('sensors.kitchen', (/** @type {{ c: number }} */ { c }) => {
    latest = { c, at: now() }
  })
  node.respond('temperature.get', () => {
    if (latest === undefined) throw Object.assign(new Error('nothing was heard yet'), { code: 'NO_READING' })
    return { c: latest.c, ageMs: Math.round(now() - latest.at) }
  })
  await ready
}

void test('a service that is cut off from its sensor goes on answering, and says how old its answer is', async () => {
  const network = new SimulatedNetwork({ seed: 7, latencyMs: [1, 20] })
  const [sensor, service, display] = await Promise.all(
    ['sensor', 'service', 'display'].map((name) => network.createNode({ name })),
  )
  await network.run(serveTemperature(service, () => network.clock.now()))
  /** @type {import('skein').Gap[]} */
  const gaps = []
  service.on('gap', (gap) => gaps.push(gap))
  await network.run(sensor.waitForSubscribers('sensors.kitchen'))
  const ask = () => network.run(display.request('temperature.get', null, { waitMs: 1000 }))

  await network.run(sensor.publish('sensors.kitchen', { c: 21 }))
  await network.advance(100)
  assert.equal((await ask()).c, 21)

  network.partition(network.hostOf(sensor), network.hostOf(service))
  await network.advance(60_000) // a minute, in some milliseconds
  await network.run(sensor.publish('sensors.kitchen', { c: 35 }))
  await network.advance(1000)
  const old = await ask()
  assert.equal(old.c, 21)
  assert.ok(old.ageMs > 60_000)

  network.heal()
  await network.run(sensor.waitForSubscribers('sensors.kitchen', { timeoutMs: 60_000 }))
  await network.run(sensor.publish('sensors.kitchen', { c: 36 }))
  await network.advance(100)
  assert.equal((await ask()).c, 36)
  // The reading of the partition was lost, and that was not silent.
  assert.deepEqual(
    gaps.map(({ topic, count }) => [topic, count]),
    [['sensors.kitchen', 1]],
  )
  await network.close()
})
