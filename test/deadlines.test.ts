import { expect, test } from 'vitest'
import { Deadlines } from '../src/deadlines.ts'
import { FakeClock } from './support/fake-clock.ts'

const setUp = () => {
  const clock = new FakeClock()
  const pending = new Set<{ deadlineAt: number }>()
  const ended: number[] = []
  const deadlines = new Deadlines(clock, pending, (item) => {
    pending.delete(item)
    ended.push(item.deadlineAt - clock.now())
  })
  const add = (inMs: number) => {
    const item = { deadlineAt: clock.now() + inMs }
    pending.add(item)
    deadlines.add(item.deadlineAt)
    return item
  }
  return { clock, pending, ended, add, deadlines }
}

test('deadlines - each ends once, never early and hardly late, whatever the order they came in (G7)', async () => {
  const { clock, ended, add } = setUp()
  for (const inMs of [500, 20, 20.5, 21, 3000, 27, 100]) add(inMs)
  for (let ms = 0; ms < 3100; ms += 4) await clock.advance(4)
  expect(ended).toHaveLength(7)
  for (const early of ended) {
    expect(early).toBeLessThanOrEqual(0)
    expect(early).toBeGreaterThanOrEqual(-13)
  }
})

test('deadlines - what has ended otherwise is left alone, and what came later still ends', async () => {
  const { clock, pending, ended, add } = setUp()
  pending.delete(add(10))
  await clock.advance(5)
  add(10)
  await clock.advance(20)
  expect(ended).toHaveLength(1)
  add(50)
  await clock.advance(60)
  expect(ended).toHaveLength(2)
})

test('deadlines - once closed they wait for nothing, or an hour-long one would keep a closed node in memory', async () => {
  const { clock, add, deadlines } = setUp()
  add(3_600_000)
  expect(clock.pendingTimers).toBe(1)
  deadlines.close()
  expect(clock.pendingTimers).toBe(0)
})
