import { expect, test } from 'vitest'
import { RetryLater } from '../../src/index.ts'
import { SimulatedNetwork } from '../../src/testing.ts'
import { gate } from '../support/mesh.ts'
import { range } from './player.ts'

test('acks - a late success does not settle what another member has in hand by then: that one has the last word (G9)', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const sender = await network.createNode({ name: 'sender' })
  const slow = await network.createNode({ name: 'slow' })
  await network.run(sender.waitForPeers(1))
  const atSlow = gate()
  const atOther = gate()
  let others = 0
  slow.pull('jobs', () => atSlow.passed, { leaseMs: 2000 })
  let outcome = ''
  const receipt = await network.run(sender.push('jobs', 1))
  void receipt.settled.then((ends) => {
    outcome = ends[0]!.outcome
  })
  await network.advance(100)
  network.partition(network.hostOf(slow), network.hostOf(sender))
  await network.advance(3500)
  const other = await network.createNode({ name: 'other' })
  other.pull('jobs', () => {
    others++
    return atOther.passed
  })
  await network.advance(3000)
  expect(others).toBe(1)
  atSlow.open()
  network.heal()
  await network.advance(5000)
  expect(outcome).toBe('')
  atOther.open()
  await network.advance(1000)
  expect(outcome).toBe('handled')
  expect(others).toBe(1)
  await network.close()
})

test('acks - a late failure is only counted: what another member has in hand by then is not handed out a third time', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const sender = await network.createNode({ name: 'sender', maxAttempts: 1 })
  const slow = await network.createNode({ name: 'slow' })
  await network.run(sender.waitForPeers(1))
  const atSlow = gate()
  const atOther = gate()
  slow.pull(
    'jobs',
    async () => {
      await atSlow.passed
      throw new Error('too late')
    },
    { leaseMs: 2000 },
  )
  const receipt = await network.run(sender.push('jobs', 1))
  await network.advance(100)
  network.partition(network.hostOf(slow), network.hostOf(sender))
  await network.advance(3500)
  const other = await network.createNode({ name: 'other' })
  other.pull('jobs', () => atOther.passed)
  await network.advance(3000)
  atSlow.open()
  network.heal()
  await network.advance(5000)
  atOther.open()
  const [end] = await network.run(receipt.settled)
  expect(end!.outcome).toBe('handled')
  await network.close()
})

test('acks - what was put off again and again takes no room for good, and is handled although later ones were (G2, G6)', async () => {
  const network = new SimulatedNetwork({ seed: 1 })
  const sender = await network.createNode({ name: 'sender' })
  const worker = await network.createNode({ name: 'worker' })
  await network.run(sender.waitForPeers(1))
  const done: number[] = []
  const calls: number[] = []
  worker.pull<number>('jobs', (n) => {
    calls.push(n)
    if (n % 2 === 0 && calls.filter((each) => each === n).length < 30) throw new RetryLater(50)
    done.push(n)
  })
  for (const n of range(0, 100)) await network.run(sender.push('jobs', n))
  await network.advance(60_000)
  expect(done.toSorted((a, b) => a - b)).toEqual(range(0, 100))
  await network.close()
})
