import { expect, test } from 'vitest'
import { type MemoryHost, SimulatedNetwork } from '../../src/testing.ts'
import { threeFreePorts } from '../support/ports.ts'
import { type Member, pause, until } from '../support/processes.ts'
import { TcpProxy } from '../support/proxy.ts'
import { callsOf, doneBy, meshName, play, range } from './player.ts'

const COUNT = 4000

/** A worker that its sender reaches, and that reaches its sender, only through wires that can be cut. */
const behindProxies = async (work: (sender: Member, worker: Member, wires: TcpProxy[]) => Promise<void>) => {
  const mesh = meshName()
  const wires: TcpProxy[] = []
  const wired = async (): Promise<{ port: number; advertise: string }> => {
    const port = await threeFreePorts(['127.0.0.1', '127.0.0.2'])
    for (const targetPort of [port, port + 1, port + 2])
      wires.push(await TcpProxy.listen({ host: '127.0.0.2', port: targetPort, targetPort }))
    return { port, advertise: '127.0.0.2' }
  }
  try {
    const worker = await play({ mesh, ...(await wired()) })
    await worker.ask('pull', { queue: 'jobs', handlerMs: 0 })
    const sender = await play({ mesh, ...(await wired()) })
    await sender.ask('waitForPeers', { count: 1 })
    await work(sender, worker, wires)
  } finally {
    await Promise.all(wires.map((wire) => wire.close()))
  }
}

const handled = (worker: Member, count: number) =>
  until(
    () => doneBy(worker),
    (done) => new Set(done).size === count,
    20_000,
  )

test('networks - live connections are reset under load: each message is handled once, without a failed attempt, and what comes for the first time in order (G2, G4, G9)', async () => {
  await behindProxies(async (sender, worker, wires) => {
    const pushed = (async () => {
      for (let from = 0; from < COUNT; from += 100) {
        await sender.ask('push', { queue: 'jobs', from, count: 100 })
        await pause(10)
      }
    })()
    let cut = 0
    while ((await doneBy(worker)).length < COUNT * 0.8) {
      await pause(120)
      for (const wire of wires) cut += wire.reset()
    }
    await pushed
    await handled(worker, COUNT)
    const calls = await callsOf(worker)
    console.info(`${COUNT} messages, ${cut} connections cut, ${calls.length} calls`)
    expect(cut).toBeGreaterThan(3)
    expect(calls.map(({ n }) => n).toSorted((a, b) => a - b)).toEqual(range(0, COUNT))
    // One that was handed back, because there was no room, comes later and is flagged.
    const first = calls.filter(({ redelivered }) => !redelivered).map(({ n }) => n)
    expect(first).toEqual(first.toSorted((a, b) => a - b))
    expect(first.length).toBeGreaterThan(COUNT / 2)
    expect(calls.every(({ attempt }) => attempt === 1)).toBe(true)
    await until(
      () => sender.ask<Record<string, string>>('outcomes'),
      (outcomes) => Object.keys(outcomes).length === COUNT,
      10_000,
    )
  })
}, 60_000)

test('networks - the wire is silent for longer than a lost connection is waited for, and speaks again: nothing is lost, and nothing runs twice in the worker (G2, G9)', async () => {
  await behindProxies(async (sender, worker, wires) => {
    const pushed = sender.ask('push', { queue: 'jobs', count: COUNT })
    await worker.noted('called', 50)
    for (const wire of wires) wire.pause()
    await pushed
    await pause(4000)
    for (const wire of wires) wire.resume()
    await handled(worker, COUNT)
    const done = await doneBy(worker)
    expect(done).toHaveLength(COUNT)
  })
}, 60_000)

/** Two workers and a sender, and whatever befalls them; answers how often each number was handled, and in which order. */
const storm = async (seed: number, faults: (network: SimulatedNetwork, hosts: MemoryHost[]) => void) => {
  const network = new SimulatedNetwork({ seed, latencyMs: [0.1, 5] })
  const sender = await network.createNode({ name: 'sender' })
  const workers = await Promise.all(['one', 'other'].map((name) => network.createNode({ name })))
  const calls: { n: number; by: string; redelivered: boolean }[] = []
  for (const worker of workers)
    worker.pull<number>(
      'jobs',
      async (n, { redelivered }) => {
        calls.push({ n, by: worker.name, redelivered })
        await new Promise<void>((resolve) => network.clock.after(3, resolve))
      },
      { concurrency: 4, leaseMs: 5000 },
    )
  await network.run(sender.waitForPeers(2))
  const outcomes: (string | undefined)[] = []
  for (let n = 0; n < 300; n++) {
    const receipt = await network.run(sender.push('jobs', n))
    void receipt.settled.then(([end]) => {
      outcomes[n] = end?.outcome
    })
    if (n === 100)
      faults(
        network,
        [sender, ...workers].map((node) => network.hostOf(node)),
      )
    await network.advance(4)
  }
  await network.advance(120_000)
  await network.close()
  return { calls, outcomes }
}

const judgeStorm = ({ calls, outcomes }: Awaited<ReturnType<typeof storm>>): void => {
  expect(
    range(0, 300)
      .filter((n) => outcomes[n] !== 'handled')
      .map((n) => `${n} ${outcomes[n]}`),
  ).toEqual([])
  for (const n of range(0, 300)) {
    const of = calls.filter((call) => call.n === n)
    expect(of.length).toBeGreaterThan(0)
    expect(of.filter(({ redelivered }) => !redelivered).length).toBeLessThanOrEqual(1)
    expect(new Set(of.map(({ by }) => by)).size).toBe(of.length)
  }
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'networks - loss, reordering and resets (seed %i): each message is handled, each repeat is flagged and runs elsewhere (G2, G9)',
  async (seed) => {
    judgeStorm(
      await storm(seed, (network) => {
        network.change({ drop: 0.03, reset: 0.01, reorder: 0.05 })
        network.clock.after(600, () => network.change({ drop: 0, reset: 0, reorder: 0 }))
      }),
    )
  },
)

test.each([
  ['a worker is not heard', 1, 0, 3000],
  ['a worker is not heard, beyond its lease', 1, 0, 8000],
  ['a worker hears nothing', 0, 1, 3000],
  ['a worker hears nothing, until it is given up', 0, 1, 40_000],
  ['a worker is not heard, until it is given up', 1, 0, 40_000],
])(
  'networks - one way only: %s; each message is handled, each repeat is flagged and runs elsewhere (G2, G9)',
  async (_, from, to, forMs) => {
    for (const seed of [1, 2, 3]) {
      judgeStorm(
        await storm(seed, (network, hosts) => {
          network.partition(hosts[from]!, hosts[to]!, { oneWay: true })
          network.clock.after(forMs, () => network.heal())
        }),
      )
    }
  },
)
