import { afterEach, expect, test } from 'vitest'
import { isSkeinError } from '../../src/errors.ts'
import { barrierKey } from '../../src/protocol/feed-batch.ts'
import { KIND } from '../../src/protocol/header.ts'
import { filterOf } from '../../src/protocol/topics.ts'
import { Feed, type FeedOptions } from '../../src/transport/feed.ts'
import { WINDOW_BATCHES } from '../../src/transport/follower.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type Batch, BOOT, payloadOf, readBatch } from '../support/memory-feed.ts'

const ONE = '1'.repeat(32)
const TWO = '2'.repeat(32)
const LARGE = Buffer.alloc(40_000, 7)

interface Bench {
  readonly feed: Feed
  readonly clock: FakeClock
  readonly batches: Batch[]
  readonly confirmed: string[]
  readonly asked: [string, number][]
}

const feeds: Feed[] = []
afterEach(() => {
  for (const feed of feeds.splice(0)) feed.close()
})

const bench = (options: Partial<FeedOptions> = {}): Bench => {
  const clock = new FakeClock()
  const batches: Batch[] = []
  const confirmed: string[] = []
  const asked: [string, number][] = []
  const feed = new Feed({
    id: 'a'.repeat(32),
    boot: BOOT,
    clock,
    patienceMs: 20,
    queueBytes: 4 * 1024 * 1024,
    maxTopics: 100,
    publish: async (frames) => {
      batches.push(readBatch(frames))
      return 'sent'
    },
    confirmed: (id) => confirmed.push(id),
    askReport: (id, number) => asked.push([id, number]),
    ...options,
  })
  feeds.push(feed)
  return { feed, clock, batches, confirmed, asked }
}

/** A subscriber whose filter, interest and barrier have all arrived. */
const confirm = ({ feed }: Bench, id: string, pattern: string, revision = 1): void => {
  feed.listeners(filterOf(pattern), true)
  feed.follow(id, revision, [pattern])
  feed.listeners(barrierKey(Buffer.from(id, 'hex'), revision, revision), true)
}

const messages = (batches: readonly Batch[]): Batch[] =>
  batches.filter(({ kind, count }) => kind === KIND.feed && count > 0)

test('feed - the first message leaves in a microtask of its turn, the rest together when the turn ends', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  await at.clock.microtasks()
  void at.feed.publish('a', payloadOf(1))
  await at.clock.microtasks()
  expect(messages(at.batches).map(({ values }) => values)).toEqual([[1]])
  void at.feed.publish('a', payloadOf(2))
  void at.feed.publish('a', payloadOf(3))
  await at.clock.microtasks()
  expect(messages(at.batches)).toHaveLength(1)
  await at.clock.endTurn()
  expect(messages(at.batches).map(({ values }) => values)).toEqual([[1], [2, 3]])
})

test('feed - each topic has dense sequences of its own, batches are numbered in the order they leave (G4)', async () => {
  const at = bench()
  confirm(at, ONE, '>')
  for (let i = 0; i < 5; i++) for (const topic of ['a', 'b']) void at.feed.publish(topic, payloadOf(i))
  await at.clock.advance(1)
  for (const topic of ['a', 'b']) {
    const own = messages(at.batches).filter((batch) => batch.topic === topic)
    expect(own.flatMap(({ values }) => values)).toEqual([0, 1, 2, 3, 4])
    let next = 1
    for (const { first, count } of own) {
      expect(first).toBe(next)
      next += count
    }
  }
  const numbers = at.batches.map(({ number }) => number)
  expect(numbers).toEqual(numbers.map((_, i) => i + 1))
})

test('feed - a large payload travels alone, and keeps its place among small ones (G4)', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  for (const value of ['x', LARGE, 'y']) void at.feed.publish('a', payloadOf(value))
  await at.clock.advance(1)
  const sent = messages(at.batches)
  expect(sent.map(({ values, frames, first }) => [values[0], frames, first])).toEqual([
    ['x', 2, 1],
    [LARGE, 3, 2],
    ['y', 2, 3],
  ])
})

test('feed - what nobody hears is not sent, but is numbered, so that whoever comes back can count it (G5)', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  void at.feed.publish('a', payloadOf(1))
  at.feed.listeners(filterOf('a'), false)
  void at.feed.publish('a', payloadOf(2))
  await at.clock.advance(1)
  at.feed.listeners(filterOf('a'), true)
  void at.feed.publish('a', payloadOf(3))
  await at.clock.advance(1)
  expect(messages(at.batches).map(({ first, values }) => [first, ...values])).toEqual([
    [1, 1],
    [3, 3],
  ])
})

test('feed - a barrier is answered only when its interest is known, and behind everything accepted before (G5)', async () => {
  const at = bench()
  at.feed.listeners(filterOf('a'), true)
  at.feed.listeners(barrierKey(Buffer.from(ONE, 'hex'), 2, 1), true)
  at.feed.follow(ONE, 1, ['a'])
  await at.clock.advance(1)
  expect(at.confirmed).toEqual([])
  expect(at.feed.subscribersOf('a')).toEqual([])
  void at.feed.publish('a', payloadOf('before'))
  void at.feed.publish('c', payloadOf('unheard'))
  at.feed.follow(ONE, 2, ['a', 'b'])
  void at.feed.publish('a', payloadOf('after'))
  await at.clock.advance(1)
  expect(at.confirmed).toEqual([ONE])
  expect(at.feed.isConfirmed(ONE)).toBe(true)
  expect(at.feed.subscribersOf('a')).toEqual([ONE])
  expect(at.feed.subscribersOf('c')).toEqual([])
  expect(at.batches.map(({ kind, values }) => (kind === KIND.barrier ? 'barrier' : values[0]))).toEqual([
    'before',
    'barrier',
    'after',
  ])
  expect(at.batches[1]!.tails).toEqual([{ topic: 'a', generation: 1, last: 1 }])
  expect(at.batches[1]!.first).toBe(1)
})

test('feed - a barrier that was withdrawn meanwhile is not answered, an older interest replaces no newer one', async () => {
  const at = bench()
  const key = barrierKey(Buffer.from(ONE, 'hex'), 3, 1)
  at.feed.listeners(key, true)
  at.feed.listeners(key, false)
  at.feed.follow(ONE, 3, ['a'])
  at.feed.follow(ONE, 2, ['b'])
  expect(at.confirmed).toEqual([])
  at.feed.listeners(barrierKey(Buffer.from(ONE, 'hex'), 3, 2), true)
  expect(at.feed.subscribersOf('a')).toEqual([ONE])
  expect(at.feed.subscribersOf('b')).toEqual([])
})

test('feed - a long answer comes in parts, of which only the last one says so', async () => {
  const at = bench({ maxTopics: 5000 })
  confirm(at, TWO, '>')
  const names = Array.from({ length: 3000 }, (_, i) => `${'long'.repeat(8)}.${i}`)
  for (const name of names) void at.feed.publish(name, payloadOf(1))
  confirm(at, ONE, '>', 2)
  await at.clock.advance(2000)
  const answers = at.batches.filter(({ kind }) => kind === KIND.barrier).slice(1)
  expect(answers.length).toBeGreaterThan(1)
  expect(answers.flatMap(({ tails }) => tails.map(({ topic }) => topic)).sort()).toEqual([...names].sort())
  expect(answers.map(({ first }) => first)).toEqual([...answers.slice(1).map(() => 0), 1])
})

test('feed - a forgotten topic returns under a new generation', async () => {
  const at = bench({ maxTopics: 2 })
  confirm(at, ONE, '>')
  for (const topic of ['a', 'b', 'c', 'a']) {
    void at.feed.publish(topic, payloadOf(topic))
    await at.clock.advance(1)
  }
  const ofA = messages(at.batches).filter(({ topic }) => topic === 'a')
  expect(ofA.map(({ first }) => first)).toEqual([1, 1])
  expect(ofA[1]!.generation).toBeGreaterThan(ofA[0]!.generation)
  expect(at.feed.stats().topics).toBe(2)
})

test('feed - more topics than it may remember, all in one turn, all leave and none hangs it (G6)', async () => {
  const at = bench({ maxTopics: 3 })
  confirm(at, ONE, '>')
  const names = Array.from({ length: 20 }, (_, i) => `t${i}`)
  for (const name of names) void at.feed.publish(name, payloadOf(name))
  await at.clock.advance(1)
  expect(messages(at.batches).flatMap(({ values }) => values)).toEqual(names)
  expect(at.feed.stats().topics).toBe(3)
})

test('feed - what a forgotten topic still held leaves before anything of its next generation (G4)', async () => {
  const at = bench({ maxTopics: 1 })
  confirm(at, ONE, '>')
  for (const [topic, value] of [
    ['a', 1],
    ['b', 2],
    ['a', LARGE],
  ] as const) {
    void at.feed.publish(topic, payloadOf(value))
  }
  await at.clock.advance(1)
  const ofA = messages(at.batches).filter(({ topic }) => topic === 'a')
  expect(ofA.map(({ values }) => values[0])).toEqual([1, LARGE])
})

test('feed - while there is room every publish answers one shared resolved promise', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  const first = at.feed.publish('a', payloadOf(1))
  expect(at.feed.publish('a', payloadOf(2))).toBe(first)
  await first
})

test('feed - a caller that never waits is refused OUTBOX_FULL and what is refused is counted (G5, G6)', async () => {
  const at = bench({ queueBytes: 1024 * 1024 })
  confirm(at, ONE, 'a')
  await at.clock.advance(1)
  let refused = 0
  let room: Promise<void> | undefined
  for (let i = 0; i < 60; i++) {
    try {
      room = at.feed.publish('a', payloadOf(LARGE))
    } catch (error) {
      expect(isSkeinError(error, 'OUTBOX_FULL')).toBe(true)
      refused++
    }
  }
  expect(refused).toBe(60 - Math.floor((1024 * 1024) / LARGE.length))
  expect(at.feed.stats()).toMatchObject({ published: 60, refused })
  let open = false
  void room!.then(() => {
    open = true
  })
  await at.clock.microtasks()
  expect(open).toBe(false)
  await at.clock.advance(1)
  expect(open).toBe(true)
  expect(at.feed.stats().queuedBytes).toBe(0)
})

test('feed - one full subscriber holds up the others for patienceMs, then they lose nothing and only it does (G3)', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  confirm(at, TWO, 'a')
  const publishOne = async (i: number): Promise<void> => {
    void at.feed.publish('a', payloadOf(i))
    await at.clock.advance(0)
    at.feed.reported(TWO, at.batches.at(-1)!.number, 0)
    await at.clock.advance(0)
  }
  for (let i = 0; i < WINDOW_BATCHES; i++) await publishOne(i)
  expect(messages(at.batches)).toHaveLength(WINDOW_BATCHES)
  const from = at.clock.now()
  void at.feed.publish('a', payloadOf('held'))
  while (messages(at.batches).length === WINDOW_BATCHES) await at.clock.advance(1)
  expect(at.clock.now() - from).toBeGreaterThanOrEqual(20)
  expect(at.clock.now() - from).toBeLessThanOrEqual(26)
  for (let i = 0; i < 50; i++) await publishOne(i)
  expect(at.clock.now() - from).toBeLessThanOrEqual(26)
  expect(messages(at.batches)).toHaveLength(WINDOW_BATCHES + 51)
  expect(at.feed.stats().lossy).toBe(51)
  // Once it has caught up, it is waited for again.
  at.feed.reported(ONE, at.batches.at(-1)!.number, 51)
  await publishOne(1)
  expect(at.feed.stats()).toMatchObject({ lossy: 51, missed: 51 })
})

test('feed - a full subscriber that leaves is not waited for any more (G3)', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  for (let i = 0; i <= WINDOW_BATCHES; i++) {
    void at.feed.publish('a', payloadOf(i))
    await at.clock.advance(0)
  }
  expect(messages(at.batches)).toHaveLength(WINDOW_BATCHES)
  at.feed.unfollow(ONE)
  await at.clock.advance(0)
  expect(messages(at.batches)).toHaveLength(WINDOW_BATCHES + 1)
})

test('feed - a plain SUB that nobody introduced hears a topic whose prefix it asks for, at most patienceMs late', async () => {
  let full = true
  const tried: boolean[] = []
  const at = bench({
    publish: async (_, patient) => {
      tried.push(patient)
      return full && patient ? 'full' : 'sent'
    },
  })
  at.feed.listeners(Buffer.from('sen'), true)
  void at.feed.publish('other', payloadOf(0))
  void at.feed.publish('sensors.kitchen', payloadOf(1))
  await at.clock.advance(19)
  expect(tried.every((patient) => patient)).toBe(true)
  await at.clock.advance(2)
  expect(tried.at(-1)).toBe(false)
  expect(at.feed.stats()).toMatchObject({ lossy: 1, batches: 1 })
  full = false
  at.feed.listeners(Buffer.from('sen'), false)
  void at.feed.publish('sensors.kitchen', payloadOf(1))
  await at.clock.advance(1)
  expect(at.feed.stats().batches).toBe(1)
})

test('feed - drain asks those behind for a report, ends when all have read, or when its time is over (G7)', async () => {
  const at = bench()
  confirm(at, ONE, 'a')
  void at.feed.publish('a', payloadOf(1))
  let drained = false
  void at.feed.drain(1000).then(() => {
    drained = true
  })
  await at.clock.advance(5)
  const last = at.batches.at(-1)!.number
  expect(at.asked).toEqual([[ONE, last]])
  expect(drained).toBe(false)
  at.feed.reported(ONE, last, 0)
  await at.clock.advance(0)
  expect(drained).toBe(true)
  void at.feed.publish('a', payloadOf(2))
  const from = at.clock.now()
  let endedAt = 0
  void at.feed.drain(100).then(() => {
    endedAt = at.clock.now()
  })
  await at.clock.advance(200)
  expect(endedAt - from).toBeGreaterThanOrEqual(100)
  expect(endedAt - from).toBeLessThanOrEqual(102)
})

test('feed - tails name the active topics that this peer hears, and beats repeat their last sequence (G5)', async () => {
  const at = bench()
  confirm(at, ONE, 'a.>')
  confirm(at, TWO, '>')
  for (const topic of ['a.b', 'a.b', 'c']) void at.feed.publish(topic, payloadOf(1))
  await at.clock.advance(150)
  expect(at.feed.tails(ONE)).toEqual([{ topic: 'a.b', generation: 1, last: 2 }])
  expect(at.feed.tails(TWO).map(({ topic }) => topic)).toEqual(['a.b', 'c'])
  expect(at.feed.tails('3'.repeat(32))).toEqual([])
  const beats = at.batches.filter(({ kind, count }) => kind === KIND.feed && count === 0)
  expect(beats.map(({ topic, first }) => [topic, first])).toEqual([
    ['a.b', 3],
    ['c', 2],
  ])
})
