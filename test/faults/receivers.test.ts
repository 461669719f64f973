import { expect, test } from 'vitest'
import type { DeadLetter } from '../../src/index.ts'
import { type Member, pause, until } from '../support/processes.ts'
import { type Call, callsOf, doneBy, meshName, play, range, type Sent, temporary } from './player.ts'

const IS_LONG = process.env.SKEIN_FAULTS_LONG !== undefined

const outcomesOf = (sender: Member): Promise<Record<string, string>> => sender.ask('outcomes')

const settled = (sender: Member, numbers: readonly number[], timeoutMs = 10_000) =>
  until(
    () => outcomesOf(sender),
    (outcomes) => numbers.every((n) => outcomes[n] !== undefined),
    timeoutMs,
  )

const all = async (players: readonly Member[]): Promise<Call[]> =>
  (await Promise.all(players.map(callsOf))).flat()

test('receivers - one that is stopped for longer than its lease loses what it held to another; both say so when they have done it, and one of the two is flagged (G3, G9)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh })
  const stopped = await play({ mesh })
  await stopped.ask('hold')
  await stopped.ask('pull', { queue: 'jobs', concurrency: 10, leaseMs: 1000 })
  await sender.ask('waitForPeers', { count: 1 })
  await sender.ask('push', { queue: 'jobs', count: 10 })
  await stopped.noted('called', 10)
  await stopped.kill('SIGSTOP')
  const other = await play({ mesh, settleMs: 50 })
  await other.ask('pull', { queue: 'jobs', concurrency: 10 })
  await settled(sender, range(0, 10), 15_000)
  await sender.ask('push', { queue: 'jobs', from: 10, count: 10 })
  await settled(sender, range(10, 10), 5000)
  await stopped.kill('SIGCONT')
  await stopped.ask('release')
  await until(
    () => doneBy(stopped),
    (done) => done.length >= 10,
    5000,
  )
  expect(Object.values(await outcomesOf(sender))).toEqual(range(0, 20).map(() => 'handled'))
  const calls = await all([stopped, other])
  for (const n of range(0, 20))
    expect(calls.filter((call) => call.n === n && !call.redelivered).length).toBeLessThanOrEqual(1)
  expect((await doneBy(other)).toSorted((a, b) => a - b)).toEqual(range(0, 20))
}, 30_000)

test('receivers - what one had begun when it was killed in the middle of its work is done by another, at its first attempt and flagged (G2)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh })
  const killed = await play({ mesh })
  await killed.ask('hold')
  await killed.ask('pull', { queue: 'jobs', concurrency: 10 })
  await sender.ask('waitForPeers', { count: 1 })
  await sender.ask('push', { queue: 'jobs', count: 10 })
  await killed.noted('called', 10)
  const other = await play({ mesh })
  await killed.kill('SIGKILL')
  await other.ask('pull', { queue: 'jobs', concurrency: 10 })
  await settled(sender, range(0, 10))
  const calls = await callsOf(other)
  expect(calls.map(({ n }) => n).toSorted((a, b) => a - b)).toEqual(range(0, 10))
  expect(calls.every(({ redelivered, attempt }) => redelivered && attempt === 1)).toBe(true)
}, 30_000)

test('receivers - a job that kills its worker ends as a dead letter, spends nobody else an attempt, and comes back when it is retried after the fix (G2, G3)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh, dataDir: temporary('poison'), maxAttempts: 3 })
  let isOver = false
  /** Two, as a rule: whichever of them the job kills is replaced. */
  const alive = new Set<Member>()
  const calls: Call[] = []
  const keepOne = async (): Promise<void> => {
    while (!isOver) {
      const worker = await play({ mesh, settleMs: 50 })
      alive.add(worker)
      // The job may come, and kill it, before it can say that it is ready.
      worker.ask('pull', { queue: 'jobs', concurrency: 4, handlerMs: 2 }).catch(() => {})
      await worker.ended
      alive.delete(worker)
    }
  }
  const keeping = [keepOne(), keepOne()]
  await sender.ask('waitForPeers', { count: 2 })
  const pushes = sender.ask<Sent[]>('push', { queue: 'jobs', from: 0, count: 50 })
  await sender.ask('push', { queue: 'jobs', from: 50, value: { by: 'dying' } })
  await sender.ask('push', { queue: 'jobs', from: 51, count: 50 })
  await pushes
  const outcomes = await settled(sender, range(0, 101), 20_000)
  for (const n of range(0, 101)) expect([n, outcomes[n]]).toEqual([n, n === 50 ? 'dead' : 'handled'])
  const [letter, ...others] = await sender.ask<DeadLetter[]>('deadLetters')
  expect(others).toEqual([])
  expect(letter).toMatchObject({ reason: 'attempts', attempts: 3, topic: 'jobs' })
  expect(letter!.lastError).toMatch(/lost/)
  // Long after: many others have come and gone since.
  await sender.ask('push', { queue: 'jobs', from: 200, count: 300 })
  await settled(sender, range(200, 300), 20_000)
  await until(
    async () => alive.size,
    (size) => size === 2,
    10_000,
  )
  isOver = true
  const workers = [...alive]
  await Promise.all(workers.map((worker) => worker.ask('fix')))
  await sender.ask('retry', { id: letter!.id })
  await until(
    async () => (await Promise.all(workers.map(doneBy))).flat(),
    (done) => done.includes(50),
    10_000,
  )
  for (const worker of workers) calls.push(...(await callsOf(worker)))
  expect(calls.find(({ n }) => n === 50)).toMatchObject({ attempt: 1 })
  expect(await sender.ask('deadLetters')).toEqual([])
  for (const worker of workers) await worker.kill('SIGKILL')
  await Promise.all(keeping)
}, 60_000)

test.skipIf(!IS_LONG)(
  'receivers - while a job kills one worker after the other, the others are as fast as without it: p99 within twice (G3)',
  async () => {
    const p99Of = async (isPoisoned: boolean): Promise<number> => {
      const mesh = meshName()
      const sender = await play({ mesh, maxAttempts: 4 })
      let isOver = false
      const keepOne = async (): Promise<void> => {
        while (!isOver) {
          const worker = await play({ mesh, settleMs: 50 })
          await worker.ask('pull', { queue: 'jobs', concurrency: 4, handlerMs: 5 })
          await Promise.race([worker.ended, until(async () => isOver, Boolean, 60_000)])
        }
      }
      const keeping = [keepOne(), keepOne(), keepOne(), keepOne()]
      await sender.ask('waitForPeers', { count: 4 })
      await pause(500)
      for (let n = 0; n < 2000; n += 2) {
        if (isPoisoned && n === 100)
          await sender.ask('push', { queue: 'jobs', from: 9999, value: { by: 'dying' } })
        await sender.ask('push', { queue: 'jobs', from: n, count: 2 })
        await pause(8)
      }
      await settled(sender, range(0, 2000), 30_000)
      if (isPoisoned) expect((await settled(sender, [9999], 30_000))[9999]).toBe('dead')
      const latencies = await sender.ask<Record<string, number>>('latencies')
      isOver = true
      await Promise.all(keeping)
      return range(0, 2000)
        .map((n) => latencies[n]!)
        .toSorted((a, b) => a - b)[1980]!
    }
    const without = await p99Of(false)
    const beside = await p99Of(true)
    console.info(
      `p99 of 2000 jobs: ${without.toFixed(1)} ms; beside one that kills its workers: ${beside.toFixed(1)} ms`,
    )
    expect(beside).toBeLessThan(2 * without)
  },
  180_000,
)

test(`receivers - a handler that computes for ${IS_LONG ? 30 : 4} s without a pause keeps its job: nobody else gets it, and it is done once (G3, G9)`, async () => {
  const mesh = meshName()
  const ms = IS_LONG ? 30_000 : 4000
  const [sender, one, other] = await Promise.all([play({ mesh }), play({ mesh }), play({ mesh })])
  for (const worker of [one!, other!]) await worker.ask('pull', { queue: 'jobs' })
  await sender!.ask('waitForPeers', { count: 2 })
  await sender!.ask('push', { queue: 'jobs', value: { by: 'blocking', ms } })
  await pause(100)
  // The other one goes on meanwhile, also with what comes now.
  await sender!.ask('push', { queue: 'jobs', from: 1, count: 100 })
  await settled(sender!, [0], ms + 10_000)
  await settled(sender!, range(1, 100), 10_000)
  const calls = await all([one!, other!])
  expect(calls.filter(({ n }) => n === 0)).toHaveLength(1)
  expect(Object.values(await outcomesOf(sender!))).toEqual(range(0, 101).map(() => 'handled'))
}, 60_000)

test('receivers - a handler that is registered late after a restart loses nothing, and what it does not want yet holds up nothing else (G3)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh, dataDir: temporary('late') })
  let member = await play({ mesh })
  await member.ask('subscribe', { pattern: 'order.created', group: 'bills' })
  await member.ask('subscribe', { pattern: 'order.paid', group: 'bills' })
  await sender.ask('waitForPeers', { count: 1 })
  await sender.ask('publish', { topic: 'order.paid', from: 0, count: 1 })
  await settled(sender, [0])
  await member.kill('SIGKILL')
  await until(
    () => sender.ask<{ state: string }[]>('peers'),
    (peers) => peers.every(({ state }) => state !== 'up'),
    10_000,
  )
  await sender.ask('publish', { topic: 'order.paid', from: 10, count: 5 })
  await sender.ask('publish', { topic: 'order.created', from: 20, count: 5 })
  member = await play({ mesh })
  await pause(300)
  await member.ask('subscribe', { pattern: 'order.created', group: 'bills' })
  await settled(sender, range(20, 5), 5000)
  await pause(300)
  expect(await doneBy(member)).toEqual(range(20, 5))
  await member.ask('subscribe', { pattern: 'order.paid', group: 'bills' })
  await settled(sender, range(10, 5), 5000)
  const calls = await callsOf(member)
  expect(calls.map(({ n }) => n)).toEqual([...range(20, 5), ...range(10, 5)])
  expect(calls.every(({ attempt }) => attempt === 1)).toBe(true)
}, 30_000)

test('receivers - an absent group at its quota is refused by itself: the receipt says so, and its neighbour gets everything (G3, G6)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh, limits: { quotaBytes: 64 * 1024 } })
  const member = await play({ mesh })
  await member.ask('subscribe', { pattern: 'order.*', group: 'ships' })
  await sender.ask('waitForPeers', { count: 1 })
  for (let from = 0; from < 200; from += 10) {
    await sender.ask('publish', {
      ...{ topic: 'order.created', from, count: 10, fillBytes: 1000 },
      options: { owedTo: ['absent'] },
    })
    await until(
      () => doneBy(member),
      (done) => done.length === from + 10,
      5000,
    )
  }
  expect(await doneBy(member)).toEqual(range(0, 200))
  const full = await sender.ask<Sent[]>('publish', {
    ...{ topic: 'else', count: 1, fillBytes: 1000 },
    options: { owedTo: ['absent'] },
  })
  expect(full[0]!.code).toBe('OUTBOX_FULL')
  const outcomes = await outcomesOf(sender)
  expect(Object.values(outcomes).every((each) => each === 'handled,refused')).toBe(true)
  expect(Object.keys(outcomes).length).toBeGreaterThan(120)
}, 30_000)

test('receivers - one that is closed while it works hands back what it has not begun, and nothing is done twice (G9, G10)', async () => {
  const mesh = meshName()
  const sender = await play({ mesh, dataDir: temporary('closing') })
  const [one, other] = await Promise.all([play({ mesh }), play({ mesh })])
  for (const worker of [one!, other!])
    await worker.ask('pull', { queue: 'jobs', concurrency: 2, handlerMs: 5 })
  await sender.ask('waitForPeers', { count: 2 })
  await sender.ask('push', { queue: 'jobs', count: 300 })
  await one!.noted('called', 20)
  await one!.ask('close')
  await settled(sender, range(0, 300), 20_000)
  const calls = await all([one!, other!])
  expect(
    calls
      .filter(({ doneAt }) => doneAt > 0)
      .map(({ n }) => n)
      .toSorted((a, b) => a - b),
  ).toEqual(range(0, 300))
  expect(calls).toHaveLength(300)
}, 30_000)
