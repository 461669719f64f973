import { expect, test } from 'vitest'
import { pause, until } from '../support/processes.ts'
import { callsOf, doneBy, meshName, play, range, temporary } from './player.ts'

const DAYS_MS = 15 * 24 * 3_600_000

const outcomes = (player: { ask<T>(command: string): Promise<T> }) =>
  player.ask<Record<string, string>>('outcomes')

test.each([DAYS_MS, -DAYS_MS])(
  'clocks - the wall clock moves by %d ms while nodes run: delays, expiries, leases and retries go on as before (G2)',
  async (byMs) => {
    const mesh = meshName()
    const sender = await play({ mesh, dataDir: temporary('clock') })
    const worker = await play({ mesh })
    await sender.ask('push', { queue: 'later', from: 0, options: { delayMs: 1500 } })
    await sender.ask('push', { queue: 'mortal', from: 1, options: { ttlMs: 1500 } })
    await sender.ask('push', { queue: 'living', from: 2, options: { ttlMs: 60_000 } })
    for (const each of [sender, worker]) await each.ask('setWall', { byMs })
    const movedAt = performance.now()
    for (const queue of ['later', 'living']) await worker.ask('pull', { queue })
    await until(
      () => outcomes(sender),
      (ends) => ends[1] === 'expired' && ends[0] === 'handled' && ends[2] === 'handled',
      10_000,
    )
    expect(performance.now() - movedAt).toBeGreaterThan(1000)
    // What is accepted at the new time is none of the old.
    await sender.ask('push', { queue: 'living', from: 3, count: 10, options: { ttlMs: 60_000 } })
    await until(
      () => outcomes(sender),
      (ends) => range(3, 10).every((n) => ends[n] === 'handled'),
      10_000,
    )
    expect((await callsOf(worker)).every(({ redelivered }) => !redelivered)).toBe(true)
  },
  30_000,
)

test.each([DAYS_MS, -DAYS_MS])(
  'clocks - the wall clock moves by %d ms while a node is down: without ttlMs nothing is lost, and a group is not forgotten (G2)',
  async (wallByMs) => {
    const mesh = meshName()
    const dataDir = temporary('clock')
    let sender = await play({ mesh, dataDir })
    const member = await play({ mesh })
    await member.ask('subscribe', { pattern: 'order.*', group: 'bills' })
    await sender.ask('waitForPeers', { count: 1 })
    await sender.ask('publish', { topic: 'order.created', from: 0 })
    await until(
      () => doneBy(member),
      (done) => done.length === 1,
      5000,
    )
    await member.kill('SIGKILL')
    await sender.ask('publish', { topic: 'order.created', from: 1, count: 5 })
    await sender.ask('push', { queue: 'jobs', from: 6, count: 5 })
    await sender.ask('push', { queue: 'jobs', from: 11, options: { delayMs: 500 } })
    await sender.kill('SIGKILL')
    sender = await play({ mesh, dataDir, wallByMs })
    await pause(200)
    await sender.ask('publish', { topic: 'order.created', from: 12, count: 2 })
    const heir = await play({ mesh })
    await heir.ask('subscribe', { pattern: 'order.*', group: 'bills' })
    await heir.ask('pull', { queue: 'jobs' })
    // The first one is there again where its sender was killed before it had recorded what became of it.
    const done = await until(
      () => doneBy(heir),
      (numbers) => range(1, 13).every((n) => numbers.includes(n)),
      10_000,
    )
    expect(done.filter((n) => n > 0).toSorted((a, b) => a - b)).toEqual(range(1, 13))
  },
  30_000,
)
