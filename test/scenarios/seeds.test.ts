// Nodes that find each other by seeds and gossip alone: no registry, no multicast.

import { once } from 'node:events'
import { createServer as createHttp } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { Context, Dealer, Router } from 'zeromq'
import type { Node, NodeOptions, Peer } from '../../src/index.ts'
import { FRAME, readHello, writeHello } from '../../src/protocol/control-frames.ts'
import { loneFrame, readControlBatch } from '../../src/transport/link.ts'
import { closeLater, collect, eventually, meshName, start, warningsOf } from '../support/mesh.ts'
import { threeFreePorts } from '../support/ports.ts'
import { pause } from '../support/processes.ts'
import { TcpProxy } from '../support/proxy.ts'

const HOST = '127.0.0.1'

const freePort = (): Promise<number> => threeFreePorts([HOST])

const seedOf = (port: number): string => `${HOST}:${port}`

/** A node that knows nobody but these. */
const startKnowing = (seeds: readonly string[], options: NodeOptions = {}): Promise<Node> =>
  start({ ...options, discovery: { registry: false, seeds } })

const namesOf = (node: Node, state = 'up'): string[] =>
  node.peers
    .filter((peer) => peer.state === state)
    .map(({ name }) => name)
    .sort()

const assertMeshed = (nodes: readonly Node[]): Promise<void> =>
  eventually(() =>
    nodes.every((node) => node.peers.filter(({ state }) => state === 'up').length === nodes.length - 1),
  )

/** Each gets what each publishes, and answers what each asks. */
const assertWell = async (nodes: readonly Node[]): Promise<void> => {
  const heard = await Promise.all(nodes.map((node) => collect(node, 'well')))
  const responders = nodes.map((node) => node.respond(`echo.${node.name}`, (query) => query))
  await Promise.all(nodes.map((node) => node.waitForSubscribers('well', { count: nodes.length - 1 })))
  for (const node of nodes) {
    await node.publish('well', node.name)
    for (const other of nodes) expect(await node.request(`echo.${other.name}`, 1, { waitMs: 5000 })).toBe(1)
  }
  const names = nodes.map(({ name }) => name).sort()
  await eventually(() => heard.every(({ values }) => values.length === nodes.length))
  for (const { values } of heard) expect(values.map(String).toSorted()).toEqual(names)
  await Promise.all(heard.map(({ subscription }) => subscription.unsubscribe()))
  await Promise.all(responders.map((responder) => responder.close()))
}

test('seeds - of a chain in which each knows only the one before, all are one mesh', async () => {
  const mesh = meshName()
  const nodes: Node[] = []
  let seeds: string[] = []
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    const port = await freePort()
    nodes.push(await startKnowing(seeds, { mesh, name, port }))
    seeds = [seedOf(port)]
    // Whoever joins knows everybody at once, not only after the next round of gossip.
    expect(namesOf(nodes.at(-1)!)).toEqual(nodes.slice(0, -1).map((node) => node.name))
  }
  await assertMeshed(nodes)
  const [, , , , e] = nodes
  expect(Object.fromEntries(e!.peers.map(({ name, foundBy }) => [name, foundBy]))).toMatchObject({
    a: ['gossip'],
    d: ['seed'],
  })
  await assertWell(nodes)
})

test('seeds - one is enough for eight nodes that start at the same moment', async () => {
  const mesh = meshName()
  const port = await freePort()
  const startedAt = performance.now()
  const nodes = await Promise.all(
    Array.from({ length: 8 }, (_, at) =>
      startKnowing([seedOf(port)], { mesh, name: `n${at}`, ...(at === 0 ? { port } : {}) }),
    ),
  )
  await assertMeshed(nodes)
  console.info(`8 nodes by one seed: meshed after ${Math.round(performance.now() - startedAt)} ms`)
  await assertWell(nodes)
  // The seed was named to itself, too.
  expect(warningsOf(nodes[0]!)).toEqual([])
})

test('seeds - nodes that listen nowhere reach everybody as soon as createNode has resolved', async () => {
  const mesh = meshName()
  const port = await freePort()
  const seed = await startKnowing([], { mesh, name: 'seed', port })
  const members = await Promise.all(
    ['b', 'c', 'd'].map((name) => startKnowing([seedOf(port)], { mesh, name })),
  )
  await assertMeshed([seed, ...members])
  const heard = await Promise.all(members.map((node) => collect(node, 'news')))
  for (const node of members) await node.respond(`echo.${node.name}`, (query) => query).ready
  for (let round = 1; round <= 5; round++) {
    const visitor = await startKnowing([seedOf(port)], { mesh, name: 'visitor', listen: false })
    expect(namesOf(visitor)).toEqual(['b', 'c', 'd', 'seed'])
    await visitor.waitForSubscribers('news', { count: 3 })
    await visitor.publish('news', round)
    for (const { values } of heard) expect(values).toHaveLength(round)
    for (const { name } of members) expect(await visitor.request(`echo.${name}`, round)).toBe(round)
    await visitor.close()
  }
  for (const node of [seed, ...members]) expect(namesOf(node)).not.toContain('visitor')
})

test('seeds - one that starts later is found, and was named until then', async () => {
  const mesh = meshName()
  const port = await freePort()
  const seed = `tcp://${seedOf(port)}`
  const early = await Promise.all(['a', 'b'].map((name) => startKnowing([seed], { mesh, name })))
  for (const node of early) {
    expect(node.peers).toMatchObject([
      { name: seed, state: 'seen', foundBy: ['seed'], reason: expect.stringContaining('connection refused') },
    ])
    expect(warningsOf(node)).toEqual([
      { code: 'SEED_UNREACHABLE', text: expect.stringMatching(`"${seed}".*nobody listens there`) },
    ])
  }
  const late = await startKnowing([], { mesh, name: 'late', port })
  await assertMeshed([...early, late])
  for (const node of early) expect(warningsOf(node)).toHaveLength(1)
  await assertWell([...early, late])
})

test('seeds - one that restarts under another boot is found again, and those that it led to stay', async () => {
  const mesh = meshName()
  const port = await freePort()
  const others = await Promise.all(
    ['a', 'b'].map((name) => startKnowing([seedOf(port)], { mesh, name, goneMs: 100 })),
  )
  for (const id of ['5e'.repeat(16), '5e'.repeat(16), undefined]) {
    const seed = await startKnowing([], { mesh, name: 'seed', port, ...(id === undefined ? {} : { id }) })
    await assertMeshed([seed, ...others])
    for (const node of others) expect(node.peers.find(({ name }) => name === 'seed')?.boot).toBe(seed.boot)
    await assertWell([seed, ...others])
    await seed.close()
    await eventually(() => others.every((node) => namesOf(node).length === 1))
  }
})

test('seeds - two that lead to one node by ways of different speed are one peer, and no clash of ids', async () => {
  const mesh = meshName()
  const port = await freePort()
  const there = await startKnowing([], { mesh, name: 'there', port })
  const slow = closeLater(await TcpProxy.listen({ targetPort: port }))
  slow.pause()
  const seeds = [seedOf(port), seedOf(slow.port)]
  for (const listen of [true, false]) {
    // What is said through the slow one arrives when the two are connected by the other.
    const starting = startKnowing(seeds, { mesh, name: 'here', listen, settleMs: 5000 })
    const isServed = (): boolean => there.stats().peers === 1
    if (listen) await eventually(isServed)
    await eventually(() => slow.connections === 1)
    await pause(100)
    slow.resume()
    const here = await starting
    await eventually(() => slow.connections === 0)
    expect(here.peers).toMatchObject([{ name: 'there', state: 'up', foundBy: ['seed'] }])
    expect([...warningsOf(there), ...warningsOf(here)]).toEqual([])
    if (listen) await assertWell([there, here])
    slow.pause()
    await here.close()
  }
})

test('seeds - one that is silent, and dials by itself, is one-way with its address', async () => {
  const mesh = meshName()
  const port = await threeFreePorts([HOST, '127.0.0.2'])
  // Where it says that it is reached, connections are taken and nothing else happens.
  const wall = closeLater(await TcpProxy.listen({ host: '127.0.0.2', port, targetPort: port }))
  wall.pause()
  const openPort = await freePort()
  const open = await startKnowing([`127.0.0.2:${port}`], { mesh, name: 'open', port: openPort })
  const walled = await startKnowing([seedOf(openPort)], {
    mesh,
    name: 'walled',
    port,
    advertise: '127.0.0.2',
  })
  const told = (): Peer | undefined => open.peers.find(({ name }) => name === 'walled')
  await eventually(() => told()?.state === 'one-way')
  expect(told()?.reason).toContain(`tcp://127.0.0.2:${port}`)
  await eventually(() => walled.peers[0]?.state === 'up' && walled.peers[0].reason?.includes('127.0.0.2'))
  await open.respond('ask', (query) => query).ready
  expect(await walled.request('ask', 'served', { waitMs: 5000 })).toBe('served')
  wall.resume()
  await assertMeshed([open, walled])
  await eventually(() => [...open.peers, ...walled.peers].every(({ reason }) => reason === undefined))
})

test('seeds - whoever knocks before a node is ready is told where it listens', async () => {
  const mesh = meshName()
  const hello = loneFrame(1, FRAME.hello, (writer) =>
    writeHello(writer, {
      ...{ mesh, id: 'aa'.repeat(16), boot: 'bb'.repeat(16), name: 'early', number: 1, address: null },
      ...{ token: '', taken: 0, known: 0, unreachable: '' },
      interest: { revision: 0, patterns: [], responders: [], services: [] },
    }),
  )
  for (let round = 0; round < 20; round++) {
    const port = await freePort()
    const socket = new Dealer({ linger: 0, reconnectInterval: 1 })
    closeLater({ close: async () => socket.close() })
    socket.connect(`tcp://${HOST}:${port}`)
    await socket.send(hello)
    const node = await startKnowing([], { mesh, port })
    const [answer] = await socket.receive()
    const addresses: unknown[] = []
    readControlBatch(
      answer!,
      () => true,
      (type, reader) => {
        if (type === FRAME.welcome) addresses.push(readHello(reader.bytes(reader.left)).address?.control)
      },
    )
    expect(addresses).toEqual([port])
    socket.close()
    await node.close()
  }
})

const listening = async (listener: Server): Promise<string> => {
  listener.listen(0, HOST)
  await once(listener, 'listening')
  onTestFinished(() => void listener.close())
  return seedOf((listener.address() as AddressInfo).port)
}

/** A bare ROUTER that takes every hello, and says nothing or rubbish. */
const router = async (context: Context, answer: Buffer[]): Promise<string> => {
  const socket = new Router({ context })
  socket.linger = 0
  closeLater({ close: async () => socket.close() })
  await socket.bind(`tcp://${HOST}:0`)
  void (async () => {
    for await (const [id] of socket) for (const frame of answer) await socket.send([id!, frame])
  })().catch(() => {})
  return socket.lastEndpoint!.replace('tcp://', '')
}

test('seeds - what leads to nothing, to strangers or to the node itself is named once each, counted and harmless (G3)', async () => {
  const mesh = meshName()
  const [port, friendPort, otherPort] = [await freePort(), await freePort(), await freePort()]
  await start({ mesh: 'other', port: otherPort, discovery: { registry: false } })
  const friend = await startKnowing([], { mesh, name: 'friend', port: friendPort })
  const context = new Context({ blocky: false })
  const rubbish = [
    Buffer.from('rubbish'),
    Buffer.alloc(0),
    Buffer.from([0x53, 0x4b, 1, 1, 255, 255, 255, 255, 1]),
  ]
  /** What each leads to, and what is said of it. */
  const strangers = new Map([
    [seedOf(await freePort()), /nobody listens there \(.*connection refused/],
    [`${'x'.repeat(64)}.test:7400`, /the name "x{64}\.test" could not be resolved \(.*ENOTFOUND/],
    [await listening(createServer()), /nobody has answered.*firewall/],
    [await listening(createServer((socket) => socket.destroy())), /nobody has answered/],
    [await listening(createHttp((_, response) => response.end('hello'))), /nobody has answered/],
    [await router(context, []), /nobody has answered/],
    [await router(context, rubbish), /nobody has answered/],
    [seedOf(otherPort), /the node there will not have this one \(.*mesh 'other'/],
  ])
  const node = await startKnowing([...strangers.keys(), seedOf(port), seedOf(friendPort)], {
    mesh,
    name: 'node',
    port,
    // Names may lead anywhere, so they are refused otherwise.
    open: true,
    bind: HOST,
  })
  expect(namesOf(node)).toEqual(['friend'])
  const said = (seed: string): string[] =>
    warningsOf(node)
      .filter(({ code, text }) => code === 'SEED_UNREACHABLE' && text.includes(`"tcp://${seed}"`))
      .map(({ text }) => text)
  await eventually(() => [...strangers.keys()].every((seed) => said(seed).length > 0), 15_000)
  for (const [seed, words] of strangers) {
    expect(said(seed)).toEqual([expect.stringMatching(words)])
    expect(node.peers.find(({ name }) => name === `tcp://${seed}`)).toMatchObject({
      state: 'seen',
      foundBy: ['seed'],
      reason: expect.any(String),
    })
  }
  // And not over and over, although it is tried over and over.
  for (const code of ['SEED_UNREACHABLE', 'MESH_MISMATCH']) {
    const texts = warningsOf(node).flatMap((warning) => (warning.code === code ? [warning.text] : []))
    expect(new Set(texts).size).toBe(texts.length)
  }
  expect(node.peers).toHaveLength(strangers.size + 1)
  expect(node.stats()).toMatchObject({ peers: 1, malformed: expect.any(Number) })
  expect(node.stats().malformed).toBeGreaterThan(0)
  await assertWell([node, friend])
}, 30_000)
