import { expect, test } from 'vitest'
import type { Message } from '../../src/delivery/message.ts'
import { type Answer, Responders } from '../../src/delivery/responders.ts'
import { SkeinError } from '../../src/errors.ts'
import { decodeReceived, receivedLocally } from '../../src/protocol/payload.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { payloadOf } from '../support/memory-feed.ts'

const ORIGIN = { id: 'a'.repeat(32), boot: 'b'.repeat(32) }

class Bench {
  readonly clock = new FakeClock()
  readonly answers: unknown[] = []
  changes = 0
  readonly responders = new Responders({
    clock: this.clock,
    maxReplyBytes: 1000,
    changed: async () => void this.changes++,
  })

  ask(name: string, value?: unknown, timeoutMs = 1000): () => void {
    const record = receivedLocally(payloadOf(value))
    return this.responders.ask(name, ORIGIN, record, timeoutMs, (answer) => this.answers.push(shown(answer)))
  }
}

const shown = (answer: Answer): unknown =>
  answer.ok ? decodeReceived(receivedLocally(answer.payload)) : (answer.error.remoteCode ?? answer.error.code)

const held = (): {
  handler: (query: unknown) => Promise<unknown>
  got: unknown[]
  release: (value?: unknown) => void
} => {
  const got: unknown[] = []
  const waiting: ((value: unknown) => void)[] = []
  return {
    got,
    handler: (query) => {
      got.push(query)
      return new Promise((resolve) => waiting.push(resolve))
    },
    release: (value) => waiting.shift()?.(value),
  }
}

test('responders - what a handler returns is the answer, at once or later', async () => {
  const at = new Bench()
  at.responders.add('double', (query) => Number(query) * 2, {})
  at.responders.add('later', async (query) => ({ query }), {})
  at.ask('double', 4)
  at.ask('later', 'x')
  await at.clock.microtasks()
  expect(at.answers).toEqual([8, { query: 'x' }])
  expect(at.responders.load).toBe(0)
})

test('responders - whatever a handler throws or returns, whoever asks is answered (G7)', async () => {
  const trap = (): never => {
    throw new Error('looked at')
  }
  const name = 'then'
  const at = new Bench()
  const thrown = [
    ...[undefined, Symbol('s'), Object.assign(new Error('x'), { message: 5 })],
    new Proxy(new Error('x'), { get: trap, getPrototypeOf: trap }),
  ]
  const handlers: (() => unknown)[] = thrown.map((each) => () => {
    throw each
  })
  handlers.push(
    () => ({ [name]: trap }),
    () => Object.defineProperty({}, name, { get: trap }),
  )
  for (const [index, handler] of handlers.entries()) {
    at.responders.add(`r${index}`, handler, {})
    at.ask(`r${index}`)
  }
  await at.clock.microtasks()
  expect(at.answers).toEqual(handlers.map(() => 'ERROR'))
  expect(at.responders.load).toBe(0)
})

test('responders - of an error its code and message cross the wire, never its stack', async () => {
  const at = new Bench()
  const errors: Answer[] = []
  at.responders.add(
    'sync',
    () => {
      throw Object.assign(new Error('sold out'), { code: 'SOLD_OUT' })
    },
    {},
  )
  at.responders.add('async', () => Promise.reject('just a text'), {})
  at.responders.add(
    'busy',
    () => {
      throw new SkeinError('BUSY', 'come back later')
    },
    {},
  )
  for (const name of ['sync', 'async', 'busy']) {
    at.responders.ask(name, ORIGIN, receivedLocally(payloadOf(1)), 1000, (answer) => errors.push(answer))
  }
  await at.clock.microtasks()
  expect(
    errors.map((answer) =>
      answer.ok ? '' : [answer.error.code, answer.error.remoteCode, answer.error.message],
    ),
  ).toEqual([
    ['REMOTE_ERROR', 'SOLD_OUT', 'sold out'],
    ['BUSY', undefined, 'come back later'],
    ['REMOTE_ERROR', 'ERROR', 'just a text'],
  ])
  expect(at.responders.load).toBe(0)
})

test('responders - a reply that cannot be sent, or is too large, is an error to the asker', () => {
  const at = new Bench()
  at.responders.add('set', () => new Set(), {})
  at.responders.add('large', () => 'x'.repeat(5000), {})
  at.ask('set')
  at.ask('large')
  expect(at.answers).toEqual(['VALUE_UNSUPPORTED', 'VALUE_TOO_LARGE'])
})

test('responders - handlers run within their concurrency, the rest waits in order, beyond the queue it is BUSY (G6)', async () => {
  const at = new Bench()
  const handler = held()
  at.responders.add('a', handler.handler, { concurrency: 2, queue: 2 })
  for (let i = 0; i < 6; i++) at.ask('a', i)
  expect(handler.got).toEqual([0, 1])
  expect(at.answers).toEqual(['BUSY', 'BUSY'])
  expect(at.responders.load).toBe(4)
  for (let i = 0; i < 4; i++) {
    handler.release(i)
    await at.clock.microtasks()
  }
  expect(handler.got).toEqual([0, 1, 2, 3])
  expect(at.answers).toEqual(['BUSY', 'BUSY', 0, 1, 2, 3])
  expect(at.responders.load).toBe(0)
})

test('responders - what was cancelled or is past its deadline by its turn is not run (G7)', async () => {
  const at = new Bench()
  const handler = held()
  at.responders.add('a', handler.handler, { concurrency: 1 })
  at.ask('a', 0)
  const cancel = at.ask('a', 1)
  at.ask('a', 2, 50)
  at.ask('a', 3)
  cancel()
  await at.clock.advance(100)
  handler.release(0)
  await at.clock.microtasks()
  expect(handler.got).toEqual([0, 3])
  handler.release(3)
  await at.clock.microtasks()
  expect(at.answers).toEqual([0, 'REQUEST_TIMEOUT', 3])
  expect(at.responders.load).toBe(0)
})

test('responders - the signal aborts when the asker gives up, and at the deadline, and nothing is answered then', async () => {
  const at = new Bench()
  const signals: AbortSignal[] = []
  const handler = (_: unknown, message: Message): Promise<never> => {
    signals.push(message.signal)
    return new Promise((_resolve, reject) =>
      message.signal.addEventListener('abort', () => reject(message.signal.reason)),
    )
  }
  at.responders.add('a', handler, {})
  const cancel = at.ask('a', 1)
  at.ask('a', 2, 50)
  cancel()
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
  expect(signals[0]!.reason).toMatchObject({ code: 'CANCELLED' })
  await at.clock.advance(50)
  expect(signals[1]!.aborted).toBe(true)
  expect(at.answers).toEqual(['REQUEST_TIMEOUT'])
  expect(at.responders.load).toBe(0)
})

test('responders - a handler that fails because its time is over has not failed: the deadline has passed', async () => {
  const at = new Bench()
  at.responders.add(
    'a',
    async (_query, { signal }) => {
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    },
    {},
  )
  at.ask('a', undefined, 50)
  // As timers of Node do now and then, this one comes a little too early.
  const { now } = at.clock
  at.clock.now = () => now.call(at.clock) - 0.5
  await at.clock.advance(60)
  expect(at.answers).toEqual(['REQUEST_TIMEOUT'])
})

test('responders - who waited in vain for a free handler is answered, or a plain socket would wait for ever', async () => {
  const at = new Bench()
  const handler = held()
  at.responders.add('a', handler.handler, { concurrency: 1 })
  at.ask('a', 1)
  at.ask('a', 2, 50)
  await at.clock.advance(60)
  handler.release('done')
  await at.clock.microtasks()
  expect(at.answers).toEqual(['done', 'REQUEST_TIMEOUT'])
  expect(at.responders.load).toBe(0)
})

test('responders - a handler that never looks at its signal costs no timer', () => {
  const at = new Bench()
  at.responders.add('a', () => new Promise(() => {}), {})
  at.ask('a')
  expect(at.clock.pendingTimers).toBe(0)
})

test('responders - one name has one responder; closing it refuses what waits and lets finish what runs', async () => {
  const at = new Bench()
  const handler = held()
  const responder = at.responders.add('a', handler.handler, { concurrency: 1 })
  await responder.ready
  expect(() => at.responders.add('a', () => 1, {})).toThrow(
    expect.objectContaining({ code: 'OPTION_INVALID' }),
  )
  at.ask('a', 0)
  at.ask('a', 1)
  await responder.close()
  at.ask('a', 2)
  expect(at.answers).toEqual(['NO_RESPONDER', 'NO_RESPONDER'])
  expect([at.responders.has('a'), at.responders.names()]).toEqual([false, []])
  handler.release('done')
  await at.clock.microtasks()
  expect(at.answers).toEqual(['NO_RESPONDER', 'NO_RESPONDER', 'done'])
  expect(at.changes).toBe(2)
  at.responders.add('a', () => 1, {})
  await responder.close()
  expect(at.responders.has('a')).toBe(true)
})

test('responders - when the node closes, whoever waits learns it (G7)', () => {
  const at = new Bench()
  at.responders.add('a', () => new Promise(() => {}), { concurrency: 1 })
  at.ask('a', 0)
  at.ask('a', 1)
  at.responders.close()
  expect(at.answers).toEqual(['CLOSED'])
})
