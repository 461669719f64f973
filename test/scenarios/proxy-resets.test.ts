import { expect, test } from 'vitest'
import { threeFreePorts } from '../support/ports.ts'
import { type Published, spawnMember, startMember, type Tally, until } from '../support/processes.ts'
import { TcpProxy } from '../support/proxy.ts'

const COUNT = process.env.SKEIN_LONG === '1' ? 1_000_000 : 1_000_000
const RESETS = 10
const SUBSCRIBERS = 3
/** Bursts as fast as they go, with a rest between them, so that there is time to connect again between two resets. */
const SLICE = 10_000
const SLICE_MS = 100
const pattern = 'ticks.>'

test(`proxy resets - of ${COUNT} messages through a wire that is cut ten times, each subscriber gets or misses each one exactly once, in order (G4, G5)`, async () => {
  const hosts = ['127.0.0.1', '127.0.0.2']
  const port = await threeFreePorts(hosts)
  const proxies = await Promise.all(
    [port, port + 1, port + 2].map((targetPort) =>
      TcpProxy.listen({ host: '127.0.0.2', port: targetPort, targetPort }),
    ),
  )
  try {
    const publisher = await spawnMember().start({ port, advertise: '127.0.0.2' })
    const subscribers = await Promise.all(Array.from({ length: SUBSCRIBERS }, () => startMember()))
    await Promise.all(subscribers.map((subscriber) => subscriber.ask('subscribe', { pattern })))
    await publisher.ask('waitForSubscribers', { topic: 'ticks.a', count: SUBSCRIBERS })
    const published = publisher.ask<Published>('publishMany', {
      topic: 'ticks.a',
      count: COUNT,
      slice: SLICE,
      sliceMs: SLICE_MS,
    })
    const slices = COUNT / SLICE
    const cut: number[] = []
    for (let reset = 1; reset <= RESETS; reset++) {
      await publisher.noted('slice', Math.floor((slices * reset) / (RESETS + 1)))
      cut.push(proxies.reduce((sum, proxy) => sum + proxy.reset(), 0))
    }
    const { durationMs } = await published
    await publisher.ask('drain')
    const tallies = await Promise.all(
      subscribers.map((subscriber) =>
        until(
          () => subscriber.ask<Tally>('tally', { pattern }),
          ({ received, missed }) => received + missed >= COUNT,
          20_000,
        ),
      ),
    )
    console.info(
      `${COUNT} messages in ${Math.round(durationMs)} ms, connections cut ${cut.join(' ')}:\n${tallies.map((tally) => JSON.stringify(tally)).join('\n')}`,
    )
    for (const { received, missed, uncounted, disorder } of tallies) {
      expect({ disorder, uncounted, sum: received + missed }).toEqual({
        disorder: 0,
        uncounted: 0,
        sum: COUNT,
      })
      expect(received).toBeGreaterThan(COUNT / 2)
    }
    // Each cut hit the feed and the control connection of every subscriber.
    for (const connections of cut) expect(connections).toBeGreaterThanOrEqual(2 * SUBSCRIBERS)
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.close()))
  }
}, 120_000)
