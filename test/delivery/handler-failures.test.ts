import { expect, test } from 'vitest'
import { Reject, RetryLater } from '../../src/index.ts'
import { SimulatedNetwork } from '../../src/testing.ts'

const broken = (): never => {
  throw new Error('do not look at me')
}

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const THROWN: readonly (readonly [string, () => unknown])[] = [
  ['undefined', () => undefined],
  ['null', () => null],
  ['a symbol', () => Symbol('odd')],
  ['an object without a text', () => Object.create(null)],
  ['a revoked Proxy', revoked],
  ['a code that throws', () => Object.defineProperty({}, 'code', { get: broken })],
  ['a message that throws', () => Object.defineProperty(new Error(''), 'message', { get: broken })],
  ['a message that is no text', () => Object.assign(new Error(''), { message: 7 })],
  ['a code of 64 long letters', () => Object.assign(new Error('x'), { code: '\u4e2d'.repeat(64) })],
  ['RetryLater without a time', () => Object.assign(new RetryLater(1), { delayMs: Number.NaN })],
  ['RetryLater for ever', () => Object.assign(new RetryLater(1), { delayMs: Number.POSITIVE_INFINITY })],
  [
    'a Reject with a message that throws',
    () => Object.defineProperty(new Reject(''), 'message', { get: broken }),
  ],
]

const RETURNED: readonly (readonly [string, () => unknown])[] = [
  ['a `then` that cannot be read', () => Object.defineProperty({}, 'then', { get: broken })],
  ['a `then` that throws', () => Object.defineProperty({}, 'then', { value: broken })],
  ['a revoked Proxy', revoked],
]

test.each([
  ...THROWN.map(([what, make]) => [`throws ${what}`, () => Promise.reject(make())] as const),
  ...THROWN.map(([what, make]) => [`throws ${what}, at once`, (): unknown => raise(make())] as const),
  ...RETURNED.map(([what, make]) => [`returns ${what}`, make] as const),
])(
  'handlers - one that %s has failed with that message; its neighbours in the batch are handled (G2, G3)',
  async (_, fail) => {
    const network = new SimulatedNetwork({ seed: 1 })
    const sender = await network.createNode({ maxAttempts: 1 })
    const worker = await network.createNode()
    const handled: unknown[] = []
    worker.pull('jobs', (value) => (value === 3 ? fail() : handled.push(value)), { concurrency: 10 })
    await network.run(sender.waitForPeers(1))
    const receipts = await network.run(
      Promise.all(Array.from({ length: 9 }, (_, at) => sender.push('jobs', at, { ttlMs: 30_000 }))),
    )
    const outcomes = await network.run(Promise.all(receipts.map(({ settled }) => settled)))
    expect(outcomes.map(([each]) => each!.outcome)).toEqual(
      outcomes.map((_, at) => (at === 3 ? 'dead' : 'handled')),
    )
    expect(handled).toEqual([0, 1, 2, 4, 5, 6, 7, 8])
    await network.run(Promise.all([sender.close(), worker.close()]))
  },
)

const raise = (thrown: unknown): never => {
  throw thrown
}
