import { expect, test } from 'vitest'
import type { Outcome, Sighting } from '../../src/discovery/discovery.ts'
import { type SeedState, Seeds } from '../../src/discovery/seeds.ts'
import type { SkeinError } from '../../src/errors.ts'
import { WRONG_SOCKET } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'

const SEED = 'tcp://kitchen.lan:7400'

class Bench {
  readonly clock = new FakeClock()
  /** What a name resolves to; a promise or an error where it is to hang or to fail. */
  readonly names = new Map<string, () => Promise<string[]>>()
  readonly seen: { sighting: Sighting; at: number }[] = []
  readonly warnings: SkeinError[] = []
  readonly lookups: string[] = []
  readonly seeds: Seeds
  /** What becomes of an endpoint as soon as it is told; nothing where nobody reports. */
  answers: (endpoint: string) => Outcome | undefined = () => undefined

  constructor(...seeds: string[]) {
    this.seeds = new Seeds({
      seeds,
      clock: this.clock,
      resolve: (host) => {
        this.lookups.push(host)
        return this.names.get(host)!()
      },
    })
  }

  name(host: string, ...addresses: string[]): void {
    this.names.set(host, () => Promise.resolve(addresses))
  }

  fails(host: string, message: string): void {
    this.names.set(host, () => Promise.reject(new Error(message)))
  }

  async start(): Promise<void> {
    await this.seeds.start(null, {
      seen: (sighting) => {
        this.seen.push({ sighting, at: this.clock.now() })
        for (const endpoint of sighting.endpoints) {
          const outcome = this.answers(endpoint)
          if (outcome !== undefined) this.seeds.tried(sighting, endpoint, outcome)
        }
      },
      gone: () => {},
      warning: (error) => this.warnings.push(error),
    })
    await this.clock.microtasks()
  }

  /** What became of an endpoint of the sighting told last. */
  tried(endpoint: string, kind: Outcome['kind'], reason = kind as string, peer?: string): void {
    this.seeds.tried(this.seen.at(-1)!.sighting, endpoint, { kind, reason, ...(peer ? { peer } : {}) })
  }

  get state(): SeedState {
    return this.seeds.states()[0]!
  }

  /** Milliseconds between one telling and the next. */
  get pauses(): number[] {
    return this.seen.slice(1).map(({ at }, before) => at - this.seen[before]!.at)
  }
}

const refused = (): Outcome => ({ kind: 'refused', reason: 'connection refused' })

test('seeds - a seed of one address is told at once, under the name it was written with', async () => {
  for (const [seed, endpoint] of [
    ['tcp://10.0.0.5:7400', 'tcp://10.0.0.5:7400'],
    ['tcp://[fd00::5]:7400', 'tcp://[fd00::5]:7400'],
  ] as const) {
    const at = new Bench(seed)
    await at.start()
    expect(at.seen.map(({ sighting }) => sighting)).toEqual([
      { id: undefined, boot: undefined, name: seed, endpoints: [endpoint], source: 'seed' },
    ])
    expect([at.state.state, at.lookups]).toEqual(['trying', []])
    await at.seeds.close()
  }
})

test('seeds - all addresses of a name are told at once, both families by turns, none twice, and at most 8 (G6)', async () => {
  const at = new Bench(SEED)
  const v6 = Array.from({ length: 9 }, (_, i) => `fd00::${i + 1}`)
  at.name('kitchen.lan', ...v6, 'fd00::1', 'fe80::1%eth0', 'not an address', '10.0.0.5')
  await at.start()
  expect(at.seen[0]?.sighting.endpoints).toEqual([
    'tcp://[fd00::1]:7400',
    'tcp://10.0.0.5:7400',
    ...[2, 3, 4, 5, 6, 7].map((i) => `tcp://[fd00::${i}]:7400`),
  ])
  expect(at.state).toMatchObject({ seed: SEED, state: 'trying', endpoints: at.seen[0]?.sighting.endpoints })
})

test('seeds - a seed that is refused is asked again after half a second, then ever more rarely, at most every 30 s', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  at.answers = refused
  at.clock.random = () => 0.999_999
  await at.start()
  await at.clock.advance(150_000)
  expect(at.pauses.slice(0, 9).map(Math.round)).toEqual([
    500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
  ])
  at.clock.random = () => 0
  at.seeds.moved()
  at.seen.splice(0, at.seen.length - 1)
  await at.clock.advance(40_000)
  expect(at.pauses.slice(0, 8)).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000])
})

test('seeds - one that answers is told again only every half minute, and its name is resolved anew each time', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.6')
  await at.start()
  at.tried('tcp://10.0.0.6:7400', 'refused')
  at.tried('tcp://10.0.0.5:7400', 'up', 'welcome', 'kitchen')
  expect(at.state).toMatchObject({ state: 'up', reason: '', peer: 'kitchen' })
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.7')
  await at.clock.advance(120_000)
  expect(at.pauses.every((ms) => ms >= 15_000 && ms <= 30_000)).toBe(true)
  expect(at.seen.length).toBeGreaterThanOrEqual(4)
  expect(at.lookups).toHaveLength(at.seen.length)
  expect(at.seen.at(-1)?.sighting.endpoints).toEqual(['tcp://10.0.0.5:7400', 'tcp://10.0.0.7:7400'])
  // Of the connection that stands nothing is reported, and the other address is no reason to give it up.
  at.tried('tcp://10.0.0.7:7400', 'refused')
  expect([at.state.state, at.warnings]).toEqual(['up', []])
})

test('seeds - one that is lost is found again: when all its addresses fail, the quick tries begin anew', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  at.answers = () => ({ kind: 'up', reason: '', peer: 'kitchen' })
  await at.start()
  await at.clock.advance(100)
  at.answers = refused
  await at.clock.advance(30_000)
  expect(at.state).toMatchObject({ state: 'refused', reason: 'connection refused' })
  expect(at.state.peer).toBeUndefined()
  at.answers = () => ({ kind: 'up', reason: '' })
  const before = at.seen.length
  await at.clock.advance(1000)
  expect([at.state.state, at.seen.length]).toEqual(['up', before + 1])
})

test('seeds - the failure of one address of several is no failure, and an answer that comes late is one', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.6')
  await at.start()
  at.tried('tcp://10.0.0.5:7400', 'refused')
  at.tried('tcp://10.0.0.99:7400', 'refused')
  expect([at.state.state, at.seeds.isSettled, at.warnings]).toEqual(['trying', false, []])
  at.tried('tcp://10.0.0.6:7400', 'silent')
  expect([at.state.state, at.seeds.isSettled]).toEqual(['silent', true])
  // What is reported twice has happened once.
  for (let i = 0; i < 10; i++) at.tried('tcp://10.0.0.6:7400', 'silent')
  await at.clock.advance(500)
  expect(at.seen).toHaveLength(2)
  at.tried('tcp://10.0.0.6:7400', 'up')
  expect(at.state.state).toBe('up')
  const told = at.seen.length
  await at.clock.advance(14_000)
  expect(at.seen).toHaveLength(told)
})

test('seeds - an address of which nothing is ever reported counts as silent after 10 s (G7)', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.6')
  await at.start()
  at.tried('tcp://10.0.0.5:7400', 'refused')
  await at.clock.advance(9999)
  expect([at.state.state, at.seeds.isSettled]).toEqual(['trying', false])
  await at.clock.advance(1)
  expect([at.state.state, at.seeds.isSettled]).toEqual(['silent', true])
  expect(at.state.reason).toBe(
    'tcp://10.0.0.5:7400: refused; tcp://10.0.0.6:7400: nothing was heard from there',
  )
})

test('seeds - a seed that is this node itself is remembered as that, and no cause for a warning', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  at.answers = () => ({ kind: 'self', reason: 'this node itself' })
  await at.start()
  expect([at.state.state, at.state.reason, at.seeds.isSettled]).toEqual(['self', 'this node itself', true])
  await at.clock.advance(100_000)
  expect(at.pauses.every((ms) => ms >= 15_000)).toBe(true)
  expect(at.warnings).toEqual([])
})

test.each([
  ['resolves to nothing', (at: Bench) => at.name('kitchen.lan'), 'it has no address'],
  [
    'resolves to no address that can be dialled',
    (at: Bench) => at.name('kitchen.lan', 'fe80::1%eth0'),
    'it has no address',
  ],
  [
    'does not exist',
    (at: Bench) => at.fails('kitchen.lan', 'getaddrinfo ENOTFOUND kitchen.lan'),
    'getaddrinfo ENOTFOUND kitchen.lan',
  ],
  [
    'cannot be asked for now',
    (at: Bench) => at.fails('kitchen.lan', 'getaddrinfo EAI_AGAIN kitchen.lan'),
    'getaddrinfo EAI_AGAIN kitchen.lan',
  ],
  [
    'is never answered',
    (at: Bench) => at.names.set('kitchen.lan', () => new Promise(() => {})),
    'no answer within 5 s',
  ],
  [
    'makes the resolver throw',
    (at: Bench) =>
      at.names.set('kitchen.lan', () => {
        throw new Error('broken')
      }),
    'broken',
  ],
])(
  'seeds - a name that %s is a failed try with a remedy, and is asked for again',
  async (_what, arrange, reason) => {
    const at = new Bench(SEED)
    arrange(at)
    await at.start()
    await at.clock.advance(5000)
    const code = 'NAME_UNRESOLVED'
    expect(at.state).toEqual({ seed: SEED, endpoints: [], state: 'unresolvable', reason, code })
    expect([at.seeds.isSettled, at.seen]).toEqual([true, []])
    await at.clock.advance(60_000)
    expect(at.warnings.map((error) => [error.code, error.message])).toEqual([
      [
        'SEED_UNREACHABLE',
        `could not reach the seed "${SEED}", because the name "kitchen.lan" could not be resolved (${reason}): correct the name or the resolver of this host, or name the seed by its address; it is tried again until somebody answers`,
      ],
    ])
    at.seeds.moved()
    at.name('kitchen.lan', '10.0.0.5')
    await at.clock.advance(70_000)
    expect(at.seen[0]?.sighting.endpoints).toEqual(['tcp://10.0.0.5:7400'])
  },
)

test('seeds - a lookup that hangs is waited for again and not begun twice (G6)', async () => {
  const at = new Bench(SEED)
  let answer: (addresses: string[]) => void = () => {}
  at.names.set('kitchen.lan', () => new Promise((resolve) => (answer = resolve)))
  await at.start()
  await at.clock.advance(12_000)
  expect(at.lookups).toHaveLength(1)
  answer(['10.0.0.5'])
  await at.clock.advance(10_000)
  expect(at.seen[0]?.sighting.endpoints).toEqual(['tcp://10.0.0.5:7400'])
})

test('seeds - a lookup that has hung for a minute is given up, and another one begun (G7)', async () => {
  const at = new Bench(SEED)
  at.names.set('kitchen.lan', () => new Promise(() => {}))
  await at.start()
  await at.clock.advance(59_000)
  expect(at.lookups).toHaveLength(1)
  at.name('kitchen.lan', '10.0.0.5')
  at.answers = () => ({ kind: 'up', reason: '' })
  await at.clock.advance(36_000)
  expect([at.lookups.length, at.state.state]).toEqual([2, 'up'])
})

test('seeds - a name that can no longer be resolved keeps the addresses it had, and a connection that stands is up', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5')
  at.answers = () => ({ kind: 'up', reason: '' })
  await at.start()
  at.fails('kitchen.lan', 'EAI_AGAIN')
  at.answers = () => undefined
  await at.clock.advance(60_000)
  expect([at.state.state, at.warnings]).toEqual(['up', []])
  at.answers = refused
  await at.clock.advance(30_000)
  expect(at.state).toMatchObject({
    state: 'unresolvable',
    reason: 'EAI_AGAIN; tcp://10.0.0.5:7400: connection refused',
  })
  expect(at.seen.at(-1)?.sighting.endpoints).toEqual(['tcp://10.0.0.5:7400'])
  at.answers = () => ({ kind: 'up', reason: '' })
  await at.clock.advance(30_000)
  expect(at.state.state).toBe('up')
})

test('seeds - each cause is said once for each seed, and after it was up again only if it is another than before', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  const happens = async (kind: Outcome['kind'], reason: string = kind): Promise<void> => {
    at.answers = () => ({ kind, reason })
    at.seeds.moved()
    await at.clock.advance(0)
  }
  for (const kind of ['refused', 'refused', 'silent', 'refused', 'silent'] as const) await happens(kind)
  expect(at.warnings).toEqual([])
  await at.start()
  at.warnings.splice(0)
  const said = (): string[] =>
    at.warnings.splice(0).map(({ message }) => /because ([^(]*)/.exec(message)![1]!)
  for (const kind of ['refused', 'refused', 'silent', 'refused', 'silent'] as const) await happens(kind)
  expect(said()).toEqual(['nobody listens there '])
  await happens('up')
  await happens('silent')
  await happens('refused')
  expect(said()).toEqual(['nobody has answered '])
  await happens('up')
  await happens('silent')
  expect(said()).toEqual([])
  await happens('refused')
  expect(said()).toEqual(['nobody listens there '])
})

test('seeds - the warning names the seed, its addresses, what happened and what to do', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5', 'fd00::5')
  await at.start()
  at.tried('tcp://10.0.0.5:7400', 'refused', 'connection refused')
  at.tried('tcp://[fd00::5]:7400', 'rejected', 'this node is in mesh "blue"\u001b[31m', 'attic')
  expect(at.state).toMatchObject({ state: 'rejected', peer: 'attic' })
  expect(at.warnings.map((error) => error.message)).toEqual([
    `could not reach the seed "${SEED}", because the node there will not have this one (tcp://10.0.0.5:7400: connection refused; tcp://[fd00::5]:7400: this node is in mesh \\"blue\\"\\u001b[31m): give both the same mesh and version, or name another seed; it is tried again until somebody answers`,
  ])
})

test('seeds - an address is named once, and not where it is the seed itself', async () => {
  const endpoint = 'tcp://10.0.0.5:7400'
  const outcomes: [Outcome, string][] = [
    [{ kind: 'refused', reason: `connection refused at ${endpoint}` }, 'connection refused'],
    [{ kind: 'silent', reason: `${endpoint} has not answered for 5 s` }, 'it has not answered for 5 s'],
    [{ kind: 'rejected', reason: `${endpoint} refuses this node: no` }, 'it refuses this node: no'],
  ]
  for (const seed of [endpoint, SEED]) {
    const at = new Bench(seed)
    const where = seed === endpoint ? '' : `${endpoint}: `
    at.name('kitchen.lan', '10.0.0.5')
    await at.start()
    expect(at.state.reason).toBe('it has not answered yet')
    for (const [outcome, told] of outcomes) {
      at.answers = () => outcome
      await at.clock.advance(30_000)
      expect(at.state.reason).toBe(`${where}${told}`)
    }
    const said = at.warnings.map(({ message }) => message).join()
    expect(said).toContain(`nobody listens there (${where}connection refused): start`)
  }
})

test('seeds - who listens and is no node, or at another port of one, is not taken for nobody', async () => {
  const at = new Bench('tcp://10.0.0.5:7401')
  await at.start()
  at.tried('tcp://10.0.0.5:7401', 'refused', `tcp://10.0.0.5:7401: ${WRONG_SOCKET}`)
  expect(at.state).toMatchObject({ code: 'NOT_A_NODE', reason: WRONG_SOCKET })
  expect(at.warnings.map(({ message }) => message)).toEqual([
    expect.stringMatching(/somebody listens there who does not answer as a node .*first of the three ports/),
  ])
})

test('seeds - why one has led to nobody is told by a code as well, which ends when somebody answers', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  const codes: unknown[] = []
  const outcomes: Outcome[] = [
    refused(),
    { kind: 'silent', reason: 'no answer' },
    { kind: 'rejected', reason: 'not today' },
    { kind: 'rejected', reason: 'another mesh', code: 'MESH_MISMATCH' },
    { kind: 'up', reason: '' },
  ]
  await at.start()
  for (const outcome of outcomes) {
    at.answers = () => outcome
    await at.clock.advance(30_000)
    codes.push(at.state.code)
  }
  expect(codes).toEqual(['CONNECTION_REFUSED', 'NO_ANSWER', 'REJECTED', 'MESH_MISMATCH', undefined])
  await at.seeds.close()
})

test('seeds - a seed that rejects with ever new and long reasons fills neither the log nor the memory (G6)', async () => {
  const at = new Bench('tcp://10.0.0.5:7400')
  let number = 0
  at.answers = () => ({ kind: 'rejected', reason: `${number++} ${'x'.repeat(100_000)}` })
  await at.start()
  for (let i = 0; i < 50; i++) at.seeds.moved()
  expect(at.warnings).toHaveLength(8)
  expect(Math.max(...at.warnings.map(({ message }) => message.length))).toBeLessThan(1000)
  expect(at.state.reason.length).toBeLessThan(600)
})

test('seeds - two seeds that lead to one address both learn what became of it, and one named twice is one', async () => {
  const at = new Bench(SEED, 'tcp://10.0.0.5:7400', SEED)
  at.name('kitchen.lan', '10.0.0.5')
  await at.start()
  expect(at.seen).toHaveLength(2)
  at.tried('tcp://10.0.0.5:7400', 'up')
  expect(at.seeds.states().map(({ seed, state }) => [seed, state])).toEqual([
    [SEED, 'up'],
    ['tcp://10.0.0.5:7400', 'up'],
  ])
})

test('seeds - it is settled when every address of every seed has had a first answer, and stays so', async () => {
  const at = new Bench(SEED, 'tcp://10.0.0.9:7400')
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.6')
  await at.start()
  at.tried('tcp://10.0.0.9:7400', 'refused')
  at.tried('tcp://10.0.0.5:7400', 'up')
  expect(at.seeds.isSettled).toBe(false)
  at.tried('tcp://10.0.0.6:7400', 'rejected')
  expect(at.seeds.isSettled).toBe(true)
  at.seeds.moved()
  await at.clock.advance(60_000)
  expect(at.seeds.isSettled).toBe(true)
  expect(new Seeds({ seeds: [], clock: at.clock, resolve: () => Promise.resolve([]) }).isSettled).toBe(true)
})

test('seeds - where of one address nothing is ever reported, while another answers, it is settled when it is asked again', async () => {
  const at = new Bench(SEED)
  at.name('kitchen.lan', '10.0.0.5', '10.0.0.6')
  await at.start()
  at.tried('tcp://10.0.0.5:7400', 'up')
  await at.clock.advance(14_000)
  expect(at.seeds.isSettled).toBe(false)
  // However often it is said that it is up, it is asked again.
  for (let i = 0; i < 4; i++) {
    at.tried('tcp://10.0.0.5:7400', 'up')
    await at.clock.advance(4000)
  }
  expect([at.seeds.isSettled, at.seen.length]).toEqual([true, 2])
})

test('seeds - when the network has changed all are asked at once, and what was looked up before no longer counts', async () => {
  const at = new Bench(SEED, 'tcp://10.0.0.9:7400')
  const answers: ((addresses: string[]) => void)[] = []
  at.names.set('kitchen.lan', () => new Promise((resolve) => answers.push(resolve)))
  await at.start()
  at.tried('tcp://10.0.0.9:7400', 'refused')
  await at.clock.advance(100)
  at.seeds.moved()
  await at.clock.microtasks()
  expect(at.seen.map(({ sighting }) => sighting.name)).toEqual(Array(2).fill('tcp://10.0.0.9:7400'))
  answers[0]?.(['10.0.0.5'])
  await at.clock.microtasks()
  expect(at.seen).toHaveLength(2)
  answers[1]?.(['10.0.1.5'])
  await at.clock.microtasks()
  expect(at.seen[2]?.sighting.endpoints).toEqual(['tcp://10.0.1.5:7400'])
})

test('seeds - there is one timer for each seed whatever happens, and after close none, and nothing is told (G10)', async () => {
  const at = new Bench(SEED, 'tcp://10.0.0.9:7400')
  const kinds: Outcome['kind'][] = ['refused', 'silent', 'up', 'self', 'rejected', 'up', 'refused']
  let turn = 0
  at.names.set('kitchen.lan', () =>
    turn++ % 3 === 0 ? Promise.reject(new Error('EAI_AGAIN')) : Promise.resolve(['10.0.0.5', '10.0.0.6']),
  )
  at.answers = () => (turn++ % 4 === 0 ? undefined : { kind: kinds[turn % kinds.length]!, reason: '' })
  await at.start()
  for (let i = 0; i < 100; i++) {
    await at.clock.advance(1700)
    if (i % 9 === 0) at.seeds.moved()
    await at.clock.microtasks()
    expect(at.clock.pendingTimers).toBe(2)
  }
  let answer: (addresses: string[]) => void = () => {}
  at.names.set('kitchen.lan', () => new Promise((resolve) => (answer = resolve)))
  at.seeds.moved()
  await at.clock.microtasks()
  const told = at.seen.length
  await at.seeds.close()
  await at.seeds.close()
  answer(['10.0.0.5'])
  at.seeds.moved()
  at.tried('tcp://10.0.0.9:7400', 'refused')
  await at.clock.advance(100_000)
  expect([at.clock.pendingTimers, at.seen.length]).toEqual([0, told])
})
