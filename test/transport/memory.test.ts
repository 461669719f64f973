import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Happening,
  type MemoryHost,
  MemoryNetwork,
  type MemoryNetworkOptions,
} from '../../src/transport/memory.ts'
import type { Dial, Transport } from '../../src/transport/transport.ts'
import { errorOf } from '../support/mesh.ts'

const LIMITS = { maxFrameBytes: 1 << 20, maxControlBytes: 1 << 20 }
const PORT = 7400

const ignore = { control() {}, plain() {}, subscription() {}, delivery() {}, fault() {} }

interface Events {
  readonly what: string
  readonly atMs: number
}

/** A node's end on a host of its own. */
class End {
  readonly host: MemoryHost
  readonly transport: Transport
  /** What came by control and delivery. */
  readonly read: string[] = []
  readonly routes: string[] = []
  readonly subscriptions: string[] = []
  readonly #network: MemoryNetwork

  constructor(network: MemoryNetwork, host = network.host()) {
    this.#network = network
    this.host = host
    this.transport = host.transport(LIMITS)
  }

  async listen(host = '0.0.0.0'): Promise<this> {
    await this.transport.listen(
      { host, port: PORT },
      {
        ...ignore,
        control: (route, batch) => {
          this.read.push(String(batch))
          if (!this.routes.includes(route)) this.routes.push(route)
        },
        delivery: ([batch]) => void this.read.push(String(batch)),
        subscription: (prefix, present) =>
          void this.subscriptions.push(`${present ? '+' : '-'}${String(prefix)}`),
      },
    )
    return this
  }

  /** Dials another end's control, delivery or feed socket. */
  dial(there: End | string, road: 'control' | 'delivery' | 'feed' = 'control') {
    const endpoint =
      typeof there === 'string'
        ? there
        : `tcp://${there.host.addresses[0]}:${PORT + ['control', 'feed', 'delivery'].indexOf(road)}`
    const events: Events[] = []
    const read: string[] = []
    const tell = (what: string) => (): void => void events.push({ what, atMs: this.#network.clock.now() })
    const on = {
      ...{ up: tell('up'), down: tell('down'), refused: tell('refused'), fault: () => {} },
      frames: (frames: Buffer[]): undefined => void read.push(String(frames[0])),
    }
    const dial =
      road === 'control'
        ? this.transport.dialControl(endpoint, on)
        : road === 'delivery'
          ? this.transport.dialDelivery(endpoint, on)
          : this.transport.dialFeed(endpoint, on)
    return {
      dial: dial as Dial,
      feed: this.transport,
      events,
      read,
      whats: () => events.map(({ what }) => what),
    }
  }
}

/** Two hosts, the second of which listens. */
const pair = async (options: MemoryNetworkOptions = {}) => {
  const network = new MemoryNetwork(options)
  const near = new End(network)
  const far = await new End(network).listen()
  return { network, near, far }
}

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => `${from + index}`)

const sendAll = async (dial: Dial, texts: readonly string[]): Promise<void> => {
  for (const text of texts) await dial.send([Buffer.from(text)])
}

describe('time', () => {
  test('memory - a connection takes two round trips, and a batch one way', async () => {
    const { network, near, far } = await pair({ latencyMs: 10 })
    const { dial, events } = near.dial(far)
    await network.clock.advance(39.9)
    expect(events).toEqual([])
    await network.clock.advance(0.1)
    expect(events).toEqual([{ what: 'up', atMs: 40 }])
    await sendAll(dial, ['x'])
    await network.clock.advance(9.9)
    expect(far.read).toEqual([])
    await network.clock.advance(0.1)
    expect(far.read).toEqual(['x'])
  })

  test('memory - each batch draws a latency of its own, and none overtakes another', async () => {
    const arrivals: Happening[] = []
    const { network, near, far } = await pair({
      latencyMs: [1, 50],
      trace: (happening) => void (happening.what === 'arrived' && arrivals.push(happening)),
    })
    const { dial } = near.dial(far)
    await network.clock.advance(300)
    const startedAt = network.clock.now()
    for (const text of numbers(0, 50)) {
      await sendAll(dial, [text])
      await network.clock.advance(5)
    }
    await network.clock.advance(100)
    expect(far.read).toEqual(numbers(0, 50))
    const tookMs = arrivals.map(({ atMs }, index) => atMs - (startedAt + 5 * index))
    for (const ms of tookMs) expect(ms >= 1 && ms < 51).toBe(true)
    expect(new Set(tookMs.map(Math.round)).size).toBeGreaterThan(10)
  })

  test('memory - where nobody listens a dial is refused after a round trip, and tried after 100 ms, then twice as long, at most 5 s', async () => {
    const network = new MemoryNetwork({ latencyMs: 5 })
    const near = new End(network)
    const { events } = near.dial(new End(network))
    await network.clock.advance(20_000)
    const waits = events.map(({ atMs }, index) => Math.round(atMs - (events[index - 1]?.atMs ?? 0) - 10))
    expect(waits).toEqual([0, 100, 200, 400, 800, 1600, 3200, 5000, 5000])
    expect(new Set(events.map(({ what }) => what))).toEqual(new Set(['refused']))
  })

  test('memory - where nobody is at all a dial is refused after 3 s', async () => {
    const network = new MemoryNetwork()
    const { events } = new End(network).dial('tcp://10.9.9.9:7400')
    await network.clock.advance(3000)
    expect(events).toEqual([{ what: 'refused', atMs: 3000 }])
  })
})

describe('seed', () => {
  /** A while of much traffic with every fault there is, as the network tells it and as the ends see it. */
  const history = async (seed: number): Promise<unknown> => {
    const told: Happening[] = []
    const network = new MemoryNetwork({
      ...{ seed, latencyMs: [0.1, 5], drop: 0.05, reorder: 0.05, reset: 0.01 },
      trace: (happening) => told.push(happening),
    })
    const { clock } = network
    const ends = await Promise.all(Array.from({ length: 4 }, () => new End(network).listen()))
    const dials = ends.flatMap((end) =>
      ends.filter((other) => other !== end).map((other) => end.dial(other, 'delivery')),
    )
    const send = (): void => {
      const { dial } = dials[Math.floor(clock.random() * dials.length)]!
      dial.send([Buffer.from(`at ${clock.now()}`)]).catch(() => {})
      clock.after(clock.random(), send)
    }
    send()
    clock.after(200, () => network.partition(ends[0]!.host))
    clock.after(300, () => network.heal())
    await clock.advance(1000)
    return {
      told,
      read: ends.map(({ read }) => read),
      events: dials.map(({ events }) => events),
      ...network.stats(),
    }
  }

  test('memory - the same seed and the same program are the same history, to the last event', async () => {
    const once = (await history(7)) as {
      told: Happening[]
      dropped: number
      resets: number
      heldBack: number
    }
    expect(await history(7)).toEqual(once)
    expect(await history(8)).not.toEqual(once)
    expect(once.told.length).toBeGreaterThan(1000)
    expect(Math.min(once.dropped, once.heldBack, once.resets)).toBeGreaterThan(0)
  })
})

describe('faults', () => {
  test('memory - drop loses single batches, keeps the others in order, and is counted', async () => {
    const { network, near, far } = await pair({ drop: 0.2 })
    const { dial, whats } = near.dial(far)
    for (const text of numbers(0, 500)) {
      await sendAll(dial, [text])
      await network.clock.advance(1)
    }
    expect(far.read.length + network.stats().dropped).toBe(500)
    expect(network.stats().dropped).toBeGreaterThan(50)
    expect(far.read).toEqual([...far.read].sort((a, b) => Number(a) - Number(b)))
    expect(whats()).toEqual(['up'])
  })

  test('memory - a subscription is never dropped, and no barrier overtakes what was subscribed to before it', async () => {
    const { network, near, far } = await pair({ drop: 0.9, reorder: 0.9 })
    const { dial } = near.dial(far, 'feed')
    const feed = dial as unknown as { subscribe(prefix: Buffer): void }
    await network.clock.advance(10)
    for (const text of numbers(0, 50)) feed.subscribe(Buffer.from(text))
    await network.clock.advance(100)
    expect(far.subscriptions).toEqual(numbers(0, 50).map((text) => `+${text}`))
  })

  test('memory - reorder lets some be overtaken, and loses none', async () => {
    const { network, near, far } = await pair({ reorder: 0.1 })
    const { dial } = near.dial(far)
    for (const text of numbers(0, 500)) {
      await sendAll(dial, [text])
      await network.clock.advance(0.5)
    }
    await network.clock.advance(20)
    expect([...far.read].sort((a, b) => Number(a) - Number(b))).toEqual(numbers(0, 500))
    expect(far.read).not.toEqual(numbers(0, 500))
    expect(network.stats().heldBack).toBeGreaterThan(20)
  })

  test('memory - reset breaks connections, loses what is under way, and each is dialled again', async () => {
    const { network, near, far } = await pair({ reset: 0.05, latencyMs: 1 })
    const { dial, whats } = near.dial(far)
    for (const text of numbers(0, 200)) {
      await sendAll(dial, [text])
      await network.clock.advance(20)
    }
    await network.clock.advance(5000)
    const { resets, lost } = network.stats()
    expect(resets).toBeGreaterThan(2)
    expect(lost).toBeGreaterThanOrEqual(resets)
    expect(far.read.length + lost).toBe(200)
    const breaks = Array.from({ length: resets }, () => ['down', 'up'])
    expect(whats()).toEqual(['up', ...breaks.flat()])
    expect(network.stats().connects).toBe(resets + 1)
  })

  test('memory - a reset loses what is under way in both directions, and what is sent at once takes the next connection', async () => {
    const { network, near, far } = await pair({ latencyMs: 1 })
    const { dial, read, whats } = near.dial(far)
    await sendAll(dial, ['hello'])
    await network.clock.advance(10)
    await far.transport.answer(far.routes[0]!, Buffer.from('lost'))
    await sendAll(dial, ['lost'])
    network.reset()
    await sendAll(dial, ['not lost'])
    await network.clock.advance(1000)
    expect([far.read, read, whats()]).toEqual([['hello', 'not lost'], [], ['up', 'down', 'up']])
    expect(far.routes.length).toBe(2)
    expect(network.stats()).toMatchObject({ lost: 2, resets: 1, batches: 2 })
  })

  test('memory - conditions change while it runs, of a link for both directions or one, and those of a link stay', async () => {
    const { network, near, far } = await pair({ latencyMs: 1 })
    const { dial } = near.dial(far)
    await network.clock.advance(10)
    await sendAll(dial, ['hello'])
    network.change({ latencyMs: 50 }, near.host, far.host)
    network.change({ latencyMs: 100 }, far.host, near.host, { oneWay: true })
    network.change({ latencyMs: 7, drop: 1 })
    network.change({ drop: 0 })
    await network.clock.advance(1)
    expect(far.read).toEqual(['hello'])
    await sendAll(dial, ['there'])
    await network.clock.advance(49.9)
    expect(far.read).toEqual(['hello'])
    await network.clock.advance(0.1)
    expect(far.read).toEqual(['hello', 'there'])
    const third = near.dial(await new End(network).listen())
    await network.clock.advance(28)
    expect(third.whats()).toEqual(['up'])
  })

  test('memory - a network reset breaks those of the named hosts and no other', async () => {
    const network = new MemoryNetwork()
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => new End(network).listen()))
    const [ab, ca, bc] = [a!.dial(b!), c!.dial(a!), b!.dial(c!)]
    await network.clock.advance(10)
    network.reset(a!.host, b!.host)
    await network.clock.advance(1)
    expect([ab.whats(), ca.whats(), bc.whats()]).toEqual([['up', 'down'], ['up'], ['up']])
    network.reset(a!.host)
    await network.clock.advance(200)
    expect([ab.whats(), ca.whats(), bc.whats()]).toEqual([['up', 'down', 'up'], ['up', 'down', 'up'], ['up']])
    network.reset()
    await network.clock.advance(200)
    expect(bc.whats()).toEqual(['up', 'down', 'up'])
    expect(network.stats()).toMatchObject({ connections: 3, connects: 8, resets: 5 })
  })
})

describe('partitions', () => {
  test('memory - a partition is silence; healed before 30 s, all that was sent arrives, in order, and nothing broke', async () => {
    const { network, near, far } = await pair()
    const { dial, whats } = near.dial(far)
    await network.clock.advance(10)
    await sendAll(dial, ['before'])
    network.partition(near.host, far.host)
    await sendAll(dial, numbers(0, 50))
    await network.clock.advance(25_000)
    expect(far.read).toEqual([])
    network.heal()
    // TCP sends again after twice as long each time.
    await network.clock.advance(1000)
    expect(far.read).toEqual(['before', ...numbers(0, 50)])
    await network.clock.advance(60_000)
    expect(whats()).toEqual(['up'])
  })

  test('memory - what is under way when a partition begins does not arrive before it is healed', async () => {
    const { network, near, far } = await pair({ latencyMs: 10 })
    const { dial } = near.dial(far)
    await network.clock.advance(100)
    await sendAll(dial, ['x'])
    await network.clock.advance(5)
    network.partition(near.host)
    await network.clock.advance(100)
    expect(far.read).toEqual([])
    network.heal()
    await network.clock.advance(1000)
    expect(far.read).toEqual(['x'])
  })

  test('memory - what a partition held back arrives when TCP sends it again', async () => {
    const { network, near, far } = await pair({ latencyMs: 1 })
    const { dial } = near.dial(far)
    await network.clock.advance(100)
    network.partition(near.host)
    await sendAll(dial, ['x'])
    await network.clock.advance(700)
    network.heal()
    // After 200, 600 and 1400 ms.
    await network.clock.advance(700.9)
    expect(far.read).toEqual([])
    await network.clock.advance(0.1)
    expect(far.read).toEqual(['x'])
  })

  test('memory - after 30 s of silence connections break at both ends, and dials are refused until it is healed', async () => {
    const { network, near, far } = await pair()
    const { dial, events, whats } = near.dial(far)
    await network.clock.advance(10)
    await sendAll(dial, ['before'])
    await network.clock.advance(10)
    network.partition(near.host)
    await network.clock.advance(29_999)
    expect(whats()).toEqual(['up'])
    expect(await far.transport.answer(far.routes[0]!, Buffer.from('x'))).toBe('sent')
    await network.clock.advance(1)
    expect(whats()).toEqual(['up', 'down'])
    expect(await far.transport.answer(far.routes[0]!, Buffer.from('x'))).toBe('gone')
    await network.clock.advance(10_000)
    // Each attempt takes 3 s, and 100 and 200 ms lie before the first two.
    expect(events.slice(2).map(({ atMs }) => atMs)).toEqual([33_120, 36_320, 39_720])
    network.heal()
    await network.clock.advance(5000)
    expect(whats().at(-1)).toBe('up')
  })

  test('memory - an attempt that began in a partition knocks once more after a second', async () => {
    const { network, near, far } = await pair({ latencyMs: 1 })
    network.partition(near.host)
    const { events } = near.dial(far)
    await network.clock.advance(500)
    network.heal()
    await network.clock.advance(1000)
    expect(events).toEqual([{ what: 'up', atMs: 1004 }])
  })

  test('memory - a partition of one way lets the other way pass, and no connection come about', async () => {
    const { network, near, far } = await pair()
    const { dial, read } = near.dial(far)
    await network.clock.advance(10)
    await sendAll(dial, ['before'])
    await network.clock.advance(10)
    network.partition(near.host, far.host, { oneWay: true })
    await sendAll(dial, ['lost for now'])
    await far.transport.answer(far.routes[0]!, Buffer.from('answer'))
    await far.transport.answer(far.routes[0]!, Buffer.from('and another'))
    await network.clock.advance(10)
    expect([far.read, read]).toEqual([['before'], ['answer', 'and another']])
    await near.listen()
    const [there, back] = [near.dial(far), far.dial(near)]
    await network.clock.advance(4000)
    expect([there.whats(), back.whats()]).toEqual([['refused'], ['refused']])
  })

  test('memory - a partition between groups leaves each group whole', async () => {
    const network = new MemoryNetwork()
    const ends = await Promise.all([1, 2, 3, 4].map(() => new End(network).listen()))
    const [a, b, c, d] = ends as [End, End, End, End]
    network.partition([a.host, b.host], [c.host, d.host])
    const dials = [a.dial(b), c.dial(d), a.dial(c), d.dial(b)]
    await network.clock.advance(100)
    expect(dials.map(({ whats }) => whats())).toEqual([['up'], ['up'], [], []])
    network.heal(a.host, c.host)
    await network.clock.advance(1000)
    expect(dials.map(({ whats }) => whats())).toEqual([['up'], ['up'], ['up'], []])
  })

  test('memory - without others named, hosts are cut off from all but each other', async () => {
    const network = new MemoryNetwork()
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => new End(network).listen()))
    network.partition([a!.host, b!.host])
    const dials = [a!.dial(b!), a!.dial(c!), c!.dial(b!)]
    await network.clock.advance(100)
    expect(dials.map(({ whats }) => whats())).toEqual([['up'], [], []])
  })

  test('memory - a publisher in a partition is full in the end, and goes on when it is healed (G3)', async () => {
    const { network, near, far } = await pair()
    const { dial, read } = near.dial(far, 'feed')
    const feed = dial as unknown as { subscribe(prefix: Buffer): void }
    feed.subscribe(Buffer.from(''))
    await network.clock.advance(10)
    network.partition(near.host)
    const batch = Buffer.alloc(64 * 1024)
    let sent = 0
    while ((await far.transport.publish([batch], true)) === 'sent') sent++
    // A wire of 1 MiB, of which the sender learns in halves of its queue, and 64 batches before it.
    expect(sent).toBeGreaterThanOrEqual(64)
    expect(sent).toBeLessThanOrEqual(64 + 16)
    network.heal()
    await network.clock.advance(1000)
    expect(read.length).toBe(sent)
    expect(await far.transport.publish([batch], true)).toBe('sent')
  })
})

describe('hosts', () => {
  test('memory - without a cable a host keeps its loopback, and nothing else', async () => {
    const { network, near, far } = await pair()
    const { whats } = near.dial(far)
    const own = far.dial(`tcp://127.0.0.1:${PORT}`)
    await network.clock.advance(10)
    far.host.down()
    far.host.down()
    expect(far.transport.addresses().every(({ internal }) => internal)).toBe(true)
    await network.clock.advance(20_000)
    far.host.up()
    await network.clock.advance(20_000)
    expect([whats(), own.whats()]).toEqual([['up'], ['up']])
    expect(far.transport.addresses()).toContainEqual({
      interface: 'eth0',
      address: far.host.addresses[0],
      family: 'IPv4',
      internal: false,
    })
    far.host.down()
    await network.clock.advance(30_000)
    expect([whats(), own.whats()]).toEqual([['up', 'down'], ['up']])
  })

  test('memory - a host that moves is reached where it is now, and what it had before falls silent', async () => {
    const { network, near, far } = await pair()
    const before = near.dial(far)
    await network.clock.advance(10)
    far.host.move('192.168.1.9', 'fd00::9')
    const [after, ipv6] = [near.dial(far), near.dial(`tcp://[fd00::9]:${PORT}`)]
    await network.clock.advance(100)
    expect([before.whats(), after.whats(), ipv6.whats()]).toEqual([['up'], ['up'], ['refused']])
    expect(far.transport.addresses().map(({ address }) => address)).toEqual([
      '127.0.0.1',
      '::1',
      '192.168.1.9',
      'fd00::9',
    ])
    await network.clock.advance(29_900)
    expect([before.whats(), after.whats()]).toEqual([['up', 'down'], ['up']])
  })

  test('memory - names stand for addresses, for who resolves and for who dials', async () => {
    const { network, near, far } = await pair()
    network.names.set('db.local', [far.host.addresses[0]!, '10.99.0.1'])
    expect(await near.transport.resolve('db.local')).toEqual([far.host.addresses[0], '10.99.0.1'])
    await expect(near.transport.resolve('no.local')).rejects.toMatchObject({ code: 'ENOTFOUND' })
    const [there, nowhere] = [near.dial(`tcp://db.local:${PORT}`), near.dial(`tcp://no.local:${PORT}`)]
    await network.clock.advance(5000)
    expect([there.whats(), nowhere.whats()]).toEqual([['up'], []])
    network.names.set('no.local', [far.host.addresses[0]!])
    await network.clock.advance(5000)
    expect(nowhere.whats()).toEqual(['up'])
  })

  test('memory - ports are each address its own, and a wildcard takes all', async () => {
    const network = new MemoryNetwork()
    const host = network.host('10.1.0.1', '10.1.0.2')
    const nodes = [1, 2, 3, 4].map(() => new End(network, host))
    await nodes[0]!.listen('10.1.0.1')
    await nodes[1]!.listen('10.1.0.2')
    expect((await errorOf(() => nodes[2]!.listen('10.1.0.2'))).code).toBe('ADDRESS_IN_USE')
    expect((await errorOf(() => nodes[2]!.listen())).code).toBe('ADDRESS_IN_USE')
    await nodes[2]!.listen('127.0.0.1')
    await nodes[0]!.transport.close()
    await nodes[3]!.listen('eth0')
    const stranger = new End(network)
    const dials = ['10.1.0.1', '10.1.0.2'].map((address) => stranger.dial(`tcp://${address}:${PORT}`))
    const own = new End(network, host).dial(`tcp://localhost:${PORT}`)
    for (const { dial } of [...dials, own]) await sendAll(dial, ['hello'])
    await network.clock.advance(100)
    expect(nodes.map(({ read }) => read.length)).toEqual([0, 1, 1, 1])
  })

  test('memory - who listens on loopback is reached from its own host alone', async () => {
    const network = new MemoryNetwork()
    const far = await new End(network).listen('127.0.0.1')
    const dials = [new End(network).dial(far), new End(network, far.host).dial(`tcp://127.0.0.1:${PORT}`)]
    await network.clock.advance(50)
    expect(dials.map(({ whats }) => whats())).toEqual([['refused'], ['up']])
  })

  test('memory - a host that pauses reads nothing, fills up who sends to it, and goes on in order (G3)', async () => {
    const { network, near, far } = await pair()
    const { dial, whats } = near.dial(far, 'delivery')
    await network.clock.advance(10)
    far.host.pause()
    let taken = 0
    const sending = (async () => {
      for (const text of numbers(0, 3000)) {
        await dial.send([Buffer.from(text.padEnd(1000))])
        taken++
      }
    })()
    await network.clock.advance(10_000)
    // 64 unread, 1 MiB on the wire, 64 that wait before it.
    expect(taken).toBeGreaterThan(1048 + 64)
    expect(taken).toBeLessThan(1048 + 64 + 64 + 64)
    expect(far.read).toEqual([])
    far.host.resume()
    await network.clock.run(sending)
    await network.clock.advance(10)
    expect(far.read.map((text) => text.trim())).toEqual(numbers(0, 3000))
    expect(whats()).toEqual(['up'])
  })

  test('memory - the backlog of a broken connection is read mixed with what came after it', async () => {
    const { network, near, far } = await pair()
    const { dial } = near.dial(far, 'delivery')
    await network.clock.advance(10)
    far.host.pause()
    await sendAll(dial, numbers(0, 20))
    await network.clock.advance(10)
    network.reset()
    await network.clock.advance(200)
    await sendAll(dial, numbers(20, 40))
    await network.clock.advance(10)
    far.host.resume()
    await network.clock.advance(10)
    expect(far.read).toEqual(numbers(0, 20).flatMap((text, index) => [text, `${20 + index}`]))
  })

  test('memory - a host that crashes says nothing more, and its peers see their connections end', async () => {
    const { network, near, far } = await pair()
    const out = near.dial(far)
    const back = far.dial(await near.listen())
    await network.clock.advance(10)
    await sendAll(out.dial, ['hello'])
    await network.clock.advance(10)
    far.host.crash()
    await network.clock.advance(400)
    expect(out.whats()).toEqual(['up', 'down', 'refused', 'refused'])
    expect(back.whats()).toEqual(['up'])
    expect(network.stats().connections).toBe(0)
  })

  test.each([
    ['no address', 'nonsense'],
    ['loopback', '127.0.0.1'],
    ['a wildcard', '0.0.0.0'],
  ])('memory - a host cannot have %s', (_, address) => {
    expect(() => new MemoryNetwork().host(address)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })

  test('memory - two hosts cannot have one address, and those without a wish have others', () => {
    const network = new MemoryNetwork()
    network.host('10.0.0.2')
    expect(() => network.host('10.0.0.2')).toThrow(/host '10.0.0.2' has address '10.0.0.2'/)
    expect([network.host(), network.host()].map(({ name }) => name)).toEqual(['10.0.0.3', '10.0.0.4'])
  })

  test.each([
    { drop: -1 },
    { drop: 1.5 },
    { reset: Number.NaN },
    { latencyMs: -1 },
    { latencyMs: [2, 1] as const },
  ])('memory - conditions that cannot be are refused: %o', (conditions) => {
    expect(() => new MemoryNetwork(conditions)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
    expect(() => new MemoryNetwork().change(conditions)).toThrow(/is/)
  })
})

describe('whatever happens', () => {
  const deed = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ what: fc.constant('send' as const), many: fc.integer({ min: 1, max: 90 }) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ what: fc.constant('pass' as const), many: fc.integer({ min: 0, max: 40 }) }),
    },
    fc.record({
      what: fc.constantFrom('partition' as const, 'one way' as const, 'heal' as const, 'reset' as const),
      many: fc.constant(0),
    }),
    fc.record({
      what: fc.constantFrom(
        'pause' as const,
        'resume' as const,
        'down' as const,
        'up' as const,
        'wait' as const,
      ),
      many: fc.constant(0),
    }),
  )

  test('memory - no connection loses from its middle, repeats or reorders, and after all faults it works again', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(deed, { maxLength: 40 }), async (seed, deeds) => {
        const network = new MemoryNetwork({ seed, latencyMs: [0.1, 5] })
        const near = new End(network)
        const far = new End(network)
        /** What came on each connection. */
        const came = new Map<string, number[]>()
        const on = (route: string, batch: Buffer): void => {
          if (!came.has(route)) came.set(route, [])
          came.get(route)!.push(Number(batch))
        }
        await far.transport.listen({ host: '0.0.0.0', port: PORT }, { ...ignore, control: on })
        const { dial } = near.dial(far)
        let next = 0
        let sending = Promise.resolve()
        for (const { what, many } of deeds) {
          if (what === 'send') {
            const from = next
            next += many
            sending = sending.then(() => sendAll(dial, numbers(from, from + many)))
          } else if (what === 'pass') await network.clock.advance(many)
          else if (what === 'wait') await network.clock.advance(31_000)
          else if (what === 'partition') network.partition(near.host, far.host)
          else if (what === 'one way') network.partition(far.host, near.host, { oneWay: true })
          else if (what === 'heal') network.heal()
          else if (what === 'reset') network.reset()
          else far.host[what]()
        }
        network.heal()
        far.host.up()
        far.host.resume()
        await network.clock.run(sending)
        await network.clock.run(sendAll(dial, ['1000000']))
        await network.clock.advance(60_000)
        const all = [...came.values()]
        expect(all.flat()).toContain(1_000_000)
        expect(new Set(all.flat()).size).toBe(all.flat().length)
        // The former connections may be read late, but each is a row without a gap: what is lost, is lost at its end.
        for (const row of all) {
          const sent = row.filter((number) => number !== 1_000_000)
          expect(sent).toEqual(sent.map((_, index) => sent[0]! + index))
        }
        const { lost } = network.stats()
        expect(all.flat().length + lost).toBe(next + 1)
      }),
      { numRuns: 150 },
    )
  })

  test('memory - a hundred nodes that all dial each other are up after two round trips', async () => {
    const network = new MemoryNetwork({ latencyMs: 1 })
    const ends = await Promise.all(Array.from({ length: 100 }, () => new End(network).listen()))
    const dials = ends.flatMap((end) => ends.filter((other) => other !== end).map((other) => end.dial(other)))
    await network.clock.advance(4)
    expect(network.stats()).toMatchObject({ connections: 9900, connects: 9900, refused: 0 })
    expect(dials.every(({ events }) => events.length === 1)).toBe(true)
    // Two events a connection: a packet arrives, and both ends have said what they are.
    expect(network.clock.events).toBe(2 * 9900)
    await Promise.all(ends.map(({ transport }) => transport.close()))
    await network.clock.advance(10)
    expect([network.stats().connections, network.clock.pending]).toEqual([0, 0])
  })
})
