import { expect, test } from 'vitest'
import { Follower, WINDOW_BATCHES } from '../../src/transport/follower.ts'

const PATIENCE_MS = 20

const full = (): Follower => {
  const follower = new Follower('1'.repeat(32), 1, ['a.*'])
  for (let number = 1; number <= WINDOW_BATCHES; number++) follower.sent(number)
  follower.judge(1000, 0, true, PATIENCE_MS)
  return follower
}

test('follower - it is behind by what was sent and not reported', () => {
  const follower = new Follower('1'.repeat(32), 1, ['a'])
  for (const number of [3, 5, 9]) follower.sent(number)
  expect([follower.behind, follower.last, follower.isFull]).toEqual([3, 9, false])
  follower.reported(6, 1000)
  expect([follower.behind, follower.last]).toEqual([1, 9])
  follower.reported(9, 1000)
  expect([follower.behind, follower.last]).toEqual([0, 0])
})

test('follower - its filter tells what passes its socket, wanted or not', () => {
  const follower = new Follower('1'.repeat(32), 1, ['a.*.c'])
  expect(follower.hears('a.b.x\0')).toBe(true)
  expect(follower.hears('ab\0')).toBe(false)
})

test('follower - one that reads nothing while others wait is given up after patienceMs, not before (G3)', () => {
  const follower = full()
  follower.judge(1019, 19, true, PATIENCE_MS)
  expect(follower.dropping).toBe(false)
  follower.judge(1020, 1, true, PATIENCE_MS)
  expect(follower.dropping).toBe(true)
})

test('follower - where only the publisher waits it is given ten times as long', () => {
  const follower = full()
  follower.judge(1199, 199, false, PATIENCE_MS)
  expect(follower.dropping).toBe(false)
  follower.judge(1200, 1, false, PATIENCE_MS)
  expect(follower.dropping).toBe(true)
})

test('follower - one that reads a little now and then, and holds up the others most of the time, is given up too (G3)', () => {
  const follower = full()
  let now = 1000
  for (let number = 1; !follower.dropping && now < 1100; number++) {
    now += 5
    follower.reported(number, now)
    follower.sent(WINDOW_BATCHES + number)
    follower.judge(now, 5, true, PATIENCE_MS)
  }
  expect(now).toBe(1020)
})

test('follower - a slow one whom nobody waits for is kept as long as it reads', () => {
  const follower = full()
  for (let number = 1; number <= 100; number++) {
    follower.reported(number, 1000 + 100 * number)
    follower.sent(WINDOW_BATCHES + number)
    follower.judge(1000 + 100 * number, 100, false, PATIENCE_MS)
  }
  expect(follower.dropping).toBe(false)
})

test('follower - one that was given up is waited for again only once it has caught up with the newest', () => {
  const follower = full()
  follower.judge(1020, 20, true, PATIENCE_MS)
  for (let number = WINDOW_BATCHES + 1; number <= 3 * WINDOW_BATCHES; number++) follower.sent(number)
  expect(follower.behind).toBe(WINDOW_BATCHES)
  follower.reported(2 * WINDOW_BATCHES + WINDOW_BATCHES / 2, 1100)
  expect(follower.dropping).toBe(true)
  follower.reported(3 * WINDOW_BATCHES - WINDOW_BATCHES / 4, 1100)
  expect(follower.dropping).toBe(false)
})

test('follower - a new interest keeps what it is behind by', () => {
  const before = full()
  before.confirmed = 1
  before.missed = 7
  const follower = new Follower(before.id, 2, ['b'], before)
  expect([follower.behind, follower.last, follower.missed, follower.confirmed]).toEqual([
    WINDOW_BATCHES,
    WINDOW_BATCHES,
    7,
    1,
  ])
})
