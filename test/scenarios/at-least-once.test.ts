import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Message, type Node, Reject, RetryLater } from '../../src/index.ts'
import { errorOf, eventually, mesh, meshName, start, warningsOf } from '../support/mesh.ts'

const OWED = { delivery: 'at-least-once' } as const

const directory = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'skein-owed-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** Work that is done when the test lets it be. */
const held = () => {
  const got: unknown[] = []
  const waiting: (() => void)[] = []
  return {
    got,
    handler: (value: unknown) => {
      got.push(value)
      return new Promise<void>((resolve) => waiting.push(resolve))
    },
    release: () => {
      for (const resolve of waiting.splice(0)) resolve()
    },
  }
}

const owing = async (node: Node, count: number): Promise<void> =>
  eventually(() => node.stats().owed === count)

test('push - work that nobody has ever pulled waits for the first worker (G2)', async () => {
  const [a, b] = await mesh(2)
  const receipt = await a.push('resize', { image: 1 })
  expect(receipt.addressees).toEqual([{ kind: 'queue', name: 'resize' }])
  expect(receipt.durability).toBe('memory')
  const messages: Message[] = []
  b.pull('resize', (_, message) => void messages.push(message))
  expect(await receipt.settled).toEqual([{ kind: 'queue', name: 'resize', outcome: 'handled', by: b.id }])
  expect(messages[0]).toMatchObject({ topic: 'resize', id: receipt.id, from: a.id, attempt: 1 })
  expect(messages[0]!.redelivered).toBe(false)
  await owing(a, 0)
})

test('push - a node works off its own queue, too', async () => {
  const node = await start()
  const got: unknown[] = []
  node.pull('own', (value) => void got.push(value))
  const receipts = await Promise.all([1, 2, 3].map((n) => node.push('own', n)))
  await Promise.all(receipts.map((receipt) => receipt.settled))
  expect(got).toEqual([1, 2, 3])
})

test('push - each item goes to one worker; of two the idle one gets the next (G3)', async () => {
  const [a, b, c] = await mesh(3)
  const slow = held()
  const fast: unknown[] = []
  b.pull('jobs', slow.handler)
  c.pull('jobs', (value) => void fast.push(value))
  await eventually(() => a.peers.every(({ state }) => state === 'up'))
  const receipts = await Promise.all(Array.from({ length: 40 }, (_, n) => a.push('jobs', n)))
  await eventually(() => fast.length >= 36)
  slow.release()
  await eventually(() => {
    slow.release()
    return slow.got.length + fast.length === 40
  })
  await Promise.all(receipts.map((receipt) => receipt.settled))
  expect([...slow.got, ...fast].sort((one, other) => Number(one) - Number(other))).toEqual(
    Array.from({ length: 40 }, (_, n) => n),
  )
})

test('pull - a handler that throws gets the message again, flagged, and after maxAttempts it is a dead letter', async () => {
  const mesh = meshName()
  const a = await start({ mesh, maxAttempts: 2 })
  const b = await start({ mesh })
  const letters: unknown[] = []
  const there: unknown[] = []
  a.on('dead-letter', (letter) => letters.push(letter))
  b.on('dead-letter', (letter) => there.push(letter))
  let isBroken = true
  const seen: [number, boolean][] = []
  b.pull('jobs', (_, message) => {
    seen.push([message.attempt, message.redelivered])
    if (isBroken) throw new Error('the disk is on fire')
  })
  const receipt = await a.push('jobs', { n: 1 }, { headers: { trace: 'x' }, key: 'k' })
  const [outcome] = await receipt.settled
  expect(outcome).toMatchObject({ outcome: 'dead', by: b.id, error: 'HANDLER_FAILED: the disk is on fire' })
  expect(seen).toEqual([
    [1, false],
    [2, true],
  ])
  const [letter] = await a.deadLetters.list()
  expect(letters).toEqual([letter])
  expect(letter).toMatchObject({
    messageId: receipt.id,
    topic: 'jobs',
    addressee: { kind: 'queue', name: 'jobs' },
    key: 'k',
    headers: { trace: 'x' },
    value: { n: 1 },
    reason: 'attempts',
    attempts: 2,
  })
  const { id: _, acceptedAt: __, diedAt, ...known } = letter!
  expect(there, 'the member whose failure was the last is told, too').toEqual([
    { ...known, from: a.id, diedAt: expect.closeTo(diedAt, -4) },
  ])
  isBroken = false
  const again = await a.deadLetters.retry(letter!.id)
  expect((await again.settled)[0]).toMatchObject({ outcome: 'handled' })
  expect(seen[2]).toEqual([1, false])
  expect(await a.deadLetters.list()).toEqual([])
  expect(await errorOf(() => a.deadLetters.drop(letter!.id))).toMatchObject({ code: 'DEAD_LETTER_UNKNOWN' })
})

test('pull - Reject buries a message at once, RetryLater spends no attempt', async () => {
  const [a, b] = await mesh(2)
  const attempts: number[] = []
  const there: unknown[] = []
  b.on('dead-letter', (letter) => there.push(letter))
  b.pull('jobs', (value, message) => {
    attempts.push(message.attempt)
    if (value === 'bad') throw new Reject('not an image')
    if (attempts.length < 4) throw new RetryLater(5)
  })
  const [later] = await (await a.push('jobs', 'good')).settled
  expect(later).toMatchObject({ outcome: 'handled' })
  expect(attempts).toEqual([1, 1, 1, 1])
  const [bad] = await (await a.push('jobs', 'bad')).settled
  expect(bad).toMatchObject({ outcome: 'dead', error: 'REJECTED: not an image' })
  expect(warningsOf(b), 'nobody failed').toEqual([])
  expect(there).toMatchObject([{ reason: 'rejected', from: a.id, value: 'bad' }])
  expect(await a.deadLetters.list()).toMatchObject([{ reason: 'rejected', attempts: 1 }])
})

test('publish at least once - every plain subscription and one member of each group get it, and the receipt says so', async () => {
  const [a, b, c] = await mesh(3)
  const got: string[] = []
  const note = (who: string) => () => void got.push(who)
  await Promise.all([
    a.subscribe('order.*', note('a')).ready,
    b.subscribe('order.*', note('b plain')).ready,
    b.subscribe('order.created', note('b other')).ready,
    b.subscribe('order.*', note('billing'), { group: 'billing' }).ready,
    c.subscribe('order.*', note('billing'), { group: 'billing' }).ready,
    c.subscribe('order.>', note('shipping'), { group: 'shipping' }).ready,
  ])
  const receipt = await a.publish('order.created', { n: 1 }, OWED)
  const outcomes = await receipt.settled
  expect(outcomes.map(({ kind, name, outcome }) => `${kind} ${name} ${outcome}`).sort()).toEqual(
    [
      `node ${a.id} handled`,
      `node ${b.id} handled`,
      'group billing handled',
      'group shipping handled',
    ].sort(),
  )
  expect(got.sort()).toEqual(['a', 'b other', 'b plain', 'billing', 'shipping'])
})

test('publish at most once - one member of each group gets it, beside every plain subscription', async () => {
  const [a, b, c] = await mesh(3)
  const got: string[] = []
  await Promise.all([
    b.subscribe('x', () => void got.push('group'), { group: 'g' }).ready,
    c.subscribe('x', () => void got.push('group'), { group: 'g' }).ready,
    c.subscribe('x', () => void got.push('plain')).ready,
  ])
  for (let n = 0; n < 10; n++) await a.publish('x', n)
  await eventually(() => got.length === 20)
  expect(got.filter((who) => who === 'group')).toHaveLength(10)
})

test('group - it is owed what is published while all its members are away, and not what came before it (G2)', async () => {
  const mesh = meshName()
  const a = await start({ mesh })
  const first = await start({ mesh })
  const subscription = first.subscribe('order.*', () => {}, { group: 'billing' })
  await subscription.ready
  await first.close()
  await eventually(() => a.peers.length === 0)
  const receipts = await Promise.all([1, 2, 3].map((n) => a.publish('order.created', n, OWED)))
  const second = await start({ mesh })
  const got: unknown[] = []
  await second.subscribe('other', () => {}, { group: 'billing' }).ready
  second.subscribe('order.*', (value) => void got.push(value), { group: 'billing' })
  for (const receipt of receipts) expect((await receipt.settled)[0]).toMatchObject({ outcome: 'handled' })
  expect(got).toEqual([1, 2, 3])
})

test('waitForSubscribers - members of groups count, each node once', async () => {
  const [a, b, c] = await mesh(3)
  b.subscribe('order.*', () => {}, { group: 'billing' })
  c.subscribe('order.created', () => {}, { group: 'audit' })
  c.subscribe('order.>', () => {})
  await a.waitForSubscribers('order.created', { count: 2 })
  const error = await errorOf(() => a.waitForSubscribers('order.created', { count: 3, timeoutMs: 50 }))
  expect(error).toMatchObject({ code: 'WAIT_TIMEOUT' })
})

test('group - withdrawn, nothing is kept for it any more', async () => {
  const [a, b] = await mesh(2)
  const subscription = b.subscribe('order.*', () => {}, { group: 'billing' })
  await subscription.ready
  await subscription.unsubscribe({ withdraw: true })
  const isRefused = (error: { code: string }): boolean => error.code === 'NO_SUBSCRIBERS'
  await eventually(() => a.publish('order.x', 1, OWED).then(() => false, isRefused))
})

test('publish at least once - nobody is an error, unless that is allowed or a group is named', async () => {
  const node = await start()
  expect(await errorOf(() => node.publish('x', 1, OWED))).toMatchObject({ code: 'NO_SUBSCRIBERS' })
  const none = await node.publish('x', 1, { ...OWED, allowNobody: true })
  expect(await none.settled).toEqual([])
  const named = await node.publish('x', 1, { ...OWED, owedTo: ['billing'] })
  expect(named.addressees).toEqual([{ kind: 'group', name: 'billing' }])
  const got: unknown[] = []
  node.subscribe('x', (value) => void got.push(value), { group: 'billing' })
  await named.settled
  expect(got).toEqual([1])
})

test('publish at least once - a node that leaves is owed nothing: gone, and no error', async () => {
  const [a, b] = await mesh(2)
  const work = held()
  await b.subscribe('x', work.handler).ready
  const receipt = await a.publish('x', 1, OWED)
  await eventually(() => work.got.length === 1)
  await b.close()
  expect((await receipt.settled)[0]).toMatchObject({ kind: 'node', name: b.id, outcome: 'gone' })
})

test('publish at least once - of several subscriptions of a node only those that failed get it again (G9)', async () => {
  const [a, b] = await mesh(2)
  const good: unknown[] = []
  let failures = 0
  await b.subscribe('x', (value) => void good.push(value)).ready
  await b.subscribe('*', () => {
    if (++failures < 2) throw new Error('not yet')
  }).ready
  const receipt = await a.publish('x', 1, OWED)
  expect((await receipt.settled)[0]).toMatchObject({ outcome: 'handled' })
  expect([good.length, failures]).toEqual([1, 2])
})

test('key - one at a time and in order for each key, whoever works; a failing one holds up only itself (G4)', async () => {
  const [a, b, c] = await mesh(3)
  const running = new Map<string, number>()
  const done = new Map<string, number[]>()
  let clashes = 0
  let failures = 0
  const handler = async (value: unknown, message: Message): Promise<void> => {
    const key = message.key!
    const n = value as number
    if (running.get(key)) clashes++
    running.set(key, 1)
    await new Promise((resolve) => setImmediate(resolve))
    running.set(key, 0)
    if (key === 'k0' && n === 0 && ++failures < 2) throw new Error('not yet')
    done.set(key, [...(done.get(key) ?? []), n])
  }
  b.pull('stock', handler, { concurrency: 8 })
  c.pull('stock', handler, { concurrency: 8 })
  const sends: Promise<unknown>[] = []
  for (let n = 0; n < 20; n++) for (let k = 0; k < 6; k++) sends.push(a.push('stock', n, { key: `k${k}` }))
  await Promise.all(sends)
  await eventually(() => [1, 2, 3, 4, 5].every((k) => done.get(`k${k}`)?.length === 20))
  await owing(a, 0)
  const inOrder = Array.from({ length: 20 }, (_, n) => n)
  for (const values of done.values()) expect(values).toEqual(inOrder)
  expect([clashes, failures]).toEqual([0, 2])
})

test('push - delayMs is waited for, ttlMs ends what nobody handled, and dedupeId is one message', async () => {
  const [a, b] = await mesh(2)
  const got: [unknown, number][] = []
  const sentAt = performance.now()
  const lost = await a.push('late', 'expires', { ttlMs: 50 })
  expect((await lost.settled)[0]).toMatchObject({ outcome: 'expired' })
  await Promise.all([
    a.push('jobs', 'delayed', { delayMs: 200 }),
    a.push('jobs', 'once', { dedupeId: 'd' }),
    a.push('jobs', 'once', { dedupeId: 'd' }),
  ])
  b.pull('jobs', (value) => void got.push([value, performance.now() - sentAt]))
  await owing(a, 0)
  expect(got.map(([value]) => value)).toEqual(['once', 'delayed'])
  expect(got[1]![1]).toBeGreaterThanOrEqual(199)
})

test('pull - a loop acks a message by asking for the next one, and leaving it hands the last one back', async () => {
  const [a, b] = await mesh(2)
  await Promise.all([1, 2, 3].map((n) => a.push('jobs', n)))
  const seen: unknown[] = []
  for await (const message of b.pull('jobs')) {
    seen.push(message.value)
    if (seen.length === 2) break
  }
  await owing(a, 2)
  for await (const message of b.pull('jobs')) {
    seen.push(message.value)
    message.ack()
    if (seen.length === 4) break
  }
  expect(seen).toEqual([1, 2, 2, 3])
  await owing(a, 0)
})

test('close - a worker finishes what it runs and hands back what it has not begun: no attempt is spent (G10)', async () => {
  const mesh = meshName()
  const a = await start({ mesh })
  const b = await start({ mesh })
  const work = held()
  b.pull('jobs', work.handler, { concurrency: 2 })
  const receipts = await Promise.all(Array.from({ length: 8 }, (_, n) => a.push('jobs', n)))
  await eventually(() => work.got.length === 2)
  const closing = b.close()
  work.release()
  await closing
  const c = await start({ mesh })
  const attempts: number[] = []
  c.pull('jobs', (_, message) => void attempts.push(message.attempt))
  for (const receipt of receipts) await receipt.settled
  expect(work.got).toHaveLength(2)
  expect(attempts).toEqual(Array(6).fill(1))
})

test('dataDir - what was accepted outlives its sender, under the same id of node and message (G1, G2)', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const first = await start({ mesh, dataDir })
  const receipts = await Promise.all(Array.from({ length: 600 }, (_, n) => first.push('jobs', n)))
  expect(receipts[0]!.durability).toBe('disk')
  const settled = receipts[0]!.settled
  expect(await first.close()).toEqual({ unsettled: 0 })
  expect((await settled)[0]).toMatchObject({ outcome: 'closed' })
  const second = await start({ mesh, dataDir })
  expect(second.id).toBe(first.id)
  expect(second.stats().owed).toBe(600)
  const worker = await start({ mesh })
  const got: Message[] = []
  worker.pull('jobs', (_, message) => void got.push(message))
  await owing(second, 0)
  expect(got.map(({ value }) => value)).toEqual(Array.from({ length: 600 }, (_, n) => n))
  expect(got.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id))
})

test('dataDir - two nodes on one directory: the second is told so, and what to do', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  await start({ mesh, dataDir })
  const error = await errorOf(() => start({ mesh, dataDir }))
  expect(error.code).toBe('JOURNAL_LOCKED')
  expect(error.message).toContain('dataDir')
})

test('quota - a group that is away and owed too much is refused, and nobody else waits for it (G3, G6)', async () => {
  const [a, b] = await mesh(2, { limits: { quotaBytes: 1000 } })
  const got: unknown[] = []
  await b.subscribe('x', (value) => void got.push(value)).ready
  const absent = { ...OWED, owedTo: ['absent'] }
  const ended: string[][] = []
  for (let n = 0; n < 4; n++) {
    const receipt = await a.publish('x', Buffer.alloc(400), absent)
    void receipt.settled.then((all) => ended.push(all.map(({ outcome }) => outcome)))
    await eventually(() => got.length === n + 1 && a.stats().owed === Math.min(2, n + 1))
  }
  expect(ended).toEqual(Array(2).fill(['handled', 'refused']))
  await a.push('nobody', Buffer.alloc(980))
  expect(await errorOf(() => a.push('nobody', Buffer.alloc(100)))).toMatchObject({ code: 'OUTBOX_FULL' })
})

test('quota - it holds for many that are sent at once, too (G6)', async () => {
  const node = await start({ limits: { quotaBytes: 1000 } })
  const sends = await Promise.allSettled(
    Array.from({ length: 20 }, () => node.push('nobody', Buffer.alloc(100))),
  )
  expect(sends.filter(({ status }) => status === 'fulfilled')).toHaveLength(10)
  expect(node.stats().owed).toBe(10)
})

test('handlerTimeoutMs - a handler that hangs fails, its signal aborts, and the next one has its place', async () => {
  const mesh = meshName()
  const a = await start({ mesh, maxAttempts: 1 })
  const b = await start({ mesh })
  const aborted: unknown[] = []
  b.pull(
    'jobs',
    (value, { signal }) => {
      if (value !== 'hangs') return
      signal.addEventListener('abort', () => aborted.push(signal.reason))
      return new Promise(() => {})
    },
    { handlerTimeoutMs: 50 },
  )
  const hangs = await a.push('jobs', 'hangs')
  const next = await a.push('jobs', 'next')
  expect((await next.settled)[0]).toMatchObject({ outcome: 'handled' })
  expect((await hangs.settled)[0]).toMatchObject({ outcome: 'dead' })
  expect(aborted).toHaveLength(1)
})

test('close - a handler that runs on has its signal aborted, and another worker gets its message (G10)', async () => {
  const mesh = meshName()
  const a = await start({ mesh })
  const b = await start({ mesh, closeTimeoutMs: 50 })
  const signals: AbortSignal[] = []
  const hang = (_: unknown, { signal }: Message) => {
    signals.push(signal)
    return new Promise(() => {})
  }
  b.pull('jobs', hang)
  b.subscribe('news', hang)
  await a.waitForSubscribers('news')
  const receipt = await a.push('jobs', 1)
  await a.publish('news', 1)
  await eventually(() => signals.length === 2)
  await b.close()
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true])
  expect(signals[0]!.reason).toMatchObject({ code: 'CLOSED' })
  const again: Message[] = []
  a.pull('jobs', (_, message) => void again.push(message))
  expect((await receipt.settled)[0]).toMatchObject({ outcome: 'handled', by: a.id })
  expect(again[0]).toMatchObject({ redelivered: true, attempt: 1 })
})

test('close - what only this process keeps is counted and warned of (G10)', async () => {
  const node = await start({ closeTimeoutMs: 50 })
  await node.push('nobody', 1)
  expect(await node.close()).toEqual({ unsettled: 1 })
  expect(warningsOf(node)).toMatchObject([{ code: 'CLOSED' }])
})

test('receipt - settled ends as closed, whoever asks for it after the close (G7)', async () => {
  const node = await start({ closeTimeoutMs: 50 })
  const receipt = await node.push('nobody', 1)
  await node.close()
  expect(await receipt.settled).toEqual([{ kind: 'queue', name: 'nobody', outcome: 'closed' }])
  expect(JSON.parse(JSON.stringify(receipt))).toMatchObject({ id: receipt.id, durability: 'memory' })
})

test('dataDir - what the disk damaged while it waited ends as lost, and everything else is handled (G2, G7)', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const sender = await start({ mesh, dataDir })
  // More than is kept in memory while nobody is there.
  const receipts = await Promise.all(Array.from({ length: 3000 }, (_, n) => sender.push('jobs', n)))
  const both = await sender.publish('x', 'both', { ...OWED, owedTo: ['g', 'h'] })
  const [segment] = readdirSync(join(dataDir, 'journal')).filter((name) => name.endsWith('.segment'))
  const path = join(dataDir, 'journal', segment!)
  const bytes = readFileSync(path)
  const at = Math.floor(bytes.length * 0.9)
  bytes[at] = bytes[at]! ^ 1
  writeFileSync(path, bytes)
  const got: unknown[] = []
  const worker = await start({ mesh })
  worker.pull('jobs', (value) => void got.push(value))
  worker.subscribe('x', (value) => void got.push(value), { group: 'g' })
  worker.subscribe('x', (value) => void got.push(value), { group: 'h' })
  const ended = (await Promise.all(receipts.map((receipt) => receipt.settled))).flat()
  expect(ended.filter(({ outcome }) => outcome === 'lost')).toHaveLength(1)
  expect(ended.filter(({ outcome }) => outcome === 'handled')).toHaveLength(2999)
  expect((await both.settled).map(({ outcome }) => outcome)).toEqual(['handled', 'handled'])
  await owing(sender, 0)
  expect(warningsOf(sender)).toMatchObject([{ code: 'JOURNAL_DAMAGED' }])
})

test('dataDir - who has handled it is not owed it after a restart, who has not is; failures go on counting (G1, G2)', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const options = { mesh, dataDir, maxAttempts: 3 }
  const first = await start(options)
  const member = await start({ mesh })
  const got: unknown[] = []
  const attempts: number[] = []
  await member.subscribe('x', (value) => void got.push(value), { group: 'here' }).ready
  member.pull('jobs', (_, { attempt }) => {
    attempts.push(attempt)
    throw new Error('no')
  })
  await first.publish('x', 'both', { ...OWED, owedTo: ['away'] })
  await first.push('jobs', 1)
  await eventually(() => got.length === 1 && attempts.length === 1 && first.stats().owed === 2)
  await first.close()
  const second = await start(options)
  await eventually(() => second.stats().deadLetters === 1)
  expect(attempts).toEqual([1, 2, 3])
  expect(got).toEqual(['both'])
  await member.subscribe('x', (value) => void got.push(value), { group: 'away' }).ready
  await owing(second, 0)
  expect(got).toEqual(['both', 'both'])
  await second.close()
  const third = await start(options)
  expect(third.stats()).toMatchObject({ owed: 0, deadLetters: 1 })
  expect(await third.deadLetters.list()).toMatchObject([{ attempts: 3, lastError: 'HANDLER_FAILED: no' }])
  await third.deadLetters.drop((await third.deadLetters.list())[0]!.id)
  await third.close()
  expect((await start(options)).stats().deadLetters).toBe(0)
})

test('dataDir - a group that was seen once is owed messages by every later boot of the publisher (G2)', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const first = await start({ mesh, dataDir })
  const member = await start({ mesh })
  await member.subscribe('order.*', () => {}, { group: 'billing' }).ready
  await Promise.all([member.close(), first.close()])
  const second = await start({ mesh, dataDir })
  const receipt = await second.publish('order.created', 1, OWED)
  expect(receipt.addressees).toEqual([{ kind: 'group', name: 'billing' }])
})

test('dedupeId - a message that has ended is not sent again soon, whether its sender was started anew or not', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const got: unknown[] = []
  const worker = await start({ mesh })
  worker.pull('jobs', (value) => {
    got.push(value)
    if (value === 'bad') throw new Reject('never')
  })
  worker.subscribe('news', (value) => void got.push(value), { group: 'g' })
  const ids: string[] = []
  for (let boot = 0; boot < 3; boot++) {
    const sender = await start({ mesh, dataDir })
    await sender.waitForPeers(1)
    for (const value of ['good', 'bad']) {
      const receipt = await sender.push('jobs', value, { dedupeId: value })
      await receipt.settled
      ids.push(receipt.id)
    }
    await sender.publish('news', 'news', { ...OWED, owedTo: ['g', 'h'], dedupeId: 'n' })
    await eventually(() => sender.stats().owed === 1 && got.length === 3)
    expect(sender.deadLetters.size).toBe(1)
    await sender.close()
  }
  expect(got).toEqual(['good', 'bad', 'news'])
  expect(new Set(ids).size).toBe(2)
})

test('dataDir - what is delayed, expires or was sent under a dedupeId stays so over a restart', async () => {
  const [mesh, dataDir] = [meshName(), directory()]
  const first = await start({ mesh, dataDir })
  await first.push('jobs', 'expired', { ttlMs: 1 })
  const sentAt = Date.now()
  await first.push('jobs', 'delayed', { delayMs: 700 })
  const once = await first.push('jobs', 'once', { dedupeId: 'd' })
  await first.close()
  const second = await start({ mesh, dataDir })
  const again = await second.push('jobs', 'twice', { dedupeId: 'd' })
  const got = new Map<unknown, number>()
  second.pull('jobs', (value) => void got.set(value, Date.now() - sentAt))
  await owing(second, 0)
  expect(new Set(got.keys())).toEqual(new Set(['delayed', 'once']))
  expect([again.id, again.addressees]).toEqual([once.id, once.addressees])
  expect(await again.settled).toEqual([{ kind: 'queue', name: 'jobs', outcome: 'handled', by: second.id }])
  expect(got.get('delayed')).toBeGreaterThanOrEqual(699)
})
