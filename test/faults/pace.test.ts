import { expect, test } from 'vitest'
import { SimulatedNetwork } from '../../src/testing.ts'

/** How long a worker takes for so many, and how long it would at best. */
const paced = async (count: number, takesMs: (n: number) => number) => {
  const network = new SimulatedNetwork({ seed: 1, latencyMs: [0.1, 0.3] })
  const sender = await network.createNode({ name: 'sender' })
  const worker = await network.createNode({ name: 'worker' })
  await network.run(sender.waitForPeers(1))
  await network.run(Promise.all(Array.from({ length: count }, (_, n) => sender.push('jobs', n))))
  const beganAt = network.clock.now()
  let bestMs = 0
  let left = count
  let tookMs = 0
  const wait = (ms: number) => new Promise<void>((resolve) => network.clock.after(ms, resolve))
  worker.pull<number>(
    'jobs',
    async (n) => {
      const ms = takesMs(n)
      bestMs += ms / 4
      await wait(ms)
      if (--left === 0) tookMs = network.clock.now() - beganAt
    },
    { concurrency: 4 },
  )
  await network.advance(60_000)
  await network.close()
  return { bestMs, tookMs }
}

test.each([
  ['as fast all the time', () => 1],
  ['slower than it was', (n: number) => (n < 500 ? 1 : 1.8)],
  ['sometimes slow', (n: number) => (n % 500 < 100 ? 3 : 1)],
] as const)(
  'pace - a worker that is %s is kept busy by a backlog: it takes at most a half longer than at best (G3)',
  async (_, takesMs) => {
    const { bestMs, tookMs } = await paced(4000, takesMs)
    expect(tookMs).toBeGreaterThan(0)
    expect(tookMs).toBeLessThan(1.5 * bestMs)
  },
)
