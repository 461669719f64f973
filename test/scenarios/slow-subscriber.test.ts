import { expect, test } from 'vitest'
import { type Member, type Published, startMember, type Tally, until } from '../support/processes.ts'

const COUNT = 1_000_000
const MIB = 1024 * 1024
const pattern = 'load.>'
const topic = 'load.a'

const tallyOf = (member: Member): Promise<Tally> => member.ask<Tally>('tally', { pattern })

const complete = (member: Member, timeoutMs: number): Promise<Tally> =>
  until(
    () => tallyOf(member),
    ({ received, missed }) => received + missed >= COUNT,
    timeoutMs,
  )

interface Run {
  publisher: Member
  fast: Member
  slow: Member
}

const start = async (slowness: object): Promise<Run> => {
  const [publisher, fast, slow] = await Promise.all([startMember(), startMember(), startMember()])
  await fast.ask('subscribe', { pattern })
  await slow.ask('subscribe', { pattern, ...slowness })
  await publisher.ask('waitForSubscribers', { topic, count: 2 })
  return { publisher, fast, slow }
}

/** What holds at the publisher and at the fast subscriber, however slow the other one is. */
const undisturbed = async (fast: Member, published: Published): Promise<void> => {
  const tally = await complete(fast, 10_000)
  expect(tally).toMatchObject({ received: COUNT, missed: 0, uncounted: 0, disorder: 0 })
  expect(published.grownBytes).toBeLessThan(64 * MIB)
  expect(published.lateOwnP99Ms).toBeLessThan(500)
  expect(published.ticks).toBeGreaterThan(0.7)
}

const report = (what: string, published: Published, slow: Tally): void => {
  const { durationMs, offCoreMs, grownBytes, ticks, lateP99Ms, lateOwnP99Ms } = published
  console.info(
    `${what}: ${COUNT} messages in ${Math.round(durationMs)} ms (${Math.round(offCoreMs)} ms without a core), RSS +${(grownBytes / MIB).toFixed(1)} MiB, ticks ${Math.round(100 * ticks)} %, late p99 ${lateP99Ms.toFixed(1)} ms, own ${lateOwnP99Ms.toFixed(1)} ms; slow one ${JSON.stringify(slow)}`,
  )
}

const settled = (tally: Tally): void => {
  const { received, missed, uncounted, disorder } = tally
  expect({ sum: received + missed, uncounted, disorder }).toEqual({ sum: COUNT, uncounted: 0, disorder: 0 })
}

const publishAll = (publisher: Member): Promise<Published> =>
  publisher.ask<Published>('publishMany', { topic, count: COUNT, warmUp: 50_000 })

test('slow subscriber - one whose handler takes its time delays only itself, and its gaps add up (G3, G5, G6)', async () => {
  const { publisher, fast, slow } = await start({ asyncMs: 2 })
  const published = await publishAll(publisher)
  const tally = await complete(slow, 30_000)
  report('slow handler', published, tally)
  await undisturbed(fast, published)
  settled(tally)
  expect(tally.missed).toBeGreaterThan(0.9 * COUNT)
}, 60_000)

test('slow subscriber - one whose event loop is held up, so that nobody reads its socket, delays only itself, and its gaps add up (G3, G5, G6)', async () => {
  const { publisher, fast, slow } = await start({ blockMs: 0.2 })
  const published = await publishAll(publisher)
  await undisturbed(fast, published)
  // What lies in its socket and in those of the system would keep it busy for a minute.
  await slow.ask('hurry', { pattern })
  const tally = await complete(slow, 20_000)
  report('held up', published, tally)
  settled(tally)
  expect(tally.missed).toBeGreaterThan(0.5 * COUNT)
}, 60_000)

test('slow subscriber - one that is stopped delays only itself; when it goes on, its gaps add up (G3, G5, G6)', async () => {
  const { publisher, fast, slow } = await start({})
  await slow.kill('SIGSTOP')
  const published = await publishAll(publisher)
  await undisturbed(fast, published)
  await slow.kill('SIGCONT')
  const tally = await complete(slow, 20_000)
  report('stopped', published, tally)
  settled(tally)
  expect(tally.missed).toBeGreaterThan(0.5 * COUNT)
}, 60_000)
