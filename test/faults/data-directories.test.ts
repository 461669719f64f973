import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Member, until } from '../support/processes.ts'
import { callsOf, doneBy, meshName, play, range, type Sent, temporary } from './player.ts'

const jobs = (sender: Member, from: number, count: number): Promise<Sent[]> =>
  sender.ask<Sent[]>('push', { queue: 'jobs', from, count })

const handled = async (worker: Member, numbers: readonly number[]): Promise<void> => {
  await until(
    () => doneBy(worker),
    (done) => numbers.every((n) => done.includes(n)),
    10_000,
  )
}

const worker = async (mesh: string): Promise<Member> => {
  const player = await play({ mesh })
  await player.ask('pull', { queue: 'jobs', concurrency: 20 })
  return player
}

test('data directory - a second process on it is refused at once, says what to do, and harms nothing; the first killed, the next does not wait (G10)', async () => {
  const mesh = meshName()
  const dataDir = temporary('directory')
  const first = await play({ mesh, dataDir })
  await jobs(first, 0, 10)
  const beganAt = performance.now()
  await expect(play({ mesh, dataDir })).rejects.toThrow(
    /belongs to process \d+ that is running; give each instance/,
  )
  expect(performance.now() - beganAt).toBeLessThan(6000)
  await jobs(first, 10, 10)
  await first.kill('SIGKILL')
  const againAt = performance.now()
  const second = await play({ mesh, dataDir })
  expect(performance.now() - againAt).toBeLessThan(6000)
  await second.ask('pull', { queue: 'jobs' })
  await handled(second, range(0, 20))
})

test('data directory - wiped while its receivers live on, under the old id: what is new is not taken for what was handled (G9)', async () => {
  const mesh = meshName()
  const dataDir = temporary('wiped')
  const id = 'd'.repeat(32)
  const receiver = await worker(mesh)
  const before = await play({ mesh, dataDir, id })
  await jobs(before, 0, 10)
  await handled(receiver, range(0, 10))
  await before.kill('SIGKILL')
  rmSync(dataDir, { recursive: true })
  const after = await play({ mesh, dataDir, id })
  await jobs(after, 10, 10)
  await handled(receiver, range(0, 20))
  expect((await callsOf(receiver)).map(({ n }) => n)).toEqual(range(0, 20))
})

test('data directory - rolled back while its receivers live on: numbers given a second time are other messages (G2, G9)', async () => {
  const mesh = meshName()
  const dataDir = temporary('rolled-back')
  const copy = join(temporary('copy'), 'data')
  const receiver = await worker(mesh)
  let sender = await play({ mesh, dataDir })
  await jobs(sender, 0, 5)
  await handled(receiver, range(0, 5))
  await sender.ask('close')
  await sender.kill('SIGKILL')
  cpSync(dataDir, copy, { recursive: true })
  // Of what follows the receiver has handled all, and its sender is told nothing.
  sender = await play({ mesh, dataDir })
  await receiver.ask('hold')
  await jobs(sender, 100, 20)
  await until(
    () => callsOf(receiver),
    (calls) => calls.length === 25,
    10_000,
  )
  await sender.kill('SIGSTOP')
  await receiver.ask('release')
  await sender.kill('SIGKILL')
  await handled(receiver, range(100, 20))
  rmSync(dataDir, { recursive: true })
  cpSync(copy, dataDir, { recursive: true })
  // The new ones are owed already when the receiver says which of these numbers it has handled.
  await receiver.kill('SIGSTOP')
  sender = await play({ mesh, dataDir })
  const sent = await jobs(sender, 200, 20)
  await receiver.kill('SIGCONT')
  expect(sent.map(({ code }) => code)).toEqual(sent.map(() => undefined))
  await handled(receiver, range(200, 20))
  expect((await callsOf(receiver)).map(({ n }) => n)).toEqual([
    ...range(0, 5),
    ...range(100, 20),
    ...range(200, 20),
  ])
})

test('data directory - a copy of it beside a living owner is refused; when the owner is gone, it runs and repeats only what it owes, flagged (G9)', async () => {
  const mesh = meshName()
  const dataDir = temporary('cloned')
  const clone = join(temporary('clone'), 'data')
  const receiver = await worker(mesh)
  const owner = await play({ mesh, dataDir })
  await jobs(owner, 0, 5)
  await handled(receiver, range(0, 5))
  await receiver.ask('hold')
  await jobs(owner, 5, 5)
  await until(
    () => callsOf(receiver),
    (calls) => calls.length === 10,
    10_000,
  )
  cpSync(dataDir, clone, { recursive: true, filter: (path) => !path.endsWith('.socket') })
  await expect(play({ mesh, dataDir: clone })).rejects.toThrow(/is held by a living node/)
  await receiver.ask('release')
  await handled(receiver, range(0, 10))
  await owner.kill('SIGKILL')
  const heir = await play({ mesh, dataDir: clone })
  await jobs(heir, 20, 5)
  await handled(receiver, range(20, 5))
  const calls = await callsOf(receiver)
  for (const { n, redelivered } of calls.slice(10)) expect(redelivered).toBe(n < 20)
})
