import { expect, test } from 'vitest'
import type { Message, Reply, SkeinError } from '../../src/index.ts'
import { collect, errorOf, eventually, gate, mesh, meshName, start } from '../support/mesh.ts'

const never = (): Promise<never> => new Promise(() => {})

/** How long a call took to fail, and with what. */
const failing = async (call: () => Promise<unknown>): Promise<{ error: SkeinError; ms: number }> => {
  const startedAt = performance.now()
  const error = await errorOf(call)
  return { error, ms: performance.now() - startedAt }
}

test('request - values of every kind go there and back, with headers beside them', async () => {
  const [a, b] = await mesh(2)
  const messages: Message[] = []
  await b.respond('echo', async (query, message) => {
    messages.push(message)
    return query
  }).ready
  const values = [
    undefined,
    null,
    0,
    1.5,
    'text',
    '',
    Buffer.from('bytes'),
    [1, { a: 'b' }],
    new Date(5),
    2n ** 60n,
  ]
  for (const value of values) expect(await a.request('echo', value)).toStrictEqual(value)
  await a.request('echo', 1, { headers: { trace: 't1' } })
  expect(messages.at(-1)!.headers).toEqual({ trace: 't1' })
  expect(messages.at(-1)).toMatchObject({ topic: 'echo', from: a.id, attempt: 1, redelivered: false })
})

test('request - what a handler throws arrives as code and message, never with its stack or properties', async () => {
  const [a, b] = await mesh(2)
  await b.respond('fail', async () => {
    throw Object.assign(new Error('no such sku'), { code: 'NO_SKU', secret: 'hunter2' })
  }).ready
  await b.respond('plain', () => {
    throw 'only a text'
  }).ready
  const error = await errorOf(() => a.request('fail'))
  expect(error).toMatchObject({
    code: 'REMOTE_ERROR',
    remoteCode: 'NO_SKU',
    mayHaveRun: true,
    retryable: false,
  })
  expect(error.message).toMatch(/'fail'.*no such sku/)
  expect(JSON.stringify([Object.entries(error), error.message])).not.toContain('hunter2')
  expect(error.message).not.toMatch(/\bat .*\.ts/)
  expect(await errorOf(() => a.request('plain'))).toMatchObject({ remoteCode: 'ERROR' })
})

test('request - nobody responds: NO_RESPONDER at once, and it has not run', async () => {
  const [a, b] = await mesh(2)
  await b.respond('other', () => 1).ready
  const { error, ms } = await failing(() => a.request('missing', 1, { timeoutMs: 10_000 }))
  expect(error).toMatchObject({ code: 'NO_RESPONDER', mayHaveRun: false, retryable: true })
  expect(ms).toBeLessThan(1000)
  const alone = await start()
  expect((await errorOf(() => alone.request('missing'))).code).toBe('NO_RESPONDER')
})

test('request - waitMs waits for a responder to appear, on a peer, a new node, or this one', async () => {
  const [a, b] = await mesh(2)
  const asked = a.request('late', 1, { waitMs: 8000, timeoutMs: 10_000 })
  b.respond('late', (query) => query + 1)
  expect(await asked).toBe(2)
  const later = a.request('later', 1, { waitMs: 8000, timeoutMs: 10_000 })
  const c = await start({ mesh: a.mesh })
  c.respond('later', (query) => query + 2)
  expect(await later).toBe(3)
  const own = a.request('own', 1, { waitMs: 8000, timeoutMs: 10_000 })
  a.respond('own', (query) => query + 3)
  expect(await own).toBe(4)
  const { error } = await failing(() => a.request('nobody', 1, { waitMs: 30 }))
  expect(error.code).toBe('NO_RESPONDER')
})

test('request - the deadline travels: both sides end by it (G7)', async () => {
  const [a, b] = await mesh(2)
  const aborted = gate()
  await b.respond('slow', (_, { signal }) => {
    signal.addEventListener('abort', aborted.open)
    return never()
  }).ready
  const { error, ms } = await failing(() => a.request('slow', 1, { timeoutMs: 150 }))
  expect(error).toMatchObject({ code: 'REQUEST_TIMEOUT', mayHaveRun: true, retryable: true })
  expect(error.message).toMatch(/'slow'.*'n1'.*150 ms/)
  expect(ms).toBeLessThan(2000)
  await aborted.passed
})

test('request - the stack of a timeout names the caller', async () => {
  const [a, b] = await mesh(2)
  await b.respond('slow', never).ready
  const priceOfAnOrder = async (): Promise<unknown> => {
    return await a.request('slow', 1, { timeoutMs: 20 })
  }
  expect((await errorOf(priceOfAnOrder)).stack).toMatch(/priceOfAnOrder/)
})

test('request - an abort ends it with its reason at once, and reaches the handler', async () => {
  const [a, b] = await mesh(2)
  const aborted = gate()
  const running = gate()
  await b.respond('slow', (_, { signal }) => {
    running.open()
    signal.addEventListener('abort', aborted.open)
    return never()
  }).ready
  const controller = new AbortController()
  const reason = new Error('not wanted any more')
  const asked = a.request('slow', 1, { signal: controller.signal, timeoutMs: 15_000 })
  await running.passed
  controller.abort(reason)
  await expect(asked).rejects.toBe(reason)
  await aborted.passed
  await expect(a.request('slow', 1, { signal: controller.signal })).rejects.toBe(reason)
  expect(a.stats().requestsPending).toBe(0)
})

test('request - a busy responder is passed over, and BUSY when all are', async () => {
  const [a, b, c, d] = await mesh(4)
  const held = gate()
  const served: string[] = []
  for (const node of [b, c]) {
    await node.respond(
      'work',
      async (query) => {
        if (query === 'hold') await held.passed
        served.push(node.name)
        return node.name
      },
      { concurrency: 1, queue: 0 },
    ).ready
  }
  const holding = d.request('work', 'hold', { to: b.id })
  await eventually(() => b.stats().load === 1)
  for (let i = 0; i < 6; i++) expect(await a.request('work', i)).toBe(c.name)
  const also = d.request('work', 'hold', { to: c.id })
  await eventually(() => c.stats().load === 1)
  const { error, ms } = await failing(() => a.request('work', 'more', { timeoutMs: 10_000 }))
  expect(error).toMatchObject({ code: 'BUSY', mayHaveRun: false, retryable: true })
  expect(ms).toBeLessThan(1000)
  held.open()
  expect(await Promise.all([holding, also])).toEqual([b.name, c.name])
  expect(served).toHaveLength(8)
})

test('request - the least loaded of several answers, so a slow one gets fewer', async () => {
  const [a, b, c] = await mesh(3)
  const held = gate()
  await b.respond('work', async () => {
    await held.passed
    return b.name
  }).ready
  await c.respond('work', async () => c.name).ready
  const asked: Promise<string>[] = []
  const done: string[] = []
  for (let i = 0; i < 40; i++) {
    const one = a.request<string>('work', i)
    asked.push(one)
    void one.then((name) => done.push(name))
    if (i % 4 === 3) await eventually(() => a.stats().requestsPending <= 2 + Math.min(4, i))
  }
  await eventually(() => done.length + b.stats().load === 40)
  held.open()
  const answered = await Promise.all(asked)
  const slow = answered.filter((name) => name === b.name).length
  expect(slow).toBeGreaterThan(0)
  expect(slow).toBeLessThan(20)
})

test('request - idle responders take turns, and `to` picks one', async () => {
  const [a, b, c] = await mesh(3)
  for (const node of [b, c]) await node.respond('who', () => node.name).ready
  const answers = new Set<string>()
  for (let i = 0; i < 4; i++) answers.add(await a.request('who'))
  expect(answers).toEqual(new Set([b.name, c.name]))
  for (let i = 0; i < 4; i++) expect(await a.request('who', i, { to: c.id })).toBe(c.name)
  const unknown = await errorOf(() => a.request('who', 1, { to: 'f'.repeat(32) }))
  expect(unknown).toMatchObject({ code: 'PEER_UNKNOWN', mayHaveRun: false })
  expect((await errorOf(() => b.request('who', 1, { to: a.id }))).code).toBe('NO_RESPONDER')
})

test('request - the own responder answers, with a decoded copy and in a later turn', async () => {
  const node = await start()
  let ran = false
  const seen: unknown[] = []
  node.respond('own', (query) => {
    ran = true
    seen.push(query)
    query.list.push(2)
    return query
  })
  const query = { list: [1] }
  const asked = node.request('own', query)
  expect(ran).toBe(false)
  const reply = await asked
  expect(reply).toEqual({ list: [1, 2] })
  expect(query).toEqual({ list: [1] })
  expect(reply).not.toBe(seen[0])
  node.respond('bad', () => Promise.reject(Object.assign(new Error('no'), { code: 'NO' })))
  expect(await errorOf(() => node.request('bad'))).toMatchObject({ code: 'REMOTE_ERROR', remoteCode: 'NO' })
})

const all = async (replies: AsyncIterable<Reply>): Promise<Reply[]> => {
  const gathered: Reply[] = []
  for await (const reply of replies) gathered.push(reply)
  return gathered
}

test('requestMany - yields a reply or error of each, and ends when all have answered', async () => {
  const [a, b, c, d] = await mesh(4)
  await b.respond('count', () => 1).ready
  await c.respond('count', () => Promise.reject(Object.assign(new Error('broken'), { code: 'BROKEN' }))).ready
  await d.respond('count', async () => 3).ready
  a.respond('count', () => 0)
  const startedAt = performance.now()
  const replies = await all(a.requestMany('count', 1, { timeoutMs: 15_000 }))
  expect(performance.now() - startedAt).toBeLessThan(5000)
  const by = new Map(replies.map((reply) => [reply.from, reply]))
  expect([a, b, d].map((node) => by.get(node.id)?.value)).toEqual([0, 1, 3])
  expect(by.get(c.id)?.error).toMatchObject({ code: 'REMOTE_ERROR', remoteCode: 'BROKEN' })
  expect(replies).toHaveLength(4)
})

test('requestMany - ends at the timeout with what came, or at max, and tells the others to stop', async () => {
  const [a, b, c] = await mesh(3)
  const aborted = gate()
  let running = 0
  await b.respond('count', () => 1).ready
  await c.respond('count', (_, { signal }) => {
    running++
    signal.addEventListener('abort', aborted.open)
    return never()
  }).ready
  expect(await all(a.requestMany('count', 1, { timeoutMs: 200 }))).toEqual([{ from: b.id, value: 1 }])
  await aborted.passed
  const startedAt = performance.now()
  expect(await all(a.requestMany('count', 1, { timeoutMs: 15_000, max: 1 }))).toHaveLength(1)
  expect(performance.now() - startedAt).toBeLessThan(5000)
  await eventually(() => running === 2)
  expect(a.stats().requestsPending).toBe(0)
  expect((await errorOf(() => all(a.requestMany('nobody')))).code).toBe('NO_RESPONDER')
})

test('requestMany - an abort ends it with its reason', async () => {
  const [a, b] = await mesh(2)
  await b.respond('count', never).ready
  const controller = new AbortController()
  const reason = new Error('enough')
  const gathered = all(a.requestMany('count', 1, { timeoutMs: 15_000, signal: controller.signal }))
  await eventually(() => a.stats().requestsPending === 1)
  controller.abort(reason)
  await expect(gathered).rejects.toBe(reason)
})

test('request - 10,000 in flight are all answered, each with its own reply', async () => {
  const [a, b] = await mesh(2)
  const held = gate()
  await b.respond('double', async (query) => {
    await held.passed
    return 2 * query
  }).ready
  const asked = Array.from({ length: 10_000 }, (_, i) =>
    a.request<number>('double', i, { timeoutMs: 15_000 }),
  )
  await eventually(() => b.stats().load === 10_000)
  expect(a.stats().requestsPending).toBe(10_000)
  held.open()
  expect(await Promise.all(asked)).toEqual(Array.from({ length: 10_000 }, (_, i) => 2 * i))
  expect([a.stats().requestsPending, b.stats().load]).toEqual([0, 0])
})

test('respond - a closed responder: NO_RESPONDER, also for what waits there and what is under way', async () => {
  const [a, b] = await mesh(2)
  const held = gate()
  const responder = b.respond('work', () => held.passed.then(() => 'done'), { concurrency: 1 })
  await responder.ready
  const running = a.request('work', 1)
  const waiting = errorOf(() => a.request('work', 2))
  await eventually(() => b.stats().load === 2)
  const closed = responder.close()
  const underWay = errorOf(() => a.request('work', 3))
  for (const error of [await waiting, await underWay])
    expect(error).toMatchObject({ code: 'NO_RESPONDER', mayHaveRun: false })
  held.open()
  expect(await running).toBe('done')
  await closed
  expect((await errorOf(() => a.request('work', 4))).code).toBe('NO_RESPONDER')
})

test('respond - a second responder of one name on one node is refused, until the first is closed', async () => {
  const node = await start()
  const first = node.respond('name', () => 1)
  expect(() => node.respond('name', () => 2)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
  await first.close()
  node.respond('name', () => 2)
  expect(await node.request('name')).toBe(2)
})

test('request - too large a question is refused here, too large a reply fails there, and both name the limit', async () => {
  const [a, b] = await mesh(2)
  await b.respond('size', (query) => Buffer.alloc(query)).ready
  const question = await errorOf(() => a.request('size', Buffer.alloc(1024 * 1024 + 1)))
  expect(question).toMatchObject({ code: 'VALUE_TOO_LARGE', mayHaveRun: false })
  const reply = await errorOf(() => a.request('size', 1024 * 1024 + 1))
  expect(reply).toMatchObject({ code: 'REMOTE_ERROR', remoteCode: 'VALUE_TOO_LARGE', mayHaveRun: true })
  for (const { message } of [question, reply]) expect(message).toMatch(/1048577.*1048576/)
  expect(await a.request('size', 1024 * 1024)).toHaveLength(1024 * 1024)
})

test('close - ends pending requests in CLOSED, which may have run', async () => {
  const [a, b] = await mesh(2)
  await b.respond('slow', never).ready
  const asked = failing(() => a.request('slow', 1, { timeoutMs: 15_000 }))
  await eventually(() => b.stats().load === 1)
  expect(await a.close()).toEqual({ unsettled: 1 })
  const { error } = await asked
  expect(error).toMatchObject({ code: 'CLOSED', mayHaveRun: true })
})

test('request - a responder that closes meanwhile: PEER_LOST at once, not at the timeout (G7)', async () => {
  const [a, b] = await mesh(2)
  await b.respond('slow', never).ready
  const asked = failing(() => a.request('slow', 1, { timeoutMs: 15_000 }))
  await eventually(() => b.stats().load === 1)
  await b.close()
  const { error, ms } = await asked
  expect(error).toMatchObject({ code: 'PEER_LOST', mayHaveRun: true })
  expect(ms).toBeLessThan(3000)
})

test('request - a handler may ask back, and publish to the asker, without a deadlock', async () => {
  const name = meshName()
  const [a, b] = [await start({ mesh: name }), await start({ mesh: name })]
  await a.waitForPeers(1)
  const { values } = await collect(a, 'progress')
  await a.respond('rate', () => 3).ready
  await b.respond('price', async (query) => {
    await b.publish('progress', 'half')
    return query * (await b.request('rate'))
  }).ready
  expect(await a.request('price', 7)).toBe(21)
  await eventually(() => values.length === 1)
})
