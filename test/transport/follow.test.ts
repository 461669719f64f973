import { expect, test } from 'vitest'
import { isSkeinError } from '../../src/errors.ts'
import { Writer } from '../../src/protocol/bytes.ts'
import { beginFeedBatch, sealFeedBatch, writeTopicLast } from '../../src/protocol/feed-batch.ts'
import { FilterSet } from '../../src/protocol/filters.ts'
import { KIND } from '../../src/protocol/header.ts'
import { writeRecord } from '../../src/protocol/record.ts'
import { topicFrame } from '../../src/protocol/topics.ts'
import { Follow } from '../../src/transport/follow.ts'
import { REPORT_BATCHES } from '../../src/transport/follower.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type FeedEnd, FeedNetwork } from '../support/feed-network.ts'
import { BOOT, payloadOf } from '../support/memory-feed.ts'

/** A follower of a publisher whose batches the test writes by hand. */
class Bench {
  readonly clock = new FakeClock()
  readonly got: string[] = []
  readonly gaps: [string, number | undefined, string][] = []
  readonly reports: [number, number][] = []
  readonly faults: unknown[] = []
  strangers = 0
  end!: FeedEnd
  readonly follow: Follow
  #number = 0

  constructor(maxTopics = 100) {
    this.follow = new Follow({
      ownId: '1'.repeat(32),
      boot: BOOT,
      endpoint: 'memory',
      clock: this.clock,
      maxTopics,
      isPressed: () => false,
      dial: (_, on) => {
        this.end = new FeedNetwork().dial(on)
        return this.end
      },
      deliver: (topic, _record, generation, sequence) => this.got.push(`${topic} ${generation}.${sequence}`),
      gap: (topic, count, reason) => this.gaps.push([topic, count, reason]),
      report: (number, missed) => this.reports.push([number, missed]),
      confirmed: () => {},
      wants: () => true,
      stranger: () => this.strangers++,
      fault: (error) => this.faults.push(error),
    })
    this.follow.open()
    this.end.up()
  }

  listen(revision: number, ...patterns: string[]): void {
    this.follow.listen(FilterSet.of(patterns), revision)
  }

  batch(topic: string, generation: number, first: number, count: number, boot = BOOT): void {
    const writer = new Writer()
    beginFeedBatch(writer, Buffer.from(boot, 'hex'))
    for (let i = 0; i < count; i++) writeRecord(writer, payloadOf(first + i))
    const batch = writer.take()
    sealFeedBatch(batch, generation, ++this.#number, first, count)
    this.end.pipe.push([topicFrame(topic), batch])
    this.end.read()
  }

  answer(generation: number, ...tails: [topic: string, generation: number, last: number][]): void {
    const writer = new Writer()
    beginFeedBatch(writer, Buffer.from(BOOT, 'hex'), KIND.barrier)
    for (const [topic, of, last] of tails) writeTopicLast(writer, topicFrame(topic), of, last)
    const batch = writer.take()
    sealFeedBatch(batch, generation, ++this.#number, 1, tails.length)
    this.end.pipe.push([Buffer.from(this.end.barrier, 'latin1'), batch])
    this.end.read()
  }
}

const confirmed = (maxTopics?: number): Bench => {
  const at = new Bench(maxTopics)
  at.listen(1, '>')
  at.answer(5, ['a', 2, 3])
  return at
}

test('follow - it counts from the answer to its barrier on: what came before is not owed (G5)', () => {
  const at = confirmed()
  expect(at.follow.confirmedRevision).toBe(1)
  at.batch('a', 2, 6, 2)
  expect(at.got).toEqual(['a 2.6', 'a 2.7'])
  expect(at.gaps).toEqual([['a', 2, 'lost']])
})

test('follow - a beat tells of a lost last message, and of a topic that was lost as a whole (G5)', () => {
  const at = confirmed()
  at.batch('a', 2, 5, 0)
  at.batch('new', 6, 4, 0)
  at.batch('new', 6, 4, 0)
  expect(at.gaps).toEqual([
    ['a', 1, 'lost'],
    ['new', 3, 'lost'],
  ])
  expect(at.got).toEqual([])
})

test('follow - a barrier after a reset tells of a topic that was lost as a whole, too (G5)', () => {
  const at = confirmed()
  at.end.down()
  at.end.up()
  at.answer(7, ['a', 2, 4], ['new', 6, 9])
  at.answer(7, ['a', 2, 4], ['new', 6, 9])
  expect(at.gaps).toEqual([
    ['a', 1, 'lost'],
    ['new', 9, 'lost'],
  ])
})

test('follow - what comes twice is delivered once, also the half of a batch (G4)', () => {
  const at = confirmed()
  at.batch('a', 2, 4, 2)
  at.batch('a', 2, 4, 2)
  at.batch('a', 2, 5, 2)
  at.batch('a', 1, 1, 1)
  expect(at.got).toEqual(['a 2.4', 'a 2.5', 'a 2.6'])
  expect(at.gaps).toEqual([])
})

test('follow - under a new generation a topic begins at 1; the rest of the old one is lost uncounted, unless a beat had settled it', () => {
  const at = confirmed()
  at.batch('a', 2, 4, 1)
  at.batch('a', 6, 2, 1)
  at.batch('a', 6, 3, 0)
  at.batch('a', 7, 1, 1)
  expect(at.gaps).toEqual([
    ['a', undefined, 'evicted'],
    ['a', 1, 'lost'],
  ])
})

test('follow - a topic that it forgot to stay within maxTopics is not charged for what it received (G6)', () => {
  const at = confirmed(2)
  at.batch('x', 6, 1, 3)
  at.batch('y', 7, 1, 1)
  at.batch('z', 8, 1, 1)
  at.batch('x', 6, 4, 1)
  expect(at.got).toEqual(['x 6.1', 'x 6.2', 'x 6.3', 'y 7.1', 'z 8.1', 'x 6.4'])
  expect(at.gaps).toEqual([['x', undefined, 'evicted']])
})

test('follow - a topic given up and asked for again is not charged for the time between', () => {
  const at = confirmed()
  at.batch('x', 6, 1, 3)
  at.listen(2, 'a')
  at.listen(3, '>')
  at.batch('x', 6, 9, 1)
  expect(at.got).toContain('x 6.9')
  expect(at.gaps).toEqual([])
})

test('follow - a topic that passes under other filters all the while is counted all the while (G5)', () => {
  const at = confirmed()
  at.listen(2, 'x.*')
  at.batch('x.y', 6, 3, 1)
  expect(at.gaps).toEqual([['x.y', 2, 'lost']])
})

test('follow - an unanswered barrier is asked anew, later each time, and each is another', async () => {
  const at = new Bench()
  at.listen(1, '>')
  const seen = new Set([at.end.barrier])
  for (const ms of [250, 500, 1000]) {
    await at.clock.advance(ms - 1)
    expect(seen.has(at.end.barrier)).toBe(true)
    await at.clock.advance(1)
    expect(seen.has(at.end.barrier)).toBe(false)
    seen.add(at.end.barrier)
  }
  at.answer(1)
  await at.clock.advance(60_000)
  expect(seen.has(at.end.barrier)).toBe(true)
})

test('follow - it reports after so many batches, and when asked for a number, at once if that was read', () => {
  const at = confirmed()
  for (let i = 0; i < REPORT_BATCHES - 1; i++) at.batch('a', 2, 5 + i, 1)
  expect(at.reports).toEqual([[REPORT_BATCHES, 1]])
  at.follow.askedFor(3)
  expect(at.reports).toHaveLength(2)
  at.follow.askedFor(REPORT_BATCHES + 1)
  expect(at.reports).toHaveLength(2)
  at.batch('a', 2, 4 + REPORT_BATCHES, 1)
  expect(at.reports).toHaveLength(3)
})

test('follow - a batch of another boot is not taken; the publisher is a stranger', () => {
  const at = confirmed()
  at.batch('a', 2, 4, 1, 'c'.repeat(32))
  expect(at.strangers).toBe(1)
  expect(at.got).toEqual([])
})

test('follow - a goodbye is checked against its tails, a silent end leaves what was not settled uncounted (G5)', () => {
  const bye = confirmed()
  bye.follow.finish([
    { topic: 'a', generation: 2, last: 4 },
    { topic: 'new', generation: 6, last: 2 },
  ])
  expect(bye.gaps).toEqual([
    ['a', 1, 'lost'],
    ['new', 2, 'lost'],
  ])
  const lost = confirmed()
  lost.batch('b', 6, 1, 1)
  lost.follow.lost()
  expect(lost.gaps).toEqual([['b', undefined, 'publisher-lost']])
})

test('follow - records that end too early are MALFORMED, and what they should have held is a gap (G5)', () => {
  const at = confirmed()
  const writer = new Writer()
  beginFeedBatch(writer, Buffer.from(BOOT, 'hex'))
  writeRecord(writer, payloadOf(1))
  const batch = writer.take()
  sealFeedBatch(batch, 2, 9, 4, 3)
  at.end.pipe.push([topicFrame('a'), batch])
  let thrown: unknown
  try {
    at.end.read()
  } catch (error) {
    thrown = error
  }
  expect(isSkeinError(thrown, 'MALFORMED')).toBe(true)
  expect(at.got).toEqual(['a 2.4'])
  expect(at.gaps).toEqual([['a', 2, 'malformed']])
})
