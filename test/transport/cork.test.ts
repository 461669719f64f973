import { expect, test } from 'vitest'
import { Cork } from '../../src/transport/cork.ts'
import { FakeClock } from '../support/fake-clock.ts'

const bench = (): { cork: Cork; clock: FakeClock; flushes: () => number } => {
  const clock = new FakeClock()
  let flushes = 0
  return { cork: new Cork(() => flushes++, clock.turn), clock, flushes: () => flushes }
}

test('cork - the first of a turn leaves in a microtask, not at once', async () => {
  const { cork, clock, flushes } = bench()
  cork.touch()
  expect(flushes()).toBe(0)
  await clock.microtasks()
  expect(flushes()).toBe(1)
})

test('cork - what follows in that turn leaves together when it ends, without a timer', async () => {
  const { cork, clock, flushes } = bench()
  for (let i = 0; i < 5; i++) cork.touch()
  await clock.microtasks()
  cork.touch()
  await clock.microtasks()
  expect(flushes()).toBe(1)
  await clock.endTurn()
  expect(flushes()).toBe(2)
  expect(clock.pendingTimers).toBe(0)
})

test('cork - a turn in which nothing was added ends it; the next message leaves in its own microtask again', async () => {
  const { cork, clock, flushes } = bench()
  cork.touch()
  await clock.advance(1)
  expect(flushes()).toBe(1)
  expect(await clock.endTurn()).toBe(false)
  cork.touch()
  await clock.microtasks()
  expect(flushes()).toBe(2)
})
