// What nodes rely on, of real sockets and of the network in memory alike. Whatever only one of the two keeps makes a
// simulation worthless, so each promise of src/transport/transport.ts is tested here, and each fact that a node meets.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Listener, Sent, Transport } from '../../src/transport/transport.ts'
import { errorOf } from '../support/mesh.ts'
import { type Bench, MemoryBench, ZeromqBench } from '../support/transport-bench.ts'

const HOST = '127.0.0.1'

const at = (port: number): string => `tcp://${HOST}:${port}`

/** What a listener was told. */
const hearing = () => {
  const asked: { route: string; text: string }[] = []
  const plainly: { route: string; texts: string[] }[] = []
  /** `+prefix` and `-prefix`. */
  const subscriptions: string[] = []
  const deliveries: string[][] = []
  const faults: unknown[] = []
  return {
    ...{ asked, plainly, subscriptions, deliveries, faults },
    texts: (): string[] => asked.map(({ text }) => text),
    control: (route: string, batch: Buffer): void => void asked.push({ route, text: String(batch) }),
    plain: (route: string, frames: Buffer[]): void => void plainly.push({ route, texts: frames.map(String) }),
    subscription: (prefix: Buffer, present: boolean): void =>
      void subscriptions.push(`${present ? '+' : '-'}${String(prefix)}`),
    delivery: (frames: Buffer[]): void => void deliveries.push(frames.map(String)),
    fault: (error: unknown): void => void faults.push(error),
  }
}

type Taken = (frames: Buffer[]) => boolean | undefined

/** What became of a dial, and what came; `taken` is called for each batch. */
const logging = (taken: Taken = () => undefined) => {
  /** up, down, refused, in their order. */
  const events: string[] = []
  const read: string[] = []
  const faults: unknown[] = []
  return {
    ...{ events, read, faults },
    count: (event: string): number => events.filter((each) => each === event).length,
    up: (): void => void events.push('up'),
    down: (): void => void events.push('down'),
    refused: (): void => void events.push('refused'),
    frames: (frames: Buffer[]): boolean | undefined => {
      read.push(frames.map(String).join(' '))
      return taken(frames)
    },
    fault: (error: unknown): void => void faults.push(error),
  }
}

const bytes = (text: string): Buffer => Buffer.from(text)

describe.each([
  ['zeromq', () => new ZeromqBench()],
  ['memory', () => new MemoryBench()],
] as [string, () => Bench][])('%s', (_, makeBench) => {
  let bench: Bench
  let transport: Transport
  let heard: ReturnType<typeof hearing>

  beforeEach(() => {
    bench = makeBench()
    transport = bench.open()
    heard = hearing()
  })

  afterEach(() => bench.close())

  const listen = (port = 0, on: Listener = heard, by = transport) => by.listen({ host: HOST, port }, on)

  const dialControl = (endpoint: string, from = bench.open(), taken?: Taken) => {
    const log = logging(taken)
    return { log, ...pick(from.dialControl(endpoint, log)) }
  }

  const dialFeed = (endpoint: string, prefixes: readonly string[], taken?: Taken) => {
    const log = logging(taken)
    const dial = bench.open().dialFeed(endpoint, log)
    for (const prefix of prefixes) dial.subscribe(bytes(prefix))
    return { log, dial }
  }

  /** Sends a batch on the control road and resolves to the route of its connection. */
  const routeOf = async (send: (frames: Buffer[]) => Promise<void>, text: string): Promise<string> => {
    await send([bytes(text)])
    await bench.eventually(() => heard.texts().includes(text))
    return heard.asked.find((each) => each.text === text)!.route
  }

  describe('addresses', () => {
    test('transport - the addresses of this host have the loopback among them, marked as internal', () => {
      expect(transport.addresses()).toContainEqual({
        interface: expect.any(String),
        address: HOST,
        family: 'IPv4',
        internal: true,
      })
    })

    test('transport - a name resolves to its addresses, an address to itself', async () => {
      const local = await transport.resolve('localhost')
      expect(local.some((address) => address === HOST || address === '::1')).toBe(true)
      expect(await transport.resolve('127.0.0.9')).toEqual(['127.0.0.9'])
    })

    test('transport - a name behind which there is nothing rejects', async () => {
      await expect(transport.resolve('nobody.invalid')).rejects.toThrow()
    })
  })

  describe('listen', () => {
    test('transport - a port stands for three in a row: control, feed, delivery', async () => {
      const port = await bench.freePort()
      expect(await listen(port)).toEqual({ host: HOST, control: port, feed: port + 1, delivery: port + 2 })
    })

    test('transport - port 0 stands for any three', async () => {
      const { control, feed, delivery } = await listen()
      expect(new Set([control, feed, delivery, 0]).size).toBe(4)
    })

    test.each([0, 1, 2])(
      'transport - one taken port of the three, number %i, is ADDRESS_IN_USE',
      async (taken) => {
        const port = await bench.freePort()
        await listen(port)
        const error = await errorOf(() => listen(port + taken, hearing(), bench.open()))
        const lower = await errorOf(() => listen(port - taken, hearing(), bench.open()))
        expect([error.code, lower.code]).toEqual(['ADDRESS_IN_USE', 'ADDRESS_IN_USE'])
        expect(error.message).toContain(`tcp://${HOST}:${port + taken}`)
      },
    )

    test('transport - an address that this host does not have is OPTION_INVALID', async () => {
      const error = await errorOf(() => transport.listen({ host: '203.0.113.7', port: 0 }, heard))
      expect(error.code).toBe('OPTION_INVALID')
    })

    test('transport - the ports are free again once it is closed', async () => {
      const port = await bench.freePort()
      await listen(port)
      await transport.close()
      let ports: unknown
      await bench.eventually(async () => {
        ports = await listen(port, hearing(), bench.open()).catch(() => undefined)
        return ports
      })
      expect(ports).toMatchObject({ control: port })
    })
  })

  describe('control', () => {
    test('transport - who is dialled answers on the very connection on which it was asked', async () => {
      const { control } = await listen()
      const [one, two] = [dialControl(at(control)), dialControl(at(control))]
      const routes = [await routeOf(one.send, 'one'), await routeOf(two.send, 'two')]
      expect(routes[0]).not.toBe(routes[1])
      expect(await transport.answer(routes[0]!, bytes('to one'))).toBe('sent')
      expect(await transport.answer(routes[1]!, bytes('to two'))).toBe('sent')
      await bench.eventually(() => one.log.read.length + two.log.read.length === 2)
      expect([one.log.read, two.log.read]).toEqual([['to one'], ['to two']])
      expect([one.log.events, two.log.events]).toEqual([['up'], ['up']])
    })

    test('transport - nothing is said of a dial before the call has returned', async () => {
      const { control } = await listen()
      const there = dialControl(at(control))
      const nowhere = dialControl(at(await bench.freePort()))
      expect([there.log.events, nowhere.log.events]).toEqual([[], []])
    })

    test('transport - an answer to nobody is gone', async () => {
      await listen()
      expect(await transport.answer('nobody', bytes('x'))).toBe('gone')
    })

    test('transport - an answer to whom has closed is gone', async () => {
      const { control } = await listen()
      const { send, close } = dialControl(at(control))
      const route = await routeOf(send, 'hello')
      close()
      await bench.eventually(async () => (await transport.answer(route, bytes('x'))) === 'gone')
    })

    test('transport - batches arrive in the order in which they were sent, in both directions', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control))
      const texts = Array.from({ length: 1000 }, (_, n) => `${n}`)
      const sending = (async () => {
        for (const text of texts) await send([bytes(text)])
      })()
      await bench.eventually(() => heard.asked.length === texts.length)
      await sending
      expect(heard.texts()).toEqual(texts)
      const { route } = heard.asked[0]!
      for (const text of texts) {
        await bench.eventually(async () => (await transport.answer(route, bytes(text))) === 'sent')
      }
      await bench.eventually(() => log.read.length === texts.length)
      expect(log.read).toEqual(texts)
    })

    test('transport - answers find a full connection in the end, and room when it is read (G3)', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control))
      const route = await routeOf(send, 'hello')
      const batch = Buffer.alloc(256 * 1024)
      let sent = 0
      // Nothing is read as long as the event loop gets no turn.
      let last: Sent = 'sent'
      while (last === 'sent' && sent < 10_000) {
        last = await transport.answer(route, batch)
        if (last === 'sent') sent++
      }
      expect(last).toBe('full')
      expect(await transport.answer('nobody', batch)).toBe('gone')
      await bench.eventually(() => log.read.length === sent)
      expect(await transport.answer(route, batch)).toBe('sent')
    })

    test('transport - a message of several frames is no batch: a fault, and the connection goes on', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control))
      await send([bytes('two'), bytes('frames')])
      await routeOf(send, 'one frame')
      expect(heard.faults).toMatchObject([{ code: 'MALFORMED' }])
      await bench.eventually(() => log.count('up') === 1)
      expect(log.events).toEqual(['up'])
    })

    test('transport - frames behind an empty one are what a plain REQ socket asks, and answered as such', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control))
      await send([bytes(''), bytes('price.get'), bytes('a1')])
      await bench.eventually(() => heard.plainly.length === 1)
      const { route, texts } = heard.plainly[0]!
      expect(texts).toEqual(['price.get', 'a1'])
      expect(await transport.answerPlain(route, ['200', bytes('17')])).toBe('sent')
      await bench.eventually(() => log.read.length === 1)
      expect(log.read).toEqual([' 200 17'])
    })

    test('transport - what a listener throws is a fault, and reading goes on', async () => {
      const { control } = await listen(0, {
        ...heard,
        control: (route, batch) => {
          if (String(batch) === 'bad') throw new Error('I do not like it')
          heard.control(route, batch)
        },
      })
      const { send } = dialControl(at(control))
      await send([bytes('bad')])
      await routeOf(send, 'good')
      expect(heard.faults).toMatchObject([{ message: 'I do not like it' }])
    })

    test('transport - what a dialler throws is a fault, and reading goes on', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control), bench.open(), (frames) => {
        if (String(frames[0]) === 'bad') throw new Error('I do not like it')
        return undefined
      })
      const route = await routeOf(send, 'hello')
      for (const text of ['bad', 'good']) await transport.answer(route, bytes(text))
      await bench.eventually(() => log.read.includes('good'))
      expect(log.faults).toMatchObject([{ message: 'I do not like it' }])
    })

    test('transport - a dialler that asks for a pause after each batch reads all of them, in order', async () => {
      const { control } = await listen()
      const { send, log } = dialControl(at(control), bench.open(), () => true)
      const route = await routeOf(send, 'hello')
      const texts = Array.from({ length: 300 }, (_, n) => `${n}`)
      for (const text of texts) {
        await bench.eventually(async () => (await transport.answer(route, bytes(text))) === 'sent')
      }
      await bench.eventually(() => log.read.length === texts.length)
      expect(log.read).toEqual(texts)
    })
  })

  describe('delivery', () => {
    test('transport - batches of several frames arrive whole and in order', async () => {
      const { delivery } = await listen()
      const log = logging()
      const dial = bench.open().dialDelivery(at(delivery), log)
      const sending = (async () => {
        for (let n = 0; n < 500; n++) await dial.send([bytes(`${n}`), bytes('body'), bytes('')])
      })()
      await bench.eventually(() => heard.deliveries.length === 500)
      await sending
      expect(heard.deliveries).toEqual(Array.from({ length: 500 }, (_, n) => [`${n}`, 'body', '']))
      // What happens to a connection is told on a way of its own.
      await bench.eventually(() => log.events.length > 0)
      expect(log.events).toEqual(['up'])
    })

    test('transport - a frame of a megabyte arrives as it was sent', async () => {
      const got: Buffer[] = []
      const { delivery } = await listen(0, { ...heard, delivery: (frames) => void got.push(...frames) })
      const large = Buffer.alloc(1 << 20, 'large')
      await bench.open().dialDelivery(at(delivery), logging()).send([large])
      await bench.eventually(() => got.length === 1)
      expect(got[0]!.equals(large)).toBe(true)
    })
  })

  describe('connections', () => {
    test('transport - where nobody listens a dial is refused, again and again, and up once somebody does', async () => {
      const port = await bench.freePort()
      const { log, send } = dialControl(at(port))
      await bench.eventually(() => log.count('refused') >= 3)
      await listen(port)
      await bench.eventually(() => log.count('up') === 1)
      expect(log.events).toEqual([...log.events.slice(0, -1).map(() => 'refused'), 'up'])
      await routeOf(send, 'at last')
    })

    test('transport - 64 batches wait while nobody is there, one more waits for room, and all arrive in order', async () => {
      const port = await bench.freePort()
      const { log, send } = dialControl(at(port))
      for (let n = 0; n < 64; n++) await send([bytes(`${n}`)])
      let taken = false
      const waiting = send([bytes('64')]).then(() => {
        taken = true
      })
      await bench.eventually(() => log.count('refused') >= 2)
      expect(taken).toBe(false)
      await listen(port)
      await bench.eventually(() => heard.asked.length === 65)
      await waiting
      expect(heard.texts()).toEqual(Array.from({ length: 65 }, (_, n) => `${n}`))
    })

    test('transport - a send while the former one waits is refused', async () => {
      const { send } = dialControl(at(await bench.freePort()))
      for (let n = 0; n < 64; n++) await send([bytes(`${n}`)])
      const waiting = send([bytes('waits')]).catch(() => 'given up')
      await expect(send([bytes('too soon')])).rejects.toThrow()
      await bench.close()
      expect(await waiting).toBe('given up')
    })

    test('transport - a listener that goes is a break, then refusals, and its successor a connection', async () => {
      const port = await bench.freePort()
      await listen(port)
      const { log, send } = dialControl(at(port))
      await routeOf(send, 'to the first')
      await transport.close()
      await bench.eventually(() => log.count('refused') >= 1)
      expect(log.events.slice(0, 3)).toEqual(['up', 'down', 'refused'])
      const successor = bench.open()
      await bench.eventually(() =>
        listen(port, heard, successor).then(
          () => true,
          () => false,
        ),
      )
      await bench.eventually(() => log.count('up') === 2)
      await routeOf(send, 'to the second')
      expect(log.count('down')).toBe(1)
    })

    test('transport - after a reset the connection is back under another route, and the former is gone', async () => {
      const { control } = await listen()
      const way = await bench.way(control)
      const { log, send } = dialControl(way.endpoint)
      const before = await routeOf(send, 'before')
      way.reset()
      await bench.eventually(() => log.count('up') === 2)
      expect(log.events).toEqual(['up', 'down', 'up'])
      const after = await routeOf(send, 'after')
      expect(after).not.toBe(before)
      await bench.eventually(async () => (await transport.answer(before, bytes('x'))) === 'gone')
      expect(await transport.answer(after, bytes('back'))).toBe('sent')
      await bench.eventually(() => log.read.includes('back'))
    })

    test('transport - a dial to another road is cut before it stands, and never stands', async () => {
      const { feed } = await listen()
      const { log } = dialControl(at(feed))
      await bench.eventually(() => log.events.length > 0)
      expect(log.events).toEqual(['down'])
    })

    test('transport - what cannot be dialled is refused, with a fault that says why, and takes nothing', async () => {
      const { log, send } = dialControl('tcp//nonsense')
      const rejected = expect(send([bytes('x')])).rejects.toThrow()
      expect(log.events).toEqual([])
      await bench.eventually(() => log.count('refused') === 1)
      expect(String(log.faults)).toContain('tcp//nonsense')
      await rejected
    })
  })

  describe('large frames', () => {
    test('transport - a control batch above the limit cuts its connection, and the next one stands', async () => {
      const strict = bench.open({ maxControlBytes: 1000 })
      const { control } = await listen(0, heard, strict)
      const { log, send } = dialControl(at(control))
      await routeOf(send, 'small')
      await send([Buffer.alloc(1001)])
      await bench.eventually(() => log.count('up') === 2)
      await routeOf(send, 'small again')
      expect(log.events).toEqual(['up', 'down', 'up'])
      expect(heard.texts()).toEqual(['small', 'small again'])
    })

    test('transport - a frame of exactly the limit passes', async () => {
      const strict = bench.open({ maxControlBytes: 1000 })
      const { control } = await listen(0, heard, strict)
      const { log, send } = dialControl(at(control))
      await routeOf(send, 'x'.repeat(1000))
      await bench.eventually(() => log.count('up') === 1)
      expect(log.events).toEqual(['up'])
    })

    test('transport - who dialled and is answered above its own limit is cut off, told so, and not connected again', async () => {
      const { control } = await listen()
      const { log, send } = dialControl(at(control), bench.open({ maxFrameBytes: 1000 }))
      const route = await routeOf(send, 'hello')
      await transport.answer(route, Buffer.alloc(1001))
      await bench.eventually(() => log.count('refused') === 1)
      expect(log.faults).toMatchObject([{ code: 'VALUE_TOO_LARGE' }])
      // Others break in the meantime and are back.
      const way = await bench.way(control)
      const other = dialControl(way.endpoint)
      for (let ups = 1; ups <= 3; ups++) {
        await bench.eventually(() => other.log.count('up') === ups)
        way.reset()
      }
      expect(log.events).toEqual(['up', 'down', 'refused'])
    })
  })

  describe('feed', () => {
    const publish = (topic: string, patient = true): Promise<Sent> =>
      transport.publish([bytes(topic), bytes('body')], patient)

    test('transport - a subscriber gets what begins with one of its prefixes, and nothing else', async () => {
      const { feed } = await listen()
      const { log } = dialFeed(at(feed), ['a.', 'b', 'end'])
      await bench.eventually(() => heard.subscriptions.length === 3)
      for (const topic of ['a', 'a.1', 'c', 'b', 'bb', 'A.1', 'end'])
        expect(await publish(topic)).toBe('sent')
      await bench.eventually(() => log.read.includes('end body'))
      expect(log.read).toEqual(['a.1 body', 'b body', 'bb body', 'end body'])
    })

    test('transport - a batch that matches several prefixes comes once', async () => {
      const { feed } = await listen()
      const { log } = dialFeed(at(feed), ['', 'a', 'ab'])
      await bench.eventually(() => heard.subscriptions.length === 3)
      for (const topic of ['abc', 'end']) await publish(topic)
      await bench.eventually(() => log.read.includes('end body'))
      expect(log.read).toEqual(['abc body', 'end body'])
    })

    test('transport - publishing to nobody is sent, and with nobody listening gone', async () => {
      expect(await publish('a')).toBe('gone')
      await listen()
      expect(await publish('a')).toBe('sent')
    })

    test('transport - the first subscriber of a prefix and the last that leaves are told, and no other', async () => {
      const { feed } = await listen()
      const first = dialFeed(at(feed), ['a', 'first'])
      await bench.eventually(() => heard.subscriptions.length === 2)
      const second = dialFeed(at(feed), ['a', 'second'])
      await bench.eventually(() => heard.subscriptions.includes('+second'))
      first.dial.unsubscribe(bytes('a'))
      first.dial.unsubscribe(bytes('first'))
      await bench.eventually(() => heard.subscriptions.includes('-first'))
      second.dial.close()
      await bench.eventually(
        () => heard.subscriptions.includes('-second') && heard.subscriptions.includes('-a'),
      )
      expect(heard.subscriptions.filter((each) => each.endsWith('a'))).toEqual(['+a', '-a'])
    })

    test('transport - who subscribed twice is subscribed until it has unsubscribed twice', async () => {
      const { feed } = await listen()
      const { log, dial } = dialFeed(at(feed), ['a', 'a'])
      await bench.eventually(() => heard.subscriptions.includes('+a'))
      dial.unsubscribe(bytes('a'))
      dial.subscribe(bytes('marker'))
      await bench.eventually(() => heard.subscriptions.includes('+marker'))
      await publish('a 1')
      await bench.eventually(() => log.read.includes('a 1 body'))
      dial.unsubscribe(bytes('a'))
      await bench.eventually(() => heard.subscriptions.includes('-a'))
    })

    test('transport - subscriptions are repeated after a reset, and what is added at the handshake comes behind them', async () => {
      const { feed } = await listen()
      const way = await bench.way(feed)
      const log = logging()
      const dial = bench.open().dialFeed(way.endpoint, {
        up: () => {
          log.up()
          dial.subscribe(bytes(`barrier ${log.count('up')}`))
        },
        down: () => log.down(),
        frames: (frames) => log.frames(frames),
        fault: log.fault,
      })
      const topics = ['a', 'b', 'c', 'd', 'e']
      for (const topic of topics) dial.subscribe(bytes(topic))
      for (let connection = 1; connection <= 3; connection++) {
        await bench.eventually(() => heard.subscriptions.includes(`+barrier ${connection}`))
        const repeated = topics.map((topic) => heard.subscriptions.lastIndexOf(`+${topic}`))
        expect(Math.max(...repeated)).toBeLessThan(heard.subscriptions.indexOf(`+barrier ${connection}`))
        await publish(`a ${connection}`)
        await bench.eventually(() => log.read.includes(`a ${connection} body`))
        way.reset()
        await bench.eventually(() => log.count('down') === connection)
      }
    })

    test('transport - subscriptions made while nobody is there are known to whoever comes', async () => {
      const port = await bench.freePort()
      const { log, dial } = dialFeed(at(port + 1), ['a', 'b'])
      await bench.eventually(() => log.count('refused') >= 1)
      dial.unsubscribe(bytes('b'))
      dial.subscribe(bytes('c'))
      await listen(port)
      await bench.eventually(() => heard.subscriptions.includes('+c') && heard.subscriptions.includes('+a'))
      // ZeroMQ tells a first connection how it came to that, too.
      const taken = heard.subscriptions
        .filter((each) => each.startsWith('-'))
        .map((each) => `+${each.slice(1)}`)
      expect(
        heard.subscriptions.filter((each) => each.startsWith('+') && !taken.includes(each)).sort(),
      ).toEqual(['+a', '+c'])
    })

    test('transport - the end of a connection ends its subscriptions', async () => {
      const { feed } = await listen()
      const { dial } = dialFeed(at(feed), ['a'])
      await bench.eventually(() => heard.subscriptions.includes('+a'))
      dial.close()
      await bench.eventually(() => heard.subscriptions.includes('-a'))
    })

    test('transport - a patient publish finds a subscriber full that does not read, and nobody else waits (G3)', async () => {
      const { feed } = await listen()
      const slow = dialFeed(at(feed), ['slow'])
      const other = dialFeed(at(feed), ['other'])
      await bench.eventually(() => heard.subscriptions.length === 2)
      const body = Buffer.alloc(256 * 1024)
      let sent = 0
      // Nothing is read as long as the event loop gets no turn.
      while (sent < 10_000 && (await transport.publish([bytes(`slow ${sent}`), body], true)) === 'sent')
        sent++
      expect(await transport.publish([bytes('slow'), body], true)).toBe('full')
      expect(await publish('other 1')).toBe('sent')
      // Impatient: lost for who is full, which is passed over from now on and makes nobody wait.
      expect(await transport.publish([bytes('slow, lost'), body], false)).toBe('sent')
      expect(await transport.publish([bytes('slow, passed over'), body], true)).toBe('sent')
      await bench.eventually(() => slow.log.read.length >= sent && other.log.read.length === 1)
      // It has caught up, and is not passed over any more.
      await bench.eventually(async () => {
        await publish('slow again')
        return slow.log.read.includes('slow again body')
      })
      const topics = slow.log.read.map((text) => text.split('\0')[0]!.trim())
      expect(topics.slice(0, sent)).toEqual(Array.from({ length: sent }, (_, n) => `slow ${n}`))
      expect(topics.filter((topic) => topic.includes('lost') || topic.includes('passed over'))).toEqual([])
    })

    test('transport - each subscriber has bytes of its own', async () => {
      const { feed } = await listen()
      const spoil = (frames: Buffer[]): undefined => void frames[1]!.fill('!')
      const one = dialFeed(at(feed), ['a'], spoil)
      const two = dialFeed(at(feed), ['a', 'marker'], spoil)
      const spoilt = dialFeed(at(feed), ['a', 'last'])
      await bench.eventually(() => ['+marker', '+last'].every((each) => heard.subscriptions.includes(each)))
      const body = Buffer.alloc(1000, 'x')
      await bench.eventually(async () => {
        await transport.publish([bytes('a'), body], true)
        return [one, two, spoilt].every(({ log }) => log.read.length > 0)
      })
      expect(body.equals(Buffer.alloc(1000, 'x'))).toBe(true)
      for (const { log } of [one, two, spoilt]) expect(log.read[0]).toBe(`a ${'x'.repeat(1000)}`)
    })

    test('transport - an overlong subscription is cut off', async () => {
      const { feed } = await listen()
      const { log } = dialFeed(at(feed), ['x'.repeat(600)])
      await bench.eventually(() => log.count('down') >= 1)
      expect(heard.subscriptions).toEqual([])
    })
  })

  describe('close', () => {
    test('transport - a dial that is closed sends nothing more, says nothing more, and gives up what waits', async () => {
      const port = await bench.freePort()
      const { log, send, close } = dialControl(at(port))
      for (let n = 0; n < 64; n++) await send([bytes(`${n}`)])
      const waiting = send([bytes('waits')]).then(
        () => 'sent',
        () => 'given up',
      )
      close()
      expect(await waiting).toBe('given up')
      await expect(send([bytes('late')])).rejects.toThrow()
      const said = log.events.length
      await listen(port)
      const other = dialControl(at(port))
      await routeOf(other.send, 'other')
      expect([log.events.length, heard.texts()]).toEqual([said, ['other']])
    })

    test('transport - closing a dial twice, and a feed that is used afterwards, is harmless', async () => {
      const { feed, control } = await listen()
      const one = dialControl(at(control))
      one.close()
      one.close()
      const { dial } = dialFeed(at(feed), ['a'])
      dial.close()
      dial.close()
      dial.subscribe(bytes('b'))
      dial.unsubscribe(bytes('a'))
    })

    test('transport - closed as a whole it answers gone, rejects, dials nobody, and others see it break (G10)', async () => {
      const { control } = await listen()
      const there = dialControl(at(control))
      const route = await routeOf(there.send, 'hello')
      const own = dialControl(at(control), transport)
      await bench.eventually(() => own.log.count('up') === 1)
      await transport.close()
      await transport.close()
      expect(await transport.answer(route, bytes('x'))).toBe('gone')
      expect(await transport.answerPlain(route, ['x'])).toBe('gone')
      expect(await transport.publish([bytes('x')], true)).toBe('gone')
      await expect(own.send([bytes('x')])).rejects.toThrow()
      expect((await errorOf(() => listen(0, hearing()))).code).toBe('CLOSED')
      const after = dialControl(at(control), transport)
      await expect(after.send([bytes('x')])).rejects.toThrow()
      await bench.eventually(() => there.log.count('refused') >= 2)
      expect([own.log.events, after.log.events]).toEqual([['up'], []])
    })

    test('transport - what was on its way when its sender closed arrives', async () => {
      const { control } = await listen()
      const { send, close } = dialControl(at(control))
      await routeOf(send, 'hello')
      await send([bytes('goodbye')])
      await bench.eventually(() => heard.texts().includes('goodbye'))
      close()
    })
  })
})

const pick = (dial: { send(frames: Buffer[]): Promise<void>; close(): void }) => ({
  send: (frames: Buffer[]) => dial.send(frames),
  close: () => dial.close(),
})
