import { expect, test, vi } from 'vitest'
import type { Gap, Node } from '../src/index.ts'
import { type Happening, SimulatedNetwork, type SimulatedNetworkOptions } from '../src/testing.ts'
import { errorOf } from './support/mesh.ts'

/** Nodes on hosts of their own that all see each other. */
const mesh = async (network: SimulatedNetwork, count: number): Promise<Node[]> => {
  const names = Array.from({ length: count }, (_, index) => `n${index}`)
  const nodes = await Promise.all(names.map((name) => network.createNode({ name })))
  await network.run(Promise.all(nodes.map((node) => node.waitForPeers(count - 1))))
  return nodes
}

/** Publishes so many while the network does its worst; answers what a subscriber received and what it was told it missed. */
const stormOf = async (options: SimulatedNetworkOptions, messages: number) => {
  const history: Happening[] = []
  const network = new SimulatedNetwork({ ...options, trace: (happening) => void history.push(happening) })
  const [publisher, subscriber] = await mesh(network, 3)
  const received: number[] = []
  const gaps: Gap[] = []
  subscriber!.on('gap', (gap) => gaps.push(gap))
  await network.run(subscriber!.subscribe('count', (value: number) => void received.push(value)).ready)
  network.change({ drop: 0.02, reset: 0.005, reorder: 0.05 })
  for (let number = 0; number < messages; number++) {
    await network.run(publisher!.publish('count', number))
    await network.advance(5)
  }
  network.change({ drop: 0, reset: 0, reorder: 0 })
  await network.advance(90_000)
  await network.close()
  return { received, missed: gaps.reduce((sum, { count = 0 }) => sum + count, 0), gaps, history, network }
}

test('testing - the same seed gives the same history, and another seed another one', async () => {
  const [once, again, other] = await Promise.all([7, 7, 8].map((seed) => stormOf({ seed }, 100)))
  expect(once!.history.length).toBeGreaterThan(100)
  expect(once!.history).toEqual(again!.history)
  expect(once!.received).toEqual(again!.received)
  expect(other!.history).not.toEqual(once!.history)
})

test.each([1, 2, 3, 4])(
  'testing - under loss, resets and reordering (seed %i), each message is received or counted as missed, in order (G4, G5)',
  async (seed) => {
    const { received, missed, gaps } = await stormOf({ seed, latencyMs: [0.1, 5] }, 400)
    expect(received).toEqual([...received].sort((a, b) => a - b))
    expect(gaps.filter(({ count }) => count === undefined)).toEqual([])
    expect(received.length + missed).toBe(400)
    expect(missed).toBeGreaterThan(0)
  },
)

test('testing - a partition of an hour ends, and the mesh is one again without a restart', async () => {
  const network = new SimulatedNetwork({ seed: 3 })
  const nodes = await mesh(network, 5)
  const hosts = nodes.map((node) => network.hostOf(node))
  network.partition(hosts.slice(0, 2), hosts.slice(2))
  await network.advance(3_600_000)
  expect(nodes.map((node) => node.stats().peers)).toEqual([1, 1, 2, 2, 2])
  network.heal()
  await network.run(Promise.all(nodes.map((node) => node.waitForPeers(4, { timeoutMs: 60_000 }))))
  await network.close()
})

test('testing - one seed and gossip mesh all, where nothing is multicast', async () => {
  const network = new SimulatedNetwork({ seed: 5 })
  network.names.set('first.local', ['10.9.9.9'])
  const mdns = false
  const first = await network.createNode({ host: network.host('10.9.9.9'), port: 7400, discovery: { mdns } })
  const seeds = ['first.local:7400']
  const others = await Promise.all(
    Array.from({ length: 19 }, () => network.createNode({ discovery: { mdns, seeds } })),
  )
  await network.run(Promise.all([first, ...others].map((node) => node.waitForPeers(19))))
  expect(network.clock.now()).toBeLessThan(5000)
  await network.close()
})

test('testing - what a node sends to join and to stay grows no faster than the mesh', async () => {
  const costOf = async (count: number): Promise<{ join: number; minute: number; newcomer: number }> => {
    const network = new SimulatedNetwork({ seed: 9 })
    await mesh(network, count)
    const join = network.stats().batches / count
    await network.advance(10_000)
    const settled = network.stats().batches
    await network.advance(60_000)
    const rested = network.stats().batches
    const newcomer = await network.createNode()
    await network.run(newcomer.waitForPeers(count))
    const come = network.stats().batches
    await network.close()
    return { join, minute: (rested - settled) / count, newcomer: come - rested }
  }
  const [small, large] = [await costOf(20), await costOf(80)]
  for (const cost of ['join', 'minute', 'newcomer'] as const)
    expect(large[cost], cost).toBeLessThan(5 * small[cost])
})

test('testing - a wait for what never happens ends, and says so (G7)', async () => {
  const network = new SimulatedNetwork()
  const node = await network.createNode()
  const error = await errorOf(() => network.run(node.waitForPeers(1, { timeoutMs: 1e9 }), { limitMs: 5000 }))
  expect(error).toMatchObject({ code: 'WAIT_TIMEOUT' })
  expect(network.clock.now()).toBeGreaterThanOrEqual(5000)
  await network.close()
})

/** What the process is warned of meanwhile; real timers run only when they are told to. */
const warnedOf = async (body: (passMs: (ms: number) => void) => Promise<void>): Promise<string[]> => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    await body((ms) => void vi.advanceTimersByTime(ms))
    return warned.mock.calls.map(([text]) => String(text))
  } finally {
    vi.useRealTimers()
    warned.mockRestore()
  }
}

const forgetful: [string, (node: Node) => Promise<unknown>][] = [
  ['request', (node) => node.request('price.get', 'a1')],
  ['ready', (node) => node.subscribe('t', () => {}).ready],
  ['waitForPeers', (node) => node.waitForPeers(5)],
  ['waitForSubscribers', (node) => node.waitForSubscribers('other')],
]

test.each(forgetful)(
  'testing - %s that is awaited without run hangs, and after two seconds a warning says what to do (G7)',
  async (_, call) => {
    const network = new SimulatedNetwork({ seed: 2 })
    const [node, other] = await mesh(network, 2)
    other!.respond('price.get', () => 42)
    await network.run(other!.subscribe('t', () => {}).ready)
    await network.advance(1000)
    const warnings = await warnedOf(async (passMs) => {
      const forgotten = call(node!).catch(() => {})
      await new Promise((resolve) => setImmediate(resolve))
      passMs(1900)
      expect(process.emitWarning).not.toHaveBeenCalled()
      passMs(200)
      passMs(60_000)
      await network.run(forgotten)
    })
    expect(warnings).toEqual([expect.stringMatching(/time has stood still .*network\.run/)])
    await network.close()
  },
)

test('testing - a program that awaits as it should, and then does something else, is not warned', async () => {
  const network = new SimulatedNetwork({ seed: 2 })
  const warnings = await warnedOf(async (passMs) => {
    const elsewhere = async (): Promise<void> => {
      for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
      passMs(10_000)
    }
    const [node, other] = await mesh(network, 2)
    await elsewhere()
    other!.respond('price.get', () => 42)
    await network.run(other!.subscribe('t', () => {}).ready)
    await elsewhere()
    expect(await network.run(node!.request('price.get', 'a1', { waitMs: 1000 }))).toBe(42)
    await elsewhere()
    await network.run(node!.publish('t', 1))
    await network.advance(60_000)
    await elsewhere()
    network.partition(network.hostOf(node!))
    await network.advance(60_000)
    await elsewhere()
    await network.clock.advance(1000)
    await elsewhere()
    await network.close()
    await elsewhere()
  })
  expect(warnings).toEqual([])
})

test('testing - nodes of one host share its addresses, and a host that moves is found where it is then', async () => {
  const network = new SimulatedNetwork({ seed: 4 })
  const host = network.host('10.1.0.1')
  const [a, b] = await Promise.all([
    network.createNode({ host, name: 'a' }),
    network.createNode({ host, name: 'b' }),
  ])
  const c = await network.createNode({ name: 'c' })
  await network.run(Promise.all([a, b, c].map((node) => node!.waitForPeers(2))))
  host.move('10.2.0.7')
  await network.advance(60_000)
  expect(c!.peers.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(['a up', 'b up'])
  expect(c!.peers.every(({ endpoints }) => endpoints[0]!.startsWith('tcp://10.2.0.7:'))).toBe(true)
  await network.close()
})

test('testing - a node that is closed tells of nobody any more, though a connection had just broken', async () => {
  const network = new SimulatedNetwork({ seed: 5 })
  const [node] = await mesh(network, 2)
  const told: string[] = []
  node!.on('peer-down', ({ reason = '' }) => told.push(reason))
  network.reset()
  network.partition(network.hostOf(node!))
  await network.advance(20)
  await network.run(node!.close())
  expect(told).toEqual([])
  await network.advance(2000)
  expect(told).toEqual([])
  await network.close()
})
