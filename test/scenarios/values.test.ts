import { expect, test } from 'vitest'
import { collect, errorOf, eventually, gapsOf, mesh, start } from '../support/mesh.ts'

const VALUES: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  0,
  -1,
  1.5,
  Number.NaN,
  Number.NEGATIVE_INFINITY,
  Number.MAX_SAFE_INTEGER,
  Number.MAX_VALUE,
  2n ** 63n - 1n,
  -(2n ** 63n),
  '',
  'text',
  'ä🎉\u0000\uFEFF',
  'x'.repeat(100_000),
  new Date(1_700_000_000_123),
  Buffer.alloc(0),
  Buffer.from([0, 1, 255]),
  Buffer.alloc(100_000, 7),
  [],
  [1, 'two', null, [Buffer.from('b')]],
  {},
  { a: 1, b: { c: [true, { d: 'e' }] }, when: new Date(0), bytes: Buffer.from('bytes'), big: 2n ** 60n },
  { 'key with spaces': 1, '': 2, constructor: 3, ünï: 4 },
  Array.from({ length: 1000 }, (_, i) => ({ i, text: `item ${i}` })),
]

test('values - every supported type arrives identical, remotely and locally', async () => {
  const [a, b] = await mesh(2)
  const remote = await collect(b, 'v')
  const local = await collect(a, 'v')
  for (const value of VALUES) await a.publish('v', value)
  await eventually(() => remote.values.length === VALUES.length && local.values.length === VALUES.length)
  expect(remote.values).toStrictEqual(VALUES)
  expect(local.values).toStrictEqual(VALUES)
})

test('values - a Uint8Array and a view into a larger buffer arrive as exactly their bytes', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'v')
  const large = Uint8Array.from({ length: 100 }, (_, i) => i)
  await a.publish('v', large.subarray(10, 13))
  await a.publish('v', { inside: large.subarray(20, 22) })
  await eventually(() => values.length === 2)
  expect(values[0]).toBeInstanceOf(Uint8Array)
  expect([...(values[0] as Uint8Array)]).toEqual([10, 11, 12])
  expect([...(values[1] as { inside: Uint8Array }).inside]).toEqual([20, 21])
})

test('values - small received bytes keep no batch alive and may be changed', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'v')
  const same = await collect(b, 'v')
  for (let i = 0; i < 1000; i++) void a.publish('v', Buffer.alloc(100, i))
  await eventually(() => values.length === 1000 && same.values.length === 1000)
  for (const value of values as Buffer[]) {
    expect(value.buffer.byteLength).toBeLessThanOrEqual(8 * 1024)
    value.fill(0xee)
  }
  expect(values.every((value) => Buffer.alloc(100, 0xee).equals(value as Buffer))).toBe(true)
  expect(same.values.every((value, i) => Buffer.alloc(100, i).equals(value as Buffer))).toBe(true)
})

test.each([100, 40_000, 300 * 1024])(
  'values - %i bytes are copied, so that a buffer may be used again at once',
  async (size) => {
    const [a, b] = await mesh(2)
    const remote = await collect(b, 'v')
    const local = await collect(a, 'v')
    const buffer = Buffer.alloc(size)
    for (let i = 1; i <= 5; i++) {
      buffer.fill(i)
      const sent = a.publish('v', buffer)
      buffer.fill(0xff)
      await sent
    }
    await eventually(() => remote.values.length === 5 && local.values.length === 5)
    for (const { values } of [remote, local])
      for (let i = 1; i <= 5; i++) expect(Buffer.alloc(size, i).equals(values[i - 1] as Buffer)).toBe(true)
  },
)

test('values - lent bytes arrive as well, and a copy reaches the own subscription', async () => {
  const [a, b] = await mesh(2)
  const remote = await collect(b, 'v')
  const local = await collect(a, 'v')
  const lent = Buffer.alloc(100_000, 1)
  await a.publish('v', lent, { lend: true })
  await eventually(() => remote.values.length === 1 && local.values.length === 1)
  expect(lent.equals(remote.values[0] as Buffer)).toBe(true)
  ;(local.values[0] as Buffer).fill(9)
  expect(lent[0]).toBe(1)
})

test('values - more than the feed takes goes by the delivery road, in order and to each subscriber once', async () => {
  const [a, b, c] = await mesh(3)
  const collected = [await collect(b, 'large'), await collect(c, 'large'), await collect(b, '>')]
  await a.waitForSubscribers('large', { count: 2 })
  for (let i = 0; i < 10; i++)
    await a.publish('large', Buffer.alloc(300 * 1024, i), { headers: { i: `${i}` } })
  await eventually(() => collected.every(({ values }) => values.length === 10))
  for (const { values, messages } of collected) {
    expect(values.map((value) => (value as Buffer)[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(values.every((value) => (value as Buffer).length === 300 * 1024)).toBe(true)
    expect(messages[3]!.headers).toEqual({ i: '3' })
  }
  expect([...gapsOf(b), ...gapsOf(c)]).toEqual([])
})

test('values - 16 MiB arrive, and one byte more is refused at the sender with the limit named', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'huge')
  await a.waitForSubscribers('huge')
  const most = Buffer.alloc(16 * 1024 * 1024, 5)
  most[most.length - 1] = 6
  await a.publish('huge', most, { lend: true })
  await eventually(() => values.length === 1)
  expect(most.equals(values[0] as Buffer)).toBe(true)
  const error = await errorOf(() => a.publish('huge', Buffer.alloc(16 * 1024 * 1024 + 1)))
  expect(error).toMatchObject({ code: 'VALUE_TOO_LARGE', mayHaveRun: false })
  expect(error.message).toMatch(/'huge'.*16777217.*16777216/)
  expect((await errorOf(() => a.publish('huge', 'x'.repeat(16 * 1024 * 1024 + 1)))).code).toBe(
    'VALUE_TOO_LARGE',
  )
  await a.publish('huge', 'goes on')
  await eventually(() => values[1] === 'goes on')
})

test('values - a limit is exact for texts too, however short', async () => {
  const node = await start({ limits: { maxValueBytes: 100 } })
  await node.publish('v', 'x'.repeat(100))
  await node.publish('v', 'ä'.repeat(50))
  for (const text of ['x'.repeat(101), 'ä'.repeat(51)])
    expect((await errorOf(() => node.publish('v', text))).code).toBe('VALUE_TOO_LARGE')
})

class Point {
  x = 1
}

test.each<[string, unknown]>([
  ['a Set', new Set([1])],
  ['a Map', new Map()],
  ['a function', () => {}],
  ['a symbol', Symbol('s')],
  ['an Error', new Error('e')],
  ['a class instance', new Point()],
  ['a nested class instance', { a: [new Point()] }],
  ['an invalid date', new Date(Number.NaN)],
  ['a bigint of more than 64 bits', 2n ** 64n],
  ['half a surrogate pair', '\ud800'],
])('values - %s is refused at the call, for publish and request', async (_, value) => {
  const node = await start()
  node.respond('q', () => 1)
  for (const call of [() => node.publish('v', value), () => node.request('q', value)])
    expect(await errorOf(call)).toMatchObject({ code: 'VALUE_UNSUPPORTED', mayHaveRun: false })
  expect(node.stats().published).toBe(0)
})
