import { expect, test } from 'vitest'
import type { Message, Node } from '../../src/index.ts'
import {
  collect,
  errorOf,
  eventually,
  gapsOf,
  gate,
  hasSubscriber,
  mesh,
  missedBy,
  start,
  warningsOf,
} from '../support/mesh.ts'

test('publish - a callback gets the value and the message', async () => {
  const [a, b] = await mesh(2)
  const { messages, values } = await collect(b, 'sensors.kitchen')
  await a.publish('sensors.kitchen', { c: 21.5 }, { headers: { unit: 'celsius', ort: 'Küche' } })
  await a.publish('sensors.kitchen', { c: 22 })
  await eventually(() => values.length === 2)
  expect(values).toEqual([{ c: 21.5 }, { c: 22 }])
  const [first, second] = messages as [Message, Message]
  expect(first.topic).toBe('sensors.kitchen')
  expect(first.from).toBe(a.id)
  expect(first.headers).toEqual({ unit: 'celsius', ort: 'Küche' })
  expect(second.headers).toEqual({})
  expect([first.attempt, first.redelivered, first.key]).toEqual([1, false, undefined])
  expect(first.signal.aborted).toBe(false)
  expect(first.id).not.toBe(second.id)
})

test('publish - message ids are unique, whatever the node, topic and road', async () => {
  const [a, b] = await mesh(2)
  const { messages } = await collect(b, '>')
  for (const topic of ['x', 'y'])
    for (let i = 0; i < 10; i++) await Promise.all([a.publish(topic, i), b.publish(topic, i)])
  await a.publish('x', Buffer.alloc(300 * 1024))
  await a.publish('y', Buffer.alloc(300 * 1024))
  await eventually(() => messages.length === 42)
  expect(new Set(messages.map((message) => message.id)).size).toBe(42)
})

test('subscribe - an iterator yields in order and ends the subscription when it is left', async () => {
  const [a, b] = await mesh(2)
  const subscription = b.subscribe<number>('count')
  await subscription.ready
  for (let i = 0; i < 5; i++) await a.publish('count', i)
  const values: number[] = []
  for await (const message of subscription) {
    values.push(message.value)
    if (values.length === 3) break
  }
  expect(values).toEqual([0, 1, 2])
  await eventually(async () => !(await hasSubscriber(a, 'count')))
})

test('subscribe - a second loop over one subscription, and a loop over one with a handler, are refused', async () => {
  const node = await start()
  const looped = node.subscribe('a')
  const first = looped[Symbol.asyncIterator]()
  void first.next()
  expect((await errorOf(() => looped[Symbol.asyncIterator]().next())).code).toBe('OPTION_INVALID')
  const handled = node.subscribe('b', () => {})
  expect((await errorOf(() => handled[Symbol.asyncIterator]().next())).code).toBe('OPTION_INVALID')
})

test('subscribe - * stands for one level, a last > for one or more', async () => {
  const [a, b] = await mesh(2)
  const patterns = ['s.*.temp', 's.>', 's.k.temp', '>', '*', 's.k']
  const collected = await Promise.all(patterns.map((pattern) => collect(b, pattern)))
  const topics = ['s', 's.k', 's.k.temp', 's.k.temp.min', 'sk', 's.b.temp']
  for (const topic of topics) await a.publish(topic, topic)
  await eventually(() => collected[3]!.values.length === topics.length)
  const got = Object.fromEntries(patterns.map((pattern, i) => [pattern, collected[i]!.values]))
  expect(got).toEqual({
    's.*.temp': ['s.k.temp', 's.b.temp'],
    's.>': ['s.k', 's.k.temp', 's.k.temp.min', 's.b.temp'],
    's.k.temp': ['s.k.temp'],
    '>': topics,
    '*': ['s', 'sk'],
    's.k': ['s.k'],
  })
})

test('subscribe - several subscriptions of one node each get a value of their own', async () => {
  const [a, b] = await mesh(2)
  const first = await collect(b, 'v')
  const second = await collect(b, 'v')
  await a.publish('v', { list: [1], bytes: Buffer.from('abc') })
  await eventually(() => first.values.length === 1 && second.values.length === 1)
  const seen = first.values[0] as { list: number[]; bytes: Buffer }
  seen.list.push(2)
  seen.bytes.fill(0)
  expect(second.values[0]).toEqual({ list: [1], bytes: Buffer.from('abc') })
})

test('subscribe - own messages arrive as copies, in a later turn, and not with echo: false', async () => {
  const [a, b] = await mesh(2)
  const own = await collect(a, 'v')
  const silent = await collect(a, 'v', { echo: false })
  const value = { list: [1] }
  const done = a.publish('v', value)
  expect(own.values).toEqual([])
  value.list.push(2)
  await done
  await b.publish('v', 'from b')
  await eventually(() => own.values.length === 2 && silent.values.length === 1)
  expect(own.values).toEqual([{ list: [1] }, 'from b'])
  expect(silent.values).toEqual(['from b'])
  expect(own.messages[0]!.from).toBe(a.id)
})

test('unsubscribe - ends one subscription and leaves others of the same pattern', async () => {
  const [a, b] = await mesh(2)
  const gone = await collect(b, 'v')
  const kept = await collect(b, 'v')
  await a.publish('v', 1)
  await eventually(() => gone.values.length === 1 && kept.values.length === 1)
  await gone.subscription.unsubscribe()
  await gone.subscription.unsubscribe()
  await a.publish('v', 2)
  await eventually(() => kept.values.length === 2)
  expect(gone.values).toEqual([1])
})

test('publish - order holds per publisher and topic over 20,000 messages of concurrent publishers (G4)', async () => {
  const [a, b, c] = await mesh(3)
  const { messages } = await collect(c, 'order.*')
  const run = async (node: Node, topic: string): Promise<void> => {
    for (let i = 0; i < 5000; i++) await node.publish(topic, i)
  }
  await Promise.all([a, b].flatMap((node) => [run(node, 'order.x'), run(node, 'order.y')]))
  await eventually(() => messages.length + missedBy(c) >= 20_000)
  expect(gapsOf(c)).toEqual([])
  for (const { id } of [a, b]) {
    for (const topic of ['order.x', 'order.y']) {
      const run = messages.filter((message) => message.from === id && message.topic === topic)
      expect(run.map((message) => message.value)).toEqual(Array.from({ length: 5000 }, (_, i) => i))
    }
  }
})

test('publish - 2,000 topics by turns arrive complete and each in order', async () => {
  const [a, b] = await mesh(2)
  const seen = new Map<string, unknown[]>()
  const subscription = b.subscribe('topic.>', (value, { topic }) => {
    if (!seen.has(topic)) seen.set(topic, [])
    seen.get(topic)!.push(value)
  })
  await subscription.ready
  for (let round = 0; round < 3; round++) for (let i = 0; i < 2000; i++) await a.publish(`topic.${i}`, round)
  const received = (): number => [...seen.values()].reduce((total, { length }) => total + length, 0)
  // On a busy machine a subscriber may fall behind for longer than the patience: then it is told what it missed.
  await eventually(() => received() + missedBy(b) === 6000)
  for (const values of seen.values())
    expect(values).toEqual([0, 1, 2].filter((round) => values.includes(round)))
  if (missedBy(b) === 0) expect([seen.size, received()]).toEqual([2000, 6000])
})

test('subscription.ready - what is published from then on arrives, 30 of 30', async () => {
  const [a, b] = await mesh(2)
  for (let round = 0; round < 30; round++) {
    const { values } = await collect(b, `round.${round}`)
    await a.publish(`round.${round}`, round)
    await eventually(() => values.length === 1)
  }
})

test('waitForSubscribers - counts nodes, so both subscribers of one prefix get the first message, 30 of 30', async () => {
  const [a, b, c] = await mesh(3)
  for (let round = 0; round < 30; round++) {
    const topic = `round.${round}`
    const got: string[] = []
    b.subscribe(topic, () => void got.push('b'))
    b.subscribe(topic, () => void got.push('b again'))
    c.subscribe(topic, () => void got.push('c'))
    await a.waitForSubscribers(topic, { count: 2 })
    await a.publish(topic, round)
    await eventually(() => got.length === 3)
  }
})

test('waitForSubscribers - a publisher that comes last reaches both with its first message, 30 of 30', async () => {
  const [b, c] = await mesh(2)
  const collected = [await collect(b, 'news.>'), await collect(c, 'news.>')]
  for (let round = 0; round < 30; round++) {
    const late = await start({ mesh: b.mesh })
    await late.waitForSubscribers('news.today', { count: 2 })
    await late.publish('news.today', round)
    await eventually(() => collected.every(({ values }) => values.at(-1) === round))
    await late.close()
  }
})

test('waitForSubscribers - names what is missing when the time is over', async () => {
  const [a, b] = await mesh(2)
  await collect(b, 'x')
  const error = await errorOf(() => a.waitForSubscribers('x', { count: 2, timeoutMs: 50 }))
  expect(error).toMatchObject({ code: 'WAIT_TIMEOUT', message: expect.stringMatching(/1 of 2.*'x'/) })
})

const overflow = async (onOverflow: 'drop-oldest' | 'drop-newest') => {
  const [a, b] = await mesh(2)
  const held = gate()
  const values: unknown[] = []
  const subscription = b.subscribe(
    'v',
    async (value) => {
      values.push(value)
      await held.passed
    },
    { queue: 10, onOverflow },
  )
  const beside = await collect(b, 'v')
  await subscription.ready
  for (let i = 1; i <= 100; i++) await a.publish('v', i)
  await eventually(() => beside.values.length === 100 && missedBy(b) === 89)
  held.open()
  await eventually(() => values.length === 11)
  expect(subscription.dropped).toBe(89)
  for (const gap of gapsOf(b))
    expect(gap).toMatchObject({ publisher: a.id, topic: 'v', reason: 'queue-full' })
  return values
}

const from = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i)

test('subscribe - a full queue drops its oldest, and gaps count exactly what was lost (G5, G6)', async () => {
  expect(await overflow('drop-oldest')).toEqual([1, ...from(91, 100)])
})

test('subscribe - drop-newest keeps what waits, and gaps count exactly what was lost (G5, G6)', async () => {
  expect(await overflow('drop-newest')).toEqual(from(1, 11))
})

test('subscribe - a loop that is not read keeps as many as its queue holds', async () => {
  const [a, b] = await mesh(2)
  const subscription = b.subscribe('v', { queue: 5 })
  await subscription.ready
  for (let i = 1; i <= 20; i++) await a.publish('v', i)
  await eventually(() => missedBy(b) === 15)
  const values: unknown[] = []
  for await (const { value } of subscription) if (values.push(value) === 5) break
  expect(values).toEqual(from(16, 20))
  expect(subscription.dropped).toBe(15)
})

test('subscribe - one message at a time unless concurrency says otherwise', async () => {
  const [a, b] = await mesh(2)
  const most = async (concurrency: number | undefined): Promise<number> => {
    let running = 0
    let peak = 0
    let done = 0
    const handler = async (): Promise<void> => {
      peak = Math.max(peak, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      done++
    }
    const subscription = b.subscribe('v', handler, concurrency === undefined ? {} : { concurrency })
    await subscription.ready
    for (let i = 0; i < 20; i++) await a.publish('v', i)
    await eventually(() => done === 20)
    await subscription.unsubscribe()
    return peak
  }
  expect(await most(undefined)).toBe(1)
  expect(await most(4)).toBe(4)
})

test('subscribe - a handler that throws is reported, and others are served', async () => {
  const [a, b] = await mesh(2)
  for (const fail of [
    () => {
      throw new Error('sync trouble')
    },
    async () => {
      throw new Error('async trouble')
    },
  ])
    await b.subscribe('v', fail).ready
  const { values } = await collect(b, 'v')
  await a.publish('v', 1)
  await a.publish('v', 2)
  await eventually(() => values.length === 2 && warningsOf(b).length === 4)
  for (const { code, text } of warningsOf(b)) {
    expect(code).toBe('HANDLER_FAILED')
    expect(text).toMatch(/subscription 'v'.*topic 'v'.*trouble/)
  }
})

test('publish - who never waits is refused OUTBOX_FULL, and what was accepted arrives or is a gap (G5, G6)', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'v')
  const settled = await Promise.allSettled(
    Array.from({ length: 120 }, (_, i) => a.publish('v', Buffer.alloc(200 * 1024, i))),
  )
  const refused = settled.filter((result) => result.status === 'rejected')
  expect(refused.length).toBeGreaterThan(30)
  for (const { reason } of refused) expect(reason).toMatchObject({ code: 'OUTBOX_FULL', retryable: true })
  expect(a.stats().refused).toBe(refused.length)
  await eventually(() => values.length + missedBy(b) === 120 - refused.length)
  await a.publish('v', 'goes on')
  await eventually(() => values.at(-1) === 'goes on')
})

test('publish - without any subscriber it costs nothing and resolves', async () => {
  const node = await start()
  for (let i = 0; i < 1000; i++) await node.publish('nobody.hears', Buffer.alloc(100 * 1024))
  expect(node.stats()).toMatchObject({ published: 1000, queuedBytes: 0, batches: 0 })
})
