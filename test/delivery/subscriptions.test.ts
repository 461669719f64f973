import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Gap, Message } from '../../src/delivery/message.ts'
import { Subscriptions } from '../../src/delivery/subscriptions.ts'
import { isSkeinError, type SkeinError } from '../../src/errors.ts'
import { receivedLocally } from '../../src/protocol/payload.ts'
import { matches } from '../../src/protocol/topics.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { payloadOf } from '../support/memory-feed.ts'

const ORIGIN = { id: 'a'.repeat(32), boot: 'b'.repeat(32) }
const OTHER = { id: 'c'.repeat(32), boot: 'd'.repeat(32) }

class Bench {
  readonly clock = new FakeClock()
  readonly gaps: Gap[] = []
  readonly faults: SkeinError[] = []
  changes = 0
  readonly subscriptions = new Subscriptions({
    clock: this.clock,
    changed: async () => void this.changes++,
    paced: () => {},
    withdrawn: () => {},
    gap: (gap) => this.gaps.push(gap),
    fault: (error) => this.faults.push(error),
  })
  #sequence = 0

  deliver(topic: string, value: unknown, settle?: (error?: SkeinError) => void, origin = ORIGIN): void {
    const record = receivedLocally(payloadOf(value))
    const message = new Message(topic, origin, 1, ++this.#sequence, record)
    this.subscriptions.hand({ kind: 'node', name: '' }, message, record, undefined, settle)
  }
}

/** A handler whose every call waits to be let go. */
const held = (): { handler: (value: unknown) => Promise<void>; got: unknown[]; release: () => void } => {
  const got: unknown[] = []
  const waiting: (() => void)[] = []
  return {
    got,
    handler: (value) => {
      got.push(value)
      return new Promise<void>((resolve) => waiting.push(resolve))
    },
    release: () => waiting.shift()?.(),
  }
}

test('subscriptions - each gets every message that matches, as a message of its own', () => {
  const at = new Bench()
  const got: unknown[][] = [[], [], []]
  for (const [i, pattern] of ['a.b', 'a.*', 'c'].entries()) {
    at.subscriptions.add(pattern, (value: unknown) => got[i]!.push(value), {})
  }
  at.deliver('a.b', { n: 1 })
  expect(got).toEqual([[{ n: 1 }], [{ n: 1 }], []])
  expect(got[0]![0]).not.toBe(got[1]![0])
})

test('subscriptions - one message at a time and in order, unless concurrency says otherwise (G4)', async () => {
  const at = new Bench()
  const one = held()
  const two = held()
  at.subscriptions.add('a', one.handler, {})
  at.subscriptions.add('a', two.handler, { concurrency: 2 })
  for (let i = 0; i < 4; i++) at.deliver('a', i)
  expect([one.got, two.got]).toEqual([[0], [0, 1]])
  for (let i = 0; i < 4; i++) {
    one.release()
    two.release()
    await at.clock.microtasks()
  }
  expect([one.got, two.got]).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ])
})

test('subscriptions - a full queue loses its oldest or the newest message, counts it and reports a gap (G5, G6)', async () => {
  const at = new Bench()
  const oldest = held()
  const newest = held()
  const first = at.subscriptions.add('a.*', oldest.handler, { queue: 2 })
  const second = at.subscriptions.add('a.*', newest.handler, { queue: 2, onOverflow: 'drop-newest' })
  for (let i = 0; i < 5; i++) at.deliver('a.b', i)
  at.deliver('a.c', 5, undefined, OTHER)
  // A handler that only awaits what is there has the whole turn to take them.
  expect([first.dropped, second.dropped]).toEqual([0, 0])
  await at.clock.endTurn()
  expect([first.dropped, first.pending, second.dropped, second.pending]).toEqual([3, 2, 3, 2])
  expect(at.gaps).toEqual([])
  await at.clock.advance(50)
  const gap = { publisher: ORIGIN.id, topic: 'a.b', reason: 'queue-full' }
  expect(at.gaps).toEqual([
    { ...gap, count: 5 },
    { ...gap, topic: 'a.c', publisher: OTHER.id, count: 1 },
  ])
  for (let i = 0; i < 3; i++) {
    oldest.release()
    newest.release()
    await at.clock.microtasks()
  }
  expect(oldest.got).toEqual([0, 4, 5])
  expect(newest.got).toEqual([0, 1, 2])
})

test('subscriptions - what was handled, dropped or left is what was offered, whatever the handler does (G5)', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        concurrency: fc.integer({ min: 1, max: 4 }),
        queue: fc.integer({ min: 1, max: 5 }),
        onOverflow: fc.constantFrom<'drop-oldest' | 'drop-newest'>('drop-oldest', 'drop-newest'),
      }),
      fc.array(fc.boolean(), { maxLength: 60 }),
      async (options, offers) => {
        const at = new Bench()
        const handler = held()
        const subscription = at.subscriptions.add('a', handler.handler, options)
        let offered = 0
        for (const offer of offers) {
          if (offer) at.deliver('a', offered++)
          else handler.release()
          await at.clock.endTurn()
          expect(subscription.pending).toBeLessThanOrEqual(options.queue)
        }
        for (let i = 0; i < offered; i++) {
          handler.release()
          await at.clock.microtasks()
        }
        expect(handler.got.length + subscription.dropped).toBe(offered)
        expect(handler.got).toEqual([...handler.got].sort((a, b) => Number(a) - Number(b)))
      },
    ),
    { numRuns: 100 },
  )
})

test('subscriptions - a handler that throws or rejects is reported with its topic, and all others are served', async () => {
  const at = new Bench()
  const got: unknown[] = []
  const settled: (SkeinError | undefined)[] = []
  const thrown = at.subscriptions.add(
    'a',
    () => {
      throw new Error('sync')
    },
    {},
  )
  await thrown.ready
  at.subscriptions.add('a', () => Promise.reject(new Error('async')), {})
  at.subscriptions.add('a', (value: unknown) => got.push(value), {})
  at.deliver('a', 1, (error) => settled.push(error))
  at.deliver('a', 2)
  await at.clock.microtasks()
  expect(got).toEqual([1, 2])
  expect(at.faults.map(({ code }) => code)).toEqual(Array(4).fill('HANDLER_FAILED'))
  expect(at.faults[0]!.message).toContain("topic 'a'")
  expect(at.faults[0]!.cause).toMatchObject({ message: 'sync' })
  expect(settled).toHaveLength(1)
  expect(isSkeinError(settled[0], 'HANDLER_FAILED')).toBe(true)
})

test('subscriptions - a sender that waits is told once all have handled it, at once where nobody wants it', async () => {
  const at = new Bench()
  const handler = held()
  let settled = 0
  at.deliver('a', 1, () => settled++)
  expect(settled).toBe(1)
  at.subscriptions.add('a', handler.handler, {})
  at.subscriptions.add('*', () => {}, {})
  at.deliver('a', 2, () => settled++)
  await at.clock.microtasks()
  expect(settled).toBe(1)
  handler.release()
  await at.clock.microtasks()
  expect(settled).toBe(2)
})

test('subscriptions - a loop gets the messages in order and ends when the subscription does', async () => {
  const at = new Bench()
  const subscription = at.subscriptions.add('a', undefined, {})
  const got: unknown[] = []
  const ended = (async () => {
    for await (const message of subscription) got.push(message.value)
  })()
  at.deliver('a', 1)
  at.deliver('a', 2)
  await at.clock.microtasks()
  expect(got).toEqual([1, 2])
  await subscription.unsubscribe()
  await ended
  at.deliver('a', 3)
  expect(got).toEqual([1, 2])
  expect(at.subscriptions.size).toBe(0)
})

test('subscriptions - asking for the next message acks this one, leaving the loop hands it back (G7)', async () => {
  const at = new Bench()
  const subscription = at.subscriptions.add('a', undefined, {})
  const settled: string[] = []
  for (let i = 0; i < 3; i++) at.deliver('a', i, (error) => settled.push(`${i} ${error?.code ?? 'ok'}`))
  for await (const message of subscription) if (message.value === 1) break
  expect(settled.sort()).toEqual(['0 ok', '1 CLOSED', '2 CLOSED'])
  expect(at.subscriptions.size).toBe(0)
})

test('subscriptions - a second loop, or one beside a handler, is refused', () => {
  const at = new Bench()
  const looped = at.subscriptions.add('a', undefined, {})
  void looped[Symbol.asyncIterator]().next()
  expect(() => looped[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
  const handled = at.subscriptions.add('a', () => {}, {})
  expect(() => handled[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
})

test('subscriptions - after unsubscribe nothing more is handled, what waits is given back, what runs is let finish', async () => {
  const at = new Bench()
  const handler = held()
  const settled: string[] = []
  const subscription = at.subscriptions.add('a', handler.handler, {})
  for (let i = 0; i < 2; i++) at.deliver('a', i, (error) => settled.push(`${i} ${error?.code ?? 'ok'}`))
  await subscription.unsubscribe()
  await subscription.unsubscribe()
  at.deliver('a', 2, (error) => settled.push(`2 ${error?.code ?? 'ok'}`))
  expect(settled).toEqual(['1 CLOSED', '2 NO_SUBSCRIBERS'])
  handler.release()
  await at.clock.microtasks()
  expect(settled).toEqual(['1 CLOSED', '2 NO_SUBSCRIBERS', '0 ok'])
  expect(handler.got).toEqual([0])
})

test('subscriptions - own messages go only to those that want the echo', () => {
  const at = new Bench()
  const got: string[] = []
  at.subscriptions.add('a', () => got.push('with'), {})
  at.subscriptions.add('a', () => got.push('without'), { echo: false })
  at.subscriptions.echo('a', ORIGIN, 1, receivedLocally(payloadOf(1)))
  expect(got).toEqual(['with'])
})

test('subscriptions - what they ask of peers covers every match, and follows each change', async () => {
  const at = new Bench()
  const one = at.subscriptions.add('a.*', () => {}, {})
  at.subscriptions.add('b.>', () => {}, {})
  at.subscriptions.add('b.>', () => {}, {})
  expect(at.subscriptions.patterns().sort()).toEqual(['a.*', 'b.>'])
  for (const topic of ['a.x', 'b.x.y']) {
    expect(at.subscriptions.match(topic).every(({ pattern }) => matches(pattern, topic))).toBe(true)
    expect(at.subscriptions.filters().passesTopic(topic)).toBe(true)
  }
  expect(at.subscriptions.match('b.x')).toHaveLength(2)
  await at.clock.microtasks()
  const before = at.changes
  await one.unsubscribe()
  expect(at.changes).toBe(before + 1)
  expect(at.subscriptions.match('a.x')).toEqual([])
  expect(at.subscriptions.filters().passesTopic('a.x')).toBe(false)
})

test('subscriptions - closing ends all of them and reports what was dropped last', async () => {
  const at = new Bench()
  at.subscriptions.add('a', () => new Promise(() => {}), { queue: 1 })
  for (let i = 0; i < 3; i++) at.deliver('a', i)
  await at.subscriptions.close()
  expect(at.gaps).toMatchObject([{ topic: 'a', count: 1 }])
  expect(at.subscriptions.size).toBe(0)
})

test('subscriptions - a message knows where it comes from, and every one has an id of its own', () => {
  const at = new Bench()
  const seen: Message[] = []
  at.subscriptions.add('a', (_: unknown, message: Message) => seen.push(message), {})
  at.deliver('a', 1)
  at.deliver('a', 1)
  expect(
    seen.map(({ from, topic, attempt, redelivered, headers }) => ({
      from,
      topic,
      attempt,
      redelivered,
      headers,
    })),
  ).toEqual(Array(2).fill({ from: ORIGIN.id, topic: 'a', attempt: 1, redelivered: false, headers: {} }))
  expect(new Set(seen.map(({ id }) => id)).size).toBe(2)
})
