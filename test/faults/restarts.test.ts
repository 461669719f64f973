import { expect, test } from 'vitest'
import { pause, until } from '../support/processes.ts'
import { callsOf, meshName, play, range, temporary } from './player.ts'

test('restarts - what a receiver handled for a sender that died before it knew is not run again, however often that sender dies (G9)', async () => {
  const mesh = meshName()
  const dataDir = temporary('restarts')
  const worker = await play({ mesh })
  await worker.ask('hold')
  await worker.ask('pull', { queue: 'jobs', concurrency: 20 })
  let sender = await play({ mesh, dataDir })
  await sender.ask('push', { queue: 'jobs', count: 20 })
  await worker.noted('called', 20)
  // Its ear is shut when they are done, and then it is dead.
  await sender.kill('SIGSTOP')
  await worker.ask('release')
  await sender.kill('SIGKILL')
  for (let restart = 0; restart < 3; restart++) {
    sender = await play({ mesh, dataDir })
    await sender.ask('waitForPeers', { count: 1 })
    await pause(400)
    await sender.kill('SIGKILL')
  }
  sender = await play({ mesh, dataDir })
  await sender.ask('push', { queue: 'jobs', from: 100 })
  const calls = await until(
    () => callsOf(worker),
    (all) => all.some(({ n }) => n === 100),
    10_000,
  )
  expect(calls.map(({ n }) => n)).toEqual([...range(0, 20), 100])
  await until(
    () => sender.ask<Record<string, string>>('outcomes'),
    (outcomes) => outcomes[100] === 'handled',
    5000,
  )
  // What was handled before is said again to each boot of the sender, or it would owe it for ever.
  await until(
    () => sender.ask<{ owed: number }>('stats'),
    ({ owed }) => owed === 0,
    5000,
  )
  expect(await sender.ask('close')).toEqual({ unsettled: 0 })
}, 30_000)
