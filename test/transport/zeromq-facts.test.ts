// The facts about zeromq.js and libzmq on which the design stands, tested on the ground itself: this file, and besides
// src/transport no other, imports zeromq. When an upgrade breaks one of them, what leans on it has to be thought over.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, expect, test, vi } from 'vitest'
import {
  context,
  Dealer,
  type EventType,
  Pull,
  Push,
  Router,
  type Socket,
  Subscriber,
  XPublisher,
} from 'zeromq'
import { TcpProxy } from '../support/proxy.ts'

context.blocky = false

const sockets: Socket[] = []
const proxies: TcpProxy[] = []

afterEach(async () => {
  vi.restoreAllMocks()
  for (const socket of sockets.splice(0)) socket.close()
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()))
})

const make = <T extends Socket>(Type: new () => T, options: Partial<T> = {}): T => {
  const socket = new Type()
  sockets.push(socket)
  socket.linger = 0
  socket.reconnectInterval = 10
  return Object.assign(socket, options)
}

const bind = async (socket: Socket): Promise<number> => {
  await socket.bind('tcp://127.0.0.1:*')
  return Number(socket.lastEndpoint?.split(':').pop())
}

const proxyTo = async (targetPort: number): Promise<TcpProxy> => {
  const proxy = await TcpProxy.listen({ targetPort })
  proxies.push(proxy)
  return proxy
}

const at = (port: number): string => `tcp://127.0.0.1:${port}`

const EVENTS: readonly EventType[] = [
  'connect',
  'connect:delay',
  'connect:retry',
  'close',
  'disconnect',
  'handshake',
  'handshake:error:other',
]

/** Every event of a connecting socket, in order; to be called before it connects. */
const observe = (socket: Socket): EventType[] => {
  const seen: EventType[] = []
  for (const type of EVENTS) socket.events.on(type, () => seen.push(type))
  return seen
}

const count = <T>(items: readonly T[], item: T): number => items.filter((one) => one === item).length

const until = (check: () => unknown): Promise<unknown> =>
  vi.waitFor(async () => expect(await check()).toBeTruthy(), { timeout: 5000, interval: 2 })

/** All that arrives, as text with its parts joined, read until the socket closes. */
const readAll = (socket: { receive(): Promise<Buffer[]> }): string[] => {
  const read: string[] = []
  const pump = async (): Promise<void> => {
    for (;;) read.push((await socket.receive()).map(String).join(' '))
  }
  pump().catch(() => undefined)
  return read
}

/** The subscriptions that an XPUB shows: `+topic` and `-topic`. */
const readInterest = (xpub: XPublisher): string[] => {
  const shown: string[] = []
  const pump = async (): Promise<void> => {
    for (;;) {
      const [frame] = await xpub.receive()
      shown.push(`${frame?.[0] === 1 ? '+' : '-'}${String(frame?.subarray(1))}`)
    }
  }
  pump().catch(() => undefined)
  return shown
}

/** A port on which nobody listens. */
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const failure = (promise: Promise<unknown>): Promise<{ code?: string }> =>
  promise.then(
    () => ({}),
    (error: { code?: string }) => error,
  )

/** Sends until it fails, for at most so many. */
const fill = async (
  send: (n: number) => Promise<unknown>,
  most: number,
): Promise<{ sent: number; code?: string }> => {
  for (let sent = 0; sent < most; sent += 1) {
    const { code } = await failure(send(sent))
    if (code !== undefined) return { sent, code }
  }
  return { sent: most }
}

const subscribeTwice = async (verbosity: null | 'allSubsUnsubs'): Promise<string[]> => {
  const xpub = make(XPublisher)
  xpub.verbosity = verbosity
  const port = await bind(xpub)
  const shown = readInterest(xpub)
  const subs = ['one', 'two'].map((marker) => {
    const sub = make(Subscriber)
    sub.subscribe('a.')
    sub.events.on('handshake', () => sub.subscribe(marker))
    sub.connect(at(port))
    void readAll(sub)
    return sub
  })
  await until(() => shown.includes('+one') && shown.includes('+two'))
  for (const sub of subs) sub.close()
  await until(() => shown.includes('-one') && shown.includes('-two'))
  return shown
}

test('zeromq - XPUB hides the second subscription to a prefix and the first end of it, and never says who', async () => {
  const shown = await subscribeTwice(null)
  expect([count(shown, '+a.'), count(shown, '-a.')]).toEqual([1, 1])
})

test("zeromq - XPUB with verbosity 'allSubsUnsubs' shows every subscription and every end of one", async () => {
  const shown = await subscribeTwice('allSubsUnsubs')
  expect([count(shown, '+a.'), count(shown, '-a.')]).toEqual([2, 2])
})

test('zeromq - a fresh topic subscribed at the handshake arrives after all subscriptions that a reset made SUB repeat', async () => {
  const xpub = make(XPublisher)
  xpub.verbosity = 'allSubsUnsubs'
  const proxy = await proxyTo(await bind(xpub))
  const shown = readInterest(xpub)
  const sub = make(Subscriber)
  const topics = Array.from({ length: 50 }, (_, n) => `topic.${n}.`)
  sub.subscribe(...topics)
  let handshakes = 0
  sub.events.on('handshake', () => {
    handshakes += 1
    sub.subscribe(`barrier ${handshakes}`)
  })
  void readAll(sub)
  sub.connect(proxy.endpoint)
  for (let connection = 1; connection <= 6; connection += 1) {
    await until(() => shown.includes(`+barrier ${connection}`))
    // The former connection ends in as many `-` as it had `+`, which may be shown between those of the new one.
    const repeated = shown.filter((frame) => frame.startsWith('+') && !frame.startsWith('+barrier'))
    expect(repeated).toHaveLength(topics.length * connection)
    expect(shown.indexOf(`+barrier ${connection}`)).toBeGreaterThan(shown.lastIndexOf(repeated.at(-1)!))
    proxy.reset()
  }
})

test('zeromq - XPUB with noDrop refuses everybody while one pipe is full, and noDrop=false takes effect at once', async () => {
  const xpub = make(XPublisher, { sendHighWaterMark: 4, sendTimeout: 0, noDrop: true })
  const port = await bind(xpub)
  const shown = readInterest(xpub)
  const slow = make(Subscriber, { receiveHighWaterMark: 1 })
  slow.subscribe('slow')
  const fast = make(Subscriber)
  fast.subscribe('fast', 's')
  const read = readAll(fast)
  for (const sub of [slow, fast]) sub.connect(at(port))
  await until(() => ['+slow', '+fast', '+s'].every((frame) => shown.includes(frame)))
  const body = Buffer.alloc(1 << 20)
  const send = async (n: number): Promise<void> => {
    await turn()
    await xpub.send([`slow ${n}`, body])
  }
  // The kernel holds some megabytes: full is what stays refused although the fast one has read all there is.
  let sent = 0
  await until(async () => {
    const { sent: more, code } = await fill(send, 100)
    sent += more
    return code === 'EAGAIN' && more === 0 && read.length === sent
  })
  expect(sent).toBeGreaterThan(0)
  expect(await failure(xpub.send('slow and refused'))).toMatchObject({ code: 'EAGAIN' })
  // Nothing is in the way of those that do not match the full one.
  await xpub.send('fast')
  // Though it takes effect, every change prints a warning that it will not; replacing process.emitWarning silences it.
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
  xpub.noDrop = false
  await xpub.send('slow and dropped')
  // A pipe that has missed a message is passed over until it has been drained: it holds up nobody, noDrop or not.
  xpub.noDrop = true
  expect(warn.mock.calls).toEqual(
    Array(2).fill(['Socket option will not take effect until next connect/bind.']),
  )
  await xpub.send('slow and passed over')
  await until(() => read.includes('slow and passed over'))
  const late = readAll(slow)
  await until(async () => {
    await xpub.send('slow again')
    return late.includes('slow again')
  })
  expect(late).not.toContain('slow and dropped')
  expect(late).not.toContain('slow and passed over')
  expect(late.filter((text) => text !== 'slow again')).toHaveLength(sent)
})

test('zeromq - SUB subscribes again after a reset only once somebody receives, or asks whether it is readable', async () => {
  const xpub = make(XPublisher)
  const proxy = await proxyTo(await bind(xpub))
  const shown = readInterest(xpub)
  const idle = make(Subscriber)
  idle.subscribe('idle')
  const reading = make(Subscriber)
  reading.subscribe('reading')
  void readAll(reading)
  const events = observe(idle)
  for (const sub of [idle, reading]) sub.connect(proxy.endpoint)
  await until(() => shown.includes('+idle') && shown.includes('+reading'))
  proxy.reset()
  await until(() => count(events, 'handshake') === 2 && count(shown, '+reading') === 2)
  // Several more rounds of the connection that does subscribe again, and still nothing of the one that does not.
  for (let n = 0; n < 20; n += 1) {
    reading.subscribe(`round ${n}`)
    await until(() => shown.includes(`+round ${n}`))
  }
  expect([count(shown, '-idle'), count(shown, '+idle')]).toEqual([1, 1])
  // Asking whether there is something to read is enough.
  expect(idle.readable).toBe(false)
  await until(() => count(shown, '+idle') === 2)
  proxy.reset()
  await until(() => count(shown, '-idle') === 2)
  void readAll(idle)
  await until(() => count(shown, '+idle') === 3)
})

test('zeromq - PUSH loses what was under way when a connection is reset, and tells nobody', async () => {
  const pull = make(Pull)
  const proxy = await proxyTo(await bind(pull))
  const read = readAll(pull)
  const push = make(Push, { sendHighWaterMark: 1 })
  const events = observe(push)
  push.connect(proxy.endpoint)
  await push.send('first')
  await until(() => read.length === 1)
  proxy.pause()
  for (let n = 0; n < 50; n += 1) await push.send(`lost ${n}`)
  proxy.reset()
  proxy.resume()
  await until(() => count(events, 'handshake') === 2)
  await push.send('last')
  await until(() => read.includes('last'))
  expect(read.length).toBeLessThan(50)
})

test('zeromq - PULL hands out the backlog of a broken connection mixed with what came after it', async () => {
  const pull = make(Pull)
  const proxy = await proxyTo(await bind(pull))
  const push = make(Push)
  const events = observe(push)
  push.connect(proxy.endpoint)
  for (let n = 0; n < 500; n += 1) await push.send(`old ${n}`)
  await until(() => proxy.forwarded > 500 * 7 && pull.readable)
  const before = proxy.forwarded
  proxy.reset()
  await until(() => count(events, 'handshake') === 2)
  for (let n = 0; n < 500; n += 1) await push.send(`new ${n}`)
  await until(() => proxy.forwarded > before + 500 * 7)
  const read: string[] = []
  while (!read.includes('new 499')) {
    await turn()
    read.push(String((await pull.receive())[0]))
  }
  const firstNew = read.findIndex((text) => text.startsWith('new'))
  expect(read.slice(firstNew).some((text) => text.startsWith('old'))).toBe(true)
})

test('zeromq - a second send while one pends throws EBUSY, and does not reject', async () => {
  const push = make(Push)
  const first = push.send('waits for a peer')
  expect(() => push.send('second')).toThrow(expect.objectContaining({ code: 'EBUSY' }))
  push.close()
  expect(await failure(first)).toMatchObject({ code: 'EAGAIN' })
  expect(() => push.send('third')).toThrow(expect.objectContaining({ code: 'EBADF' }))
})

test('zeromq - with sendTimeout 0 a PUSH without a peer, or with a full pipe, rejects EAGAIN at once', async () => {
  const push = make(Push, { sendTimeout: 0, sendHighWaterMark: 3 })
  expect(await failure(push.send('nobody'))).toMatchObject({ code: 'EAGAIN' })
  push.connect(at(await freePort()))
  expect(await fill((n) => push.send(`${n}`), 10)).toEqual({ sent: 3, code: 'EAGAIN' })
})

test('zeromq - the high-water mark counts messages, whatever the number of their parts', async () => {
  const push = make(Push, { sendTimeout: 0, sendHighWaterMark: 3 })
  push.connect(at(await freePort()))
  expect(await fill(() => push.send(['a', 'b', 'c', 'd', 'e']), 10)).toEqual({ sent: 3, code: 'EAGAIN' })
})

/** Sends on a wire that is stuck, cuts it, and says how much was sent and what arrives over the next connection. */
const cutWhileStuck = async (immediate: boolean): Promise<{ sent: number; read: string[] }> => {
  const router = make(Router)
  const proxy = await proxyTo(await bind(router))
  const read = readAll(router)
  const dealer = make(Dealer, { immediate, sendTimeout: 0, sendHighWaterMark: 4 })
  const events = observe(dealer)
  dealer.connect(proxy.endpoint)
  await until(() => events.includes('handshake'))
  proxy.pause()
  const body = Buffer.alloc(1 << 20)
  let sent = 0
  await until(async () => {
    const { sent: more } = await fill((n) => dealer.send([`stuck ${n}`, body]), 100)
    sent += more
    return more === 0
  })
  proxy.refuse()
  proxy.reset()
  await until(() => events.includes('disconnect'))
  if (immediate) expect(await failure(dealer.send('while apart'))).toMatchObject({ code: 'EAGAIN' })
  proxy.resume()
  await proxy.accept()
  await until(() => count(events, 'handshake') === 2)
  await until(async () => (await failure(dealer.send('last'))).code === undefined)
  await until(() => read.some((text) => text.endsWith(' last')))
  return { sent, read: read.map((text) => /stuck \d+|last$/.exec(text)?.[0] ?? 'something else') }
}

test('zeromq - an immediate DEALER refuses while it is apart, and a broken connection takes all that waited along', async () => {
  const dealer = make(Dealer, { immediate: true, sendTimeout: 0 })
  dealer.connect(at(await freePort()))
  expect(await failure(dealer.send('early'))).toMatchObject({ code: 'EAGAIN' })
  const { sent, read } = await cutWhileStuck(true)
  expect(sent).toBeGreaterThan(0)
  expect(read).toEqual(['last'])
})

test('zeromq - a DEALER that is not immediate sends what waited over the next connection, but loses what was on the wire', async () => {
  const { sent, read } = await cutWhileStuck(false)
  expect(read.length).toBeGreaterThan(1)
  expect(read.length - 1).toBeLessThan(sent)
})

test.each([
  { immediate: true, kept: 0 },
  { immediate: false, kept: 5 },
])(
  'zeromq - a DEALER with immediate: $immediate keeps $kept of 5 messages that wait to be read when their connection ends',
  async ({ immediate, kept }) => {
    const router = make(Router)
    const dealer = make(Dealer, { immediate, receiveTimeout: 100 })
    const seen = observe(dealer)
    dealer.connect(at(await bind(router)))
    await dealer.send('hello')
    const [route] = await router.receive()
    for (let i = 0; i < 5; i++) await router.send([route!, `answer ${i}`])
    await until(() => dealer.readable)
    // Sent one after the other on one connection: with the first, a moment later, the others are there as well.
    await router.send([route!, 'last'])
    await turn()
    router.close()
    await until(() => seen.includes('disconnect'))
    const got: string[] = []
    for (;;) {
      const frame = await dealer.receive().catch(() => undefined)
      if (frame === undefined) break
      got.push(String(frame[0]))
    }
    expect(got.filter((text) => text.startsWith('answer'))).toHaveLength(kept)
  },
)

test('zeromq - a mandatory ROUTER rejects EHOSTUNREACH for whom it does not know, and EAGAIN for a full peer', async () => {
  const router = make(Router, { mandatory: true, sendTimeout: 0, sendHighWaterMark: 2 })
  const port = await bind(router)
  expect(await failure(router.send(['nobody', 'x']))).toMatchObject({ code: 'EHOSTUNREACH' })
  const dealer = make(Dealer, { receiveHighWaterMark: 1 })
  dealer.connect(at(port))
  await dealer.send('hello')
  const [id] = await router.receive()
  const body = Buffer.alloc(1 << 20)
  expect(await fill(() => router.send([id!, body]), 100)).toMatchObject({ code: 'EAGAIN' })
  // An unknown one is told from a full one even then.
  expect(await failure(router.send(['nobody', 'x']))).toMatchObject({ code: 'EHOSTUNREACH' })
})

test('zeromq - a DEALER without a routing id has another one, and the former is unknown, after every reconnection', async () => {
  const router = make(Router, { mandatory: true, sendTimeout: 0 })
  const proxy = await proxyTo(await bind(router))
  const dealer = make(Dealer, { immediate: true })
  dealer.connect(proxy.endpoint)
  const ids: Buffer[] = []
  for (let n = 0; n < 3; n += 1) {
    await dealer.send(`${n}`)
    const [id, body] = await router.receive()
    expect([id?.length, id?.[0], String(body)]).toEqual([5, 0, `${n}`])
    ids.push(id!)
    const events = observe(dealer)
    proxy.reset()
    await until(() => events.includes('handshake'))
  }
  expect(new Set(ids.map((id) => id.toString('hex'))).size).toBe(3)
  for (const id of ids) {
    await until(async () => (await failure(router.send([id, 'x']))).code === 'EHOSTUNREACH')
  }
})

const REFUSED: readonly EventType[] = ['connect:delay', 'close', 'connect:retry']
const BROKEN: readonly EventType[] = ['disconnect', 'connect:retry']
const BACK: readonly EventType[] = ['connect:delay', 'connect', 'handshake']

/** The events of a DEALER from its first handshake on, as many as are expected. */
const eventsAfter = async (endpoint: string, deed: () => unknown, many: number): Promise<EventType[]> => {
  const dealer = make(Dealer, { immediate: true })
  const events = observe(dealer)
  dealer.connect(endpoint)
  await until(() => events.includes('handshake'))
  expect(events).toEqual(BACK)
  await deed()
  await until(() => events.length >= BACK.length + many)
  return events.slice(BACK.length, BACK.length + many)
}

test('zeromq - a peer that is killed shows as a break and then as attempts that close without a connect', async () => {
  const script = `
    const { Router } = require('zeromq')
    globalThis.router = new Router()
    router.bind('tcp://127.0.0.1:*').then(() => { console.log(router.lastEndpoint); return router.receive() })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await once(child.stdout, 'data')
  const events = await eventsAfter(String(said).trim(), () => child.kill('SIGKILL'), 8)
  expect(events).toEqual([...BROKEN, ...REFUSED, ...REFUSED])
})

test('zeromq - a peer whose socket is closed, or unbound, shows just as one that is killed', async () => {
  const router = make(Router)
  const closed = await eventsAfter(at(await bind(router)), () => router.close(), 8)
  expect(closed).toEqual([...BROKEN, ...REFUSED, ...REFUSED])
  // Unbinding breaks connections only while somebody receives.
  const kept = make(Router)
  const port = await bind(kept)
  void readAll(kept)
  const unbound = await eventsAfter(at(port), () => kept.unbind(at(port)), 8)
  expect(unbound).toEqual([...BROKEN, ...REFUSED, ...REFUSED])
})

test('zeromq - a connection reset while the listener lives shows as a break and then as a connect and a handshake', async () => {
  const proxy = await proxyTo(await bind(make(Router)))
  const events = await eventsAfter(proxy.endpoint, () => proxy.reset(), 5)
  expect(events).toEqual([...BROKEN, ...BACK])
})

test('zeromq - a port on which nobody listens shows as attempts that close without a connect', async () => {
  const dealer = make(Dealer, { immediate: true })
  const events = observe(dealer)
  dealer.connect(at(await freePort()))
  await until(() => events.length >= 6)
  expect(events.slice(0, 6)).toEqual([...REFUSED, ...REFUSED])
})

test('zeromq - a listener that drops connections before the handshake shows as a connect with a failed handshake', async () => {
  const server = createServer((socket) => socket.resetAndDestroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dealer = make(Dealer, { immediate: true })
  const events = observe(dealer)
  dealer.connect(at((server.address() as AddressInfo).port))
  await until(() => events.length >= 5)
  expect(events.slice(0, 5)).toEqual(['connect:delay', 'connect', 'handshake:error:other', ...BROKEN])
  server.close()
})

test('zeromq - a buffer of more than 128 bytes is not copied: changing it after send changes the message', async () => {
  const push = make(Push)
  const port = await freePort()
  push.connect(at(port))
  const bodies = [16, 128, 129, 4096].map((size) => Buffer.alloc(size, 'a'))
  for (const body of bodies) {
    await push.send(body)
    body.fill('b')
  }
  const pull = make(Pull)
  await pull.bind(at(port))
  const read: string[] = []
  for (const body of bodies) {
    const [received] = await pull.receive()
    expect(received).toHaveLength(body.length)
    read.push(String(received).slice(0, 1))
  }
  expect(read).toEqual(['a', 'a', 'b', 'b'])
})

test('zeromq - an option that is unknown or undefined throws when assigned, and leaves a socket that works and closes', () => {
  const push = make(Push)
  expect(() => Object.assign(push, { nonsense: 1 })).toThrow(TypeError)
  expect(() => Object.assign(push, { linger: undefined })).toThrow(TypeError)
  expect(push.linger).toBe(0)
  // In the constructor the same throw kills the process when it exits: that is why sockets are made empty.
  const script = `
    const { Push } = require('zeromq')
    const push = new Push()
    try { push.linger = undefined } catch { push.close(); console.log('caught') }`
  const child = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
  expect([child.status, child.signal, child.stdout]).toEqual([0, null, 'caught\n'])
})

test('zeromq - a bound socket with a pending receive closes: the receive rejects, and the port is free again', async () => {
  const router = make(Router)
  const port = await bind(router)
  const pending = failure(router.receive())
  router.close()
  expect(await pending).toMatchObject({ code: 'EAGAIN' })
  expect(router.closed).toBe(true)
  await until(async () => (await failure(make(Router).bind(at(port)))).code === undefined)
})
