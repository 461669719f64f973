import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Node, PushOptions, Receipt } from '../../src/index.ts'
import { SimulatedNetwork } from '../../src/testing.ts'

interface Handling {
  readonly value: unknown
  readonly boot: string
  readonly redelivered: boolean
}

/** A sender, two workers, and a network that does to them what it likes. */
class World {
  readonly network: SimulatedNetwork
  readonly handled: Handling[] = []
  readonly receipts: Receipt[] = []
  /** Values by their key, in the order in which they were pushed. */
  readonly keyed = new Map<string, unknown[]>()
  readonly workers: Node[] = []
  /** Values that are not ready the first time. */
  readonly #failedOnce = new Set<unknown>()
  sender!: Node
  sent = 0

  constructor(seed: number) {
    this.network = new SimulatedNetwork({ seed })
  }

  async start(): Promise<void> {
    this.sender = await this.network.createNode({ name: 'sender' })
    await this.hire()
    await this.hire()
    await this.network.run(this.sender.waitForPeers(2))
  }

  async hire(): Promise<void> {
    const node = await this.network.createNode()
    const { clock } = this.network
    node.pull(
      'jobs',
      async (value, { redelivered }) => {
        await new Promise<void>((resolve) => clock.after((value as number) % 7, resolve))
        if ((value as number) % 5 === 0 && !this.#failedOnce.has(value)) {
          this.#failedOnce.add(value)
          throw new Error('not yet')
        }
        this.handled.push({ value, boot: node.boot, redelivered })
      },
      { concurrency: 3 },
    )
    this.workers.push(node)
  }

  async push(count: number, options: PushOptions = {}): Promise<void> {
    const { key } = options
    const sends = Array.from({ length: count }, () => {
      if (key !== undefined) this.keyed.set(key, [...(this.keyed.get(key) ?? []), this.sent + 1])
      return this.sender.push('jobs', ++this.sent, options)
    })
    this.receipts.push(...(await this.network.run(Promise.all(sends))))
  }

  /** Everything stands again, and every message has the time to arrive. */
  async settle(): Promise<void> {
    this.network.heal()
    await this.network.run(Promise.all(this.receipts.map(({ settled }) => settled)), { limitMs: 600_000 })
  }
}

type Step = (world: World) => void | Promise<void>
const step = (text: string, run: Step): Step => Object.assign(run, { toString: () => text })

const steps = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 30 }).map((n) => step(`push ${n}`, (world) => world.push(n))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.constantFrom('a', 'b', 'c'))
      .map(([n, key]) => step(`key ${key} ${n}`, (world) => world.push(n, { key }))),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 8 }), fc.constantFrom(1, 50, 3000))
      .map(([n, delayMs]) => step(`delay ${delayMs} ${n}`, (world) => world.push(n, { delayMs }))),
  },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(0, 1, 5, 40, 700, 5000, 20_000)
      .map((ms) => step(`advance ${ms}`, (world) => world.network.advance(ms))),
  },
  { weight: 3, arbitrary: fc.constant(step('reset', (world) => world.network.reset())) },
  {
    weight: 2,
    arbitrary: fc.nat(1).map((at) =>
      step(`cut ${at}`, (world) => {
        const { network, workers } = world
        network.partition(network.hostOf(workers[at % workers.length]!))
      }),
    ),
  },
  { weight: 2, arbitrary: fc.constant(step('heal', (world) => world.network.heal())) },
  {
    weight: 1,
    arbitrary: fc.constant(
      step('replace', async (world) => {
        await world.hire()
        await world.network.run(world.workers.shift()!.close())
      }),
    ),
  },
)

test('at least once - whatever the network does, each message is handled, no boot handles it twice, repeats are flagged, keys keep their order (G2, G4, G9)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(steps, { minLength: 3, maxLength: 25 }), async (seed, run) => {
      const world = new World(seed)
      await world.start()
      for (const each of run) await each(world)
      await world.settle()
      const { sent, handled, sender, keyed } = world
      expect(new Set(handled.map(({ value }) => value)).size).toBe(sent)
      const firsts = [...new Set(handled.map(({ value }) => value))]
      for (const values of keyed.values())
        expect(firsts.filter((value) => values.includes(value))).toEqual(values)
      const perBoot = handled.map(({ value, boot }) => `${String(value)} ${boot}`)
      expect(new Set(perBoot).size).toBe(handled.length)
      const unflagged = handled.filter(({ redelivered }) => !redelivered).map(({ value }) => value)
      expect(new Set(unflagged).size).toBe(unflagged.length)
      expect(sender.stats()).toMatchObject({ owed: 0, deadLetters: 0 })
      await world.network.close()
    }),
    { numRuns: Number(process.env.OWED_RUNS ?? 40) },
  )
}, 120_000)
