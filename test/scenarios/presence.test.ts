import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createNode, type Peer } from '../../src/index.ts'
import {
  closeLater,
  collect,
  errorOf,
  eventually,
  gate,
  keeping,
  mesh,
  meshName,
  start,
  type Warning,
  warningsOf,
} from '../support/mesh.ts'
import { threeFreePorts } from '../support/ports.ts'
import { TcpProxy } from '../support/proxy.ts'

const ID = 'ab'.repeat(16)

test('peers - are plain objects that survive JSON and say how each was found', async () => {
  const [a, b, c] = await mesh(3)
  expect(JSON.parse(JSON.stringify(a.peers))).toEqual(a.peers)
  const ids = a.peers.map((peer) => peer.id)
  expect(new Set(ids)).toEqual(new Set([b.id, c.id]))
  const seen = a.peers.find((peer) => peer.id === b.id)
  expect(seen).toEqual({
    id: b.id,
    name: b.name,
    boot: b.boot,
    state: 'up',
    foundBy: expect.any(Array),
    endpoints: [expect.stringMatching(/^tcp:\/\/127\.0\.0\.1:\d+$/)],
  })
  expect(['registry', 'hello']).toEqual(expect.arrayContaining([...seen!.foundBy]))
  expect(a.stats().peers).toBe(2)
})

test('peer-up and peer-down - are told once each, and a goodbye is noticed at once', async () => {
  const name = meshName()
  const a = await start({ mesh: name })
  const told: string[] = []
  a.on('peer-up', (peer) => told.push(`up ${peer.name} ${peer.state}`))
  a.on('peer-down', (peer) => told.push(`down ${peer.name} ${peer.reason}`))
  const b = await start({ mesh: name, name: 'b' })
  await a.waitForPeers(1)
  const closedAt = performance.now()
  await b.close()
  await eventually(() => told.length === 2)
  expect(performance.now() - closedAt).toBeLessThan(2000)
  expect(told).toEqual(['up b up', 'down b it said goodbye'])
  expect(a.peers).toEqual([])
})

test('waitForPeers - names how many are there when the time is over', async () => {
  const [a] = await mesh(2)
  const error = await errorOf(() => a.waitForPeers(2, { timeoutMs: 30 }))
  expect(error).toMatchObject({ code: 'WAIT_TIMEOUT', message: expect.stringContaining('1 of 2 peers') })
})

test('identity - a node that returns under its id with a new boot replaces the old one and is served', async () => {
  const name = meshName()
  const a = await start({ mesh: name })
  const { messages } = await collect(a, 'v')
  for (let round = 1; round <= 3; round++) {
    const b = await start({ mesh: name, id: ID })
    await a.waitForPeers(1)
    expect(a.peers.map((peer) => [peer.id, peer.boot])).toEqual([[ID, b.boot]])
    await b.waitForSubscribers('v')
    await b.publish('v', round)
    await eventually(() => messages.length === round)
    await b.close()
    await eventually(() => a.peers.length === 0)
  }
  expect(new Set(messages.map((message) => message.id)).size).toBe(3)
})

test('identity - a second living boot of an id is refused NODE_ID_IN_USE, loudly at both sides', async () => {
  const name = meshName()
  const warnings: Warning[] = []
  const holder = await start({ mesh: name, id: ID, name: 'holder' })
  const beside = await start({ mesh: name })
  await beside.waitForPeers(1)
  const error = await errorOf(() =>
    createNode({ mesh: name, id: ID, name: 'claimant', logger: keeping(warnings) }),
  )
  expect(error).toMatchObject({ code: 'NODE_ID_IN_USE', retryable: false })
  expect(error.message).toMatch(new RegExp(`${ID}.*claimant.*own id`))
  expect(warnings.map((warning) => warning.code)).toContain('NODE_ID_IN_USE')
  await eventually(() => warningsOf(holder).some((warning) => warning.code === 'NODE_ID_IN_USE'))
  const { values } = await collect(beside, 'v')
  await holder.publish('v', 'goes on')
  await eventually(() => values.length === 1)
  expect(beside.peers.map((peer) => peer.boot)).toEqual([holder.boot])
})

test('mesh - nodes of another mesh are never seen', async () => {
  const [a] = await mesh(2)
  const [other, another] = await mesh(2)
  expect(a.peers).toHaveLength(1)
  expect([other, another].map((node) => node.peers.length)).toEqual([1, 1])
  expect(a.peers.map((peer) => peer.id)).not.toContain(other.id)
})

test('mesh - an address that answers for another mesh is refused, and peers says why', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const port = await threeFreePorts(['127.0.0.1'])
  const other = await start({ mesh: 'other', port, discovery: { registry: false } })
  const a = await start({ mesh: 'mine', discovery: { registry: directory } })
  // An entry of this mesh that leads to a node of the other, as after a port was taken over.
  const stranger = await start({ mesh: 'mine', advertise: '127.0.0.1', discovery: { registry: directory } })
  await a.waitForPeers(1)
  expect(other.peers).toEqual([])
  const { readdirSync, readFileSync } = await import('node:fs')
  const file = readdirSync(join(directory, 'mine')).find((each) => each.includes(stranger.id))!
  const entry = JSON.parse(readFileSync(join(directory, 'mine', file), 'utf8'))
  const forged = {
    ...entry,
    id: ID,
    boot: 'cd'.repeat(16),
    name: 'moved',
    endpoint: `tcp://127.0.0.1:${port}`,
  }
  writeFileSync(join(directory, 'mine', `${ID}.json`), JSON.stringify(forged), { mode: 0o600 })
  await eventually(() => a.peers.some((peer) => peer.id === ID && peer.reason?.includes('mesh')))
  const seen = a.peers.find((peer) => peer.id === ID) as Peer
  expect(seen.state).toBe('seen')
  expect(seen.reason).toMatch(/mesh 'other'.*mesh 'mine'/)
  expect(warningsOf(a).some(({ code }) => code === 'MESH_MISMATCH')).toBe(true)
  expect(other.peers).toEqual([])
})

test('one-way - a peer that cannot be dialled back is listed so, with a warning that names the address, at both sides', async () => {
  const name = meshName()
  const a = await start({ mesh: name, name: 'a' })
  const b = await start({ mesh: name, name: 'b', advertise: '127.0.0.2' })
  await eventually(() => a.peers[0]?.state === 'one-way')
  expect(a.peers[0]).toMatchObject({ id: b.id, reason: expect.stringContaining('tcp://127.0.0.2:') })
  const warned = (node: typeof a) => warningsOf(node).filter(({ text }) => text.includes('tcp://127.0.0.2:'))
  await eventually(() => warned(a).length === 1 && warned(b).length === 1)
  for (const node of [a, b]) expect(warned(node)[0]).toMatchObject({ code: 'PEER_UNKNOWN' })
  expect(a.stats().peers).toBe(0)
  await a.respond('ask', (query) => query).ready
  expect(await b.request('ask', 'still served', { waitMs: 5000 })).toBe('still served')
})

test('one-way - a peer that was lost and has come back is listed so again, and not forgotten while it is there', async () => {
  const port = await threeFreePorts(['127.0.0.1'])
  const shared = { mesh: meshName(), discovery: { registry: false } }
  const a = await start({ ...shared, port, advertise: '127.0.0.3', goneMs: 1000 })
  const proxy = closeLater(await TcpProxy.listen({ targetPort: port }))
  const seeds = [`127.0.0.1:${proxy.port}`]
  const b = await start({ ...shared, advertise: '127.0.0.2', discovery: { ...shared.discovery, seeds } })
  await eventually(() => a.peers[0]?.state === 'one-way')
  proxy.refuse()
  proxy.reset()
  await eventually(() => a.peers[0]?.state === 'down')
  await proxy.accept()
  await b.waitForPeers(1)
  await eventually(() => a.peers[0]?.state === 'one-way')
  const until = performance.now() + 1500
  await eventually(() => a.peers[0]?.state !== 'one-way' || performance.now() > until)
  expect(a.peers).toMatchObject([{ id: b.id, state: 'one-way' }])
})

test('listen: false - what it publishes is handed over and handled, by both subscribers, before publish resolves', async () => {
  const name = meshName()
  const [a, b] = [await start({ mesh: name }), await start({ mesh: name })]
  await a.waitForPeers(1)
  const handled: string[] = []
  for (const node of [a, b]) {
    const handler = async (value: unknown): Promise<void> => {
      await new Promise((resolve) => setImmediate(resolve))
      handled.push(String(value))
    }
    await node.subscribe('news', handler).ready
  }
  for (let round = 0; round < 10; round++) {
    const visitor = await start({ mesh: name, listen: false })
    await visitor.waitForSubscribers('news', { count: 2 })
    await visitor.publish('news', round)
    expect(handled.filter((value) => value === `${round}`)).toHaveLength(2)
    await visitor.close()
  }
  expect(a.peers.map((peer) => peer.id)).toEqual([b.id])
  const lone = await start({ mesh: name, listen: false })
  await lone.publish('nobody.hears', 1)
})

test('listen: false - it is told when a handler failed, and it can ask, and be seen by nobody', async () => {
  const name = meshName()
  const a = await start({ mesh: name })
  await a.subscribe('bad', () => Promise.reject(new Error('trouble'))).ready
  a.respond('ask', (query) => query + 1)
  const visitor = await start({ mesh: name, listen: false })
  await visitor.waitForPeers(1)
  const error = await errorOf(() => visitor.publish('bad', 1))
  expect(error).toMatchObject({ code: 'HANDLER_FAILED', message: expect.stringContaining('trouble') })
  expect(await visitor.request('ask', 1, { waitMs: 5000 })).toBe(2)
  expect(a.peers).toEqual([])
  expect(a.stats().peers).toBe(0)
})

test('listen: false - a subscriber without room is offered the message again until it has some', async () => {
  const name = meshName()
  const a = await start({ mesh: name })
  const held = gate()
  const values: unknown[] = []
  let started = 0
  const handler = async (value: unknown): Promise<void> => {
    started++
    await held.passed
    values.push(value)
  }
  await a.subscribe('v', handler, { queue: 1, onOverflow: 'drop-newest' }).ready
  const visitor = await start({ mesh: name, listen: false })
  await visitor.waitForSubscribers('v')
  const gaps: unknown[] = []
  a.on('gap', (gap) => gaps.push(gap))
  // They travel in one batch: while the first is handled the second waits, and there is no room for the others.
  const handed = [1, 2, 3, 4].map((value) => visitor.publish('v', value))
  await eventually(() => started === 1)
  held.open()
  await Promise.all(handed)
  expect(values.sort((a, b) => Number(a) - Number(b))).toEqual([1, 2, 3, 4])
  // It was offered again and handled: nothing was missed.
  expect(gaps).toEqual([])
})

test('port - three in a row are used, and one that is taken is ADDRESS_IN_USE with a remedy', async () => {
  const port = await threeFreePorts(['127.0.0.1'])
  const a = await start({ port })
  const b = await start()
  await b.waitForPeers(1)
  expect(b.peers[0]?.endpoints).toEqual([`tcp://127.0.0.1:${port}`])
  for (const taken of [port, port - 1, port - 2]) {
    const error = await errorOf(() => start({ port: taken }))
    expect(error).toMatchObject({ code: 'ADDRESS_IN_USE', retryable: true })
    expect(error.message).toMatch(/tcp:\/\/127\.0\.0\.1:\d+.*'port'/)
  }
  await a.close()
  await eventually(async () => (await start({ port }).catch(() => undefined)) !== undefined)
})

test('registry - a directory that cannot be used: the node starts, and the warning names a remedy', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-test-'))
  onTestFinished(() => {
    chmodSync(directory, 0o700)
    rmSync(directory, { recursive: true, force: true })
  })
  const file = join(directory, 'file')
  writeFileSync(file, '')
  const node = await start({ discovery: { registry: file } })
  const warning = warningsOf(node).find(({ code }) => code === 'REGISTRY_UNAVAILABLE')
  expect(warning?.text).toContain(file)
  expect(warning?.text).toMatch(/SKEIN_RUNTIME_DIR/)
  node.respond('own', () => 'works')
  expect(await node.request('own')).toBe('works')
})

test('bind - beyond loopback is refused unless open: true says so (G8)', async () => {
  for (const bind of ['0.0.0.0', '192.0.2.1', '::']) {
    const error = await errorOf(() => createNode({ bind }))
    expect(error).toMatchObject({ code: 'OPTION_INVALID' })
    expect(error.message).toMatch(/'bind'.*open: true/)
  }
})
