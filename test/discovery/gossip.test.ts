import { expect, test } from 'vitest'
import type { Announcement, Outcome, Sighting } from '../../src/discovery/discovery.ts'
import { Gossip } from '../../src/discovery/gossip.ts'
import { isSkeinError } from '../../src/errors.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import {
  digestOf,
  type GossipMessage,
  type Member,
  readGossip,
  writeGossip,
} from '../../src/protocol/gossip-frame.ts'
import { FakeClock } from '../support/fake-clock.ts'

const hex = (number: number, digit = '0'): string => digit + number.toString(16).padStart(31, '0')

const member = (number: number, over: Partial<Member> = {}): Member => ({
  id: hex(number),
  boot: hex(number, 'b'),
  name: `node-${number}`,
  endpoints: [`tcp://10.0.${number >> 8}.${number & 255}:7400`],
  ...over,
})

const members = (count: number, from = 1): Member[] =>
  Array.from({ length: count }, (_, i) => member(from + i))

const announcement = ({ id, boot, name, endpoints }: Member): Announcement => ({
  ...{ id, boot, name, mesh: 'default', port: 7400, hosts: [endpoints[0]!.slice(6, -5)] },
  localEndpoint: endpoints[0]!,
})

const written = (message: GossipMessage): Reader => {
  const writer = new Writer()
  writeGossip(writer, message)
  return new Reader(writer.take())
}

interface Sent {
  readonly to: string
  readonly at: number
  readonly message: GossipMessage
  readonly bytes: number
}

/** One node, whose peers are played by the test. */
class Bench {
  readonly clock = new FakeClock()
  readonly self = member(0xfff)
  readonly sent: Sent[] = []
  readonly seen: Sighting[] = []
  up: Member[] = []
  readonly gossip = new Gossip({
    clock: this.clock,
    members: () => this.up,
    send: (to, write) => {
      const writer = new Writer()
      write(writer)
      const body = writer.take()
      this.sent.push({ to, at: this.clock.now(), message: readGossip(new Reader(body)), bytes: body.length })
    },
  })

  constructor({ dialsOnly = false, isOff = false } = {}) {
    if (isOff) return
    void this.gossip.start(dialsOnly ? null : announcement(this.self), {
      seen: (sighting) => this.seen.push(sighting),
      gone: () => {},
      warning: () => {},
    })
  }

  meet(...all: Member[]): void {
    for (const one of all) {
      this.up.push(one)
      this.gossip.met(one.id)
    }
  }

  lose(one: Member): void {
    this.up = this.up.filter(({ id }) => id !== one.id)
    this.gossip.lost(one.id)
  }

  tells(from: Member, all: readonly Member[], done = true): void {
    this.gossip.take(from.id, written({ kind: 'tell', members: all, done }))
  }

  asks(from: Member, count = 0): void {
    this.gossip.take(from.id, written({ kind: 'ask', digest: { count, hash: 1 } }))
  }

  tried(sighting: Sighting, kind: Outcome['kind']): void {
    for (const endpoint of sighting.endpoints) this.gossip.tried(sighting, endpoint, { kind, reason: kind })
  }

  /** Whom it asked since the last look. */
  asked(): string[] {
    return this.sent.splice(0).flatMap(({ to, message }) => (message.kind === 'ask' ? [to] : []))
  }
}

test('gossip - the first two members that come up are asked at once, of later ones hardly any', () => {
  const at = new Bench()
  const all = members(200)
  at.meet(...all.slice(0, 2))
  expect(at.asked()).toEqual([all[0]!.id, all[1]!.id])
  at.meet(...all.slice(2))
  expect(at.asked().length).toBeLessThan(20)
})

test('gossip - after the first asks one member at a time is asked, ever more rarely, at last every 30 s', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  at.meet(...members(5))
  at.sent.splice(0)
  const from = at.clock.now()
  await at.clock.advance(122_000)
  expect(at.sent.map((one) => one.at - from)).toEqual([
    1000, 3000, 7000, 15_000, 31_000, 61_000, 91_000, 121_000,
  ])
})

test('gossip - while all have been asked just now the rhythm waits, and is not slowed down', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  at.meet(member(1))
  at.sent.splice(0)
  const from = at.clock.now()
  await at.clock.advance(9000)
  expect(at.sent.map((one) => one.at - from)).toEqual([2000, 4000, 8000])
})

test('gossip - the rhythm of each node is its own, and who is asked is chance', async () => {
  const at = new Bench()
  at.meet(...members(10))
  at.sent.splice(0)
  await at.clock.advance(1_000_000)
  const pauses = at.sent.slice(1).map((one, i) => one.at - at.sent[i]!.at)
  expect(pauses.slice(5).every((ms) => ms >= 15_000 && ms <= 45_000)).toBe(true)
  expect(new Set(at.sent.map(({ to }) => to)).size).toBeGreaterThan(6)
  expect(at.clock.pendingTimers).toBe(1)
})

test('gossip - who is asked learns the digest, and where both know the same the answer is empty', () => {
  const [a, b] = [new Bench(), new Bench()]
  const [second, third] = [member(2), member(3)]
  a.up = [b.self, third]
  a.gossip.met(b.self.id)
  expect(a.sent[0]?.message).toEqual({ kind: 'ask', digest: digestOf([a.self, b.self, third]) })
  const both = new Bench()
  both.up = [second, third]
  const digest = digestOf([third, both.self, second])
  both.gossip.take(second.id, written({ kind: 'ask', digest }))
  expect(both.sent.map(({ message }) => message)).toEqual([{ kind: 'tell', members: [], done: true }])
  both.gossip.take(third.id, written({ kind: 'ask', digest: { ...digest, count: 2 } }))
  expect(both.sent[1]?.message).toEqual({ kind: 'tell', members: [second], done: true })
})

test('gossip - who only dials is no member and does not count itself', () => {
  const at = new Bench({ dialsOnly: true })
  at.meet(member(1))
  expect(at.sent[0]?.message).toEqual({ kind: 'ask', digest: digestOf([member(1)]) })
})

test('gossip - members that cannot be dialled are neither told nor counted', () => {
  const at = new Bench()
  at.up = [member(1), member(2, { endpoints: [] })]
  at.asks(member(3))
  expect(at.sent[0]?.message).toEqual({ kind: 'tell', members: [member(1)], done: true })
})

test('gossip - who asks is told all others in frames of at most 512 members, none larger than a batch (G6)', () => {
  const at = new Bench()
  at.up = members(1200)
  at.asks(member(7))
  const told = at.sent.map(({ message }) => (message.kind === 'tell' ? message : undefined)!)
  expect(told.map(({ members }) => members.length)).toEqual([512, 512, 175])
  expect(told.map(({ done }) => done)).toEqual([false, false, true])
  expect(told.flatMap(({ members }) => members)).toEqual(members(1200).filter(({ id }) => id !== hex(7)))
  at.sent.splice(0)
  const long = Array.from({ length: 8 }, (_, i) => `tcp://${`${i}`.repeat(250)}:7400`)
  at.up = members(200).map((one) => ({ ...one, name: 'ü'.repeat(127), endpoints: long }))
  at.asks(member(2000))
  expect(Math.max(...at.sent.map(({ bytes }) => bytes))).toBeLessThanOrEqual(64 * 1024)
  expect(at.sent.flatMap(({ message }) => (message.kind === 'tell' ? message.members : []))).toHaveLength(200)
})

test('gossip - a peer is answered once a second, and what it asks beyond that is counted (G6)', async () => {
  const at = new Bench()
  at.up = members(5)
  for (let i = 0; i < 10; i++) at.asks(member(1))
  at.asks(member(2))
  expect([at.sent.map(({ to }) => to), at.gossip.ignored]).toEqual([[hex(1), hex(2)], 9])
  await at.clock.advance(1000)
  at.asks(member(1))
  expect(at.sent).toHaveLength(3)
})

test('gossip - of a flood of askers the latest 4,096 are remembered (G6)', () => {
  const at = new Bench()
  at.up = members(2)
  for (let i = 0; i < 5000; i++) at.asks(member(i))
  at.asks(member(4999))
  at.asks(member(5000 - 4096))
  expect([at.sent.length, at.gossip.ignored]).toEqual([5000, 2])
  at.asks(member(0))
  expect(at.sent).toHaveLength(5001)
})

test('gossip - whoever is told and unknown is a sighting: not this node, nor who is up, but another boot of it', () => {
  const at = new Bench()
  const [first, second] = members(2)
  at.meet(first!)
  at.up.push(second!)
  const reborn = { ...second!, boot: hex(9, 'c') }
  const twin = { ...at.self, boot: hex(8, 'c') }
  at.tells(first!, [at.self, first!, second!, reborn, member(3), twin])
  expect(at.seen).toEqual([reborn, member(3), twin].map((one) => ({ ...one, source: 'gossip' })))
})

test('gossip - what is told unasked, or again after the end, or far too late, is ignored and counted (G8)', async () => {
  const at = new Bench()
  const [first, second] = members(2)
  at.tells(first!, [member(3)])
  at.meet(first!)
  at.tells(second!, [member(3)])
  expect([at.seen.length, at.gossip.ignored]).toEqual([0, 2])
  at.tells(first!, [member(3)], false)
  at.tells(first!, [member(4)])
  at.tells(first!, [member(5)])
  expect([at.seen.map(({ name }) => name), at.gossip.ignored]).toEqual([['node-3', 'node-4'], 3])
  at.meet(second!)
  await at.clock.advance(4900)
  const isAskedAgain = at.sent.filter(({ to }) => to === second!.id).length > 1
  at.clock.stall(isAskedAgain ? 10_000 : 200)
  at.tells(second!, [member(6)])
  expect([at.seen.length, at.gossip.ignored]).toEqual([2, 4])
})

test('gossip - an answer that never ends is cut off, and no more than 1,024 hints of one are believed (G6)', () => {
  const at = new Bench()
  const [first, second] = members(2)
  at.meet(first!, second!)
  for (let i = 0; i < 10; i++) at.tells(first!, members(512, 1000 + 512 * i), false)
  expect([at.seen.length, at.gossip.ignored]).toEqual([1024, 2])
  for (let i = 0; i < 5000; i++) at.tells(second!, [], false)
  expect(at.gossip.ignored).toBe(2 + 5000 - 4096)
})

test('gossip - a malformed frame is refused, and costs the peer no more than that', () => {
  const at = new Bench()
  at.meet(member(1))
  let refusal: unknown
  try {
    at.gossip.take(hex(1), new Reader(Buffer.of(2, 1, 9)))
  } catch (error) {
    refusal = error
  }
  expect(isSkeinError(refusal, 'MALFORMED')).toBe(true)
  at.tells(member(1), [member(2)])
  expect(at.seen).toHaveLength(1)
})

test('gossip - an address that failed is not told again for a minute, unless the node has started anew', async () => {
  const at = new Bench()
  const peers = members(2)
  const lost = member(3, { endpoints: ['tcp://10.0.0.3:7400', 'tcp://[fd00::3]:7400'] })
  at.meet(...peers)
  at.tells(peers[0]!, [lost])
  const told = at.seen[0]!
  at.gossip.tried(told, lost.endpoints[0]!, { kind: 'refused', reason: '' })
  at.tells(peers[1]!, [lost])
  expect(at.seen[1]?.endpoints).toEqual(['tcp://[fd00::3]:7400'])
  at.tried(told, 'silent')
  const tellAgain = (one: Member): number => {
    const before = at.seen.length
    const [peer] = peers
    at.lose(peer!)
    at.meet(peer!)
    // The first of those it meets is asked surely, so let it be the only one.
    at.tells(peer!, [one])
    return at.seen.length - before
  }
  at.lose(peers[1]!)
  expect(tellAgain(lost)).toBe(0)
  expect(tellAgain({ ...lost, boot: hex(3, 'd') })).toBe(1)
  await at.clock.advance(59_999)
  expect(tellAgain(lost)).toBe(0)
  await at.clock.advance(1)
  expect(tellAgain(lost)).toBe(1)
  at.tried(told, 'rejected')
  expect(tellAgain(lost)).toBe(0)
  at.gossip.moved(announcement(at.self))
  expect(tellAgain(lost)).toBe(1)
})

test('gossip - whoever is told anew quickens the rhythm, but not one that cannot be reached (G6)', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  const peers = members(3)
  at.meet(...peers)
  const answerAll = (all: Member[]): void => {
    for (const to of at.asked()) at.tells(peers.find(({ id }) => id === to)!, all)
  }
  answerAll([])
  await at.clock.advance(60_000)
  answerAll([])
  const lost = member(9)
  const beats: number[] = []
  for (let second = 0; second < 300; second++) {
    await at.clock.advance(1000)
    if (at.sent.length > 0) beats.push(second)
    answerAll([lost])
    for (const sighting of at.seen.splice(0)) at.tried(sighting, 'refused')
  }
  // Once quick, then 30 s apart, although it is told again each minute.
  expect(beats.length).toBeLessThan(16)
  expect(beats[1]! - beats[0]!).toBe(1)
  expect(beats.slice(-3).map((beat, i, last) => (i === 0 ? 30 : beat - last[i - 1]!))).toEqual([30, 30, 30])
})

test('gossip - when the network has changed somebody is asked at once, and the rhythm begins anew', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  at.gossip.moved(announcement(at.self))
  expect([at.sent.length, at.clock.pendingTimers]).toEqual([0, 0])
  at.meet(...members(3))
  await at.clock.advance(60_000)
  at.asked()
  at.gossip.moved(announcement(at.self))
  expect(at.asked()).toHaveLength(1)
  await at.clock.advance(1000)
  expect(at.asked()).toHaveLength(1)
})

test('gossip - no peer is asked twice so soon that it would not answer', async () => {
  const at = new Bench()
  at.meet(member(1))
  const times: number[] = []
  for (let i = 0; i < 400; i++) {
    at.gossip.moved(announcement(at.self))
    await at.clock.advance(100)
    for (const one of at.sent.splice(0)) times.push(one.at)
  }
  expect(times.slice(1).every((ms, i) => ms - times[i]! >= 1500)).toBe(true)
  expect(times.length).toBeGreaterThan(10)
})

test('gossip - one that was met late goes before others once it had time to settle: it may lead elsewhere', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  at.meet(...members(40))
  await at.clock.advance(200_000)
  const gateway = member(99)
  at.meet(gateway)
  at.asked()
  await at.clock.advance(9999)
  expect(at.asked()).not.toContain(gateway.id)
  await at.clock.advance(5001)
  expect(at.asked()).toContain(gateway.id)
})

test('gossip - a stream of newcomers does not put off what is due', async () => {
  const at = new Bench()
  at.clock.random = () => 0.999
  at.meet(...members(3))
  at.asked()
  for (let i = 4; i < 40; i++) {
    await at.clock.advance(1000)
    at.meet(member(i))
  }
  expect(at.asked().length).toBeGreaterThanOrEqual(3)
})

test('gossip - it is settled unless a first answer is still due, for at most a second (G7)', async () => {
  const at = new Bench()
  expect(at.gossip.isSettled).toBe(true)
  const peers = members(3)
  at.meet(...peers.slice(0, 2))
  expect(at.gossip.isSettled).toBe(false)
  at.tells(peers[0]!, [member(9)], false)
  expect(at.gossip.isSettled).toBe(false)
  at.tells(peers[0]!, [])
  expect(at.gossip.isSettled).toBe(false)
  at.lose(peers[1]!)
  expect(at.gossip.isSettled).toBe(true)
  at.meet(peers[1]!)
  await at.clock.advance(999)
  expect(at.gossip.isSettled).toBe(false)
  await at.clock.advance(1)
  expect(at.gossip.isSettled).toBe(true)
  await at.clock.advance(5000)
  at.asked()
  at.gossip.moved(announcement(at.self))
  expect([at.asked().length, at.gossip.isSettled]).toEqual([1, true])
})

test('gossip - with nobody left it rests, and whoever comes then is asked at once', async () => {
  const at = new Bench()
  const peers = members(8)
  at.meet(...peers)
  for (const one of peers) at.lose(one)
  await at.clock.advance(60_000)
  at.asked()
  await at.clock.advance(200_000)
  expect([at.asked(), at.clock.pendingTimers]).toEqual([[], 0])
  at.meet(peers[3]!)
  expect(at.asked()).toEqual([peers[3]!.id])
})

test('gossip - where it is switched off nobody is asked or told, and who asks is not kept waiting', () => {
  const at = new Bench({ isOff: true })
  at.meet(...members(3))
  at.tells(member(1), [member(7)])
  expect([at.sent, at.seen, at.clock.pendingTimers]).toEqual([[], [], 0])
  at.asks(member(1))
  expect(at.sent.map(({ message }) => message)).toEqual([{ kind: 'tell', members: [], done: true }])
})

test('gossip - after close it asks, answers and tells nothing (G10)', async () => {
  const at = new Bench()
  at.meet(...members(3))
  await at.gossip.close()
  await at.gossip.close()
  at.asked()
  at.asks(member(1))
  at.tells(member(1), [member(5)])
  at.meet(member(4))
  at.gossip.moved(null)
  await at.clock.advance(100_000)
  expect([at.sent, at.seen, at.clock.pendingTimers, at.gossip.isSettled]).toEqual([[], [], 0, true])
})

/** Many nodes on one clock: hints are dialled, hellos take their time, and both ends then say that the other is up. */
class World {
  readonly clock = new FakeClock(7)
  readonly nodes = new Map<string, WorldNode>()
  readonly byEndpoint = new Map<string, WorldNode>()
  reaches: (from: WorldNode, to: WorldNode) => boolean = () => true

  add(number: number): WorldNode {
    const node = new WorldNode(this, member(number))
    this.nodes.set(node.self.id, node)
    this.byEndpoint.set(node.self.endpoints[0]!, node)
    return node
  }

  get all(): WorldNode[] {
    return [...this.nodes.values()]
  }

  get isOneMesh(): boolean {
    return this.all.every((node) => node.up.size === this.nodes.size - 1)
  }

  /** Milliseconds until all know all. */
  async meshed(limitMs: number): Promise<number> {
    const from = this.clock.now()
    while (!this.isOneMesh && this.clock.now() - from < limitMs) await this.clock.advance(50)
    expect(this.isOneMesh).toBe(true)
    return this.clock.now() - from
  }

  after(run: () => void): void {
    this.clock.after(5 + 40 * this.clock.random(), run)
  }
}

class WorldNode {
  readonly self: Member
  readonly up = new Map<string, Member>()
  readonly gossip: Gossip
  readonly #world: World
  readonly #dialling = new Set<string>()
  frames = 0
  asks = 0
  told = 0
  heard = 0
  bytes = 0

  constructor(world: World, self: Member) {
    this.#world = world
    this.self = self
    this.gossip = new Gossip({
      clock: world.clock,
      members: () => [...this.up.values()],
      send: (peerId, write) => this.#send(world.nodes.get(peerId)!, write),
    })
    void this.gossip.start(announcement(self), {
      seen: (sighting) => this.dial(sighting.endpoints[0]!, sighting),
      gone: () => {},
      warning: (error) => {
        throw error
      },
    })
  }

  dial(endpoint: string, sighting?: Sighting): void {
    const other = this.#world.byEndpoint.get(endpoint)
    if ((other !== undefined && this.up.has(other.self.id)) || this.#dialling.has(endpoint)) return
    this.#dialling.add(endpoint)
    this.#world.after(() => {
      this.#dialling.delete(endpoint)
      if (other === undefined || !this.#world.reaches(this, other)) {
        if (sighting !== undefined) this.gossip.tried(sighting, endpoint, { kind: 'refused', reason: '' })
        return
      }
      this.meet(other)
      this.#world.after(() => other.meet(this))
    })
  }

  meet(other: WorldNode): void {
    if (this.up.has(other.self.id) || other === this) return
    this.up.set(other.self.id, other.self)
    this.gossip.met(other.self.id)
  }

  lose(other: WorldNode): void {
    if (this.up.delete(other.self.id)) this.gossip.lost(other.self.id)
  }

  forgetCosts(): void {
    this.frames = this.asks = this.told = this.heard = this.bytes = 0
  }

  #send(to: WorldNode, write: (writer: Writer) => void): void {
    const writer = new Writer()
    write(writer)
    const body = writer.take()
    const message = readGossip(new Reader(body))
    const entries = message.kind === 'tell' ? message.members.length : 0
    this.frames++
    this.bytes += body.length
    if (message.kind === 'ask') this.asks++
    this.told += entries
    this.#world.after(() => {
      if (!this.#world.reaches(this, to)) return
      to.heard += entries
      to.gossip.take(this.self.id, new Reader(body))
    })
  }
}

const costs = (nodes: WorldNode[]) => {
  const of = (read: (node: WorldNode) => number): { most: number; mean: number } => {
    const all = nodes.map(read)
    return { most: Math.max(...all), mean: all.reduce((sum, one) => sum + one, 0) / all.length }
  }
  return {
    asks: of((node) => node.asks),
    frames: of((node) => node.frames),
    told: of((node) => node.told),
    heard: of((node) => node.heard),
    bytes: of((node) => node.bytes),
  }
}

const star = (world: World, count: number, from = 0): WorldNode[] => {
  const nodes = Array.from({ length: count }, (_, i) => world.add(from + i))
  for (const node of nodes.slice(1)) node.dial(nodes[0]!.self.endpoints[0]!)
  return nodes
}

// What a node pays for each member of its mesh must not grow with the mesh: 12 times the nodes, the same bounds.
test.each([8, 32, 96])(
  'gossip - %i nodes that know one seed find each other within seconds, each told a few times of each other one (G6)',
  async (count) => {
    const world = new World()
    const [seed, ...others] = star(world, count)
    expect(await world.meshed(30_000)).toBeLessThan(5000)
    await world.clock.advance(60_000)
    const joining = costs(world.all)
    expect(joining.asks.most).toBeLessThanOrEqual(12)
    expect(joining.frames.mean).toBeLessThanOrEqual(20)
    expect(joining.heard.most).toBeLessThanOrEqual(4 * count)
    expect(joining.told.mean).toBeLessThanOrEqual(2 * count)
    // The seed alone tells everybody of all who came before.
    expect(seed!.told).toBeLessThanOrEqual(count ** 2)
    expect(costs(others).told.most).toBeLessThanOrEqual(8 * count)
    for (const node of world.all) node.forgetCosts()
    await world.clock.advance(300_000)
    const idling = costs(world.all)
    expect(idling.asks.most).toBeLessThanOrEqual(300 / 15)
    expect(idling.asks.mean).toBeLessThanOrEqual(300 / 25)
    expect(idling.told.most).toBe(0)
    expect(idling.bytes.mean).toBeLessThanOrEqual(300)
  },
  60_000,
)

test('gossip - one that joins a mesh of 96 is told twice of each, and costs the others next to nothing', async () => {
  const world = new World()
  const others = star(world, 96)
  await world.meshed(30_000)
  await world.clock.advance(300_000)
  for (const node of others) node.forgetCosts()
  const joiner = world.add(500)
  joiner.dial(others[40]!.self.endpoints[0]!)
  expect(await world.meshed(30_000)).toBeLessThan(1000)
  expect([joiner.asks, joiner.heard]).toEqual([2, 190])
  await world.clock.advance(60_000)
  expect(costs(others).asks.mean).toBeLessThan(6)
  expect(costs(others).told.mean).toBeLessThan(4)
  expect([joiner.frames < 200, joiner.told]).toEqual([true, 0])
})

test('gossip - two meshes that a single connection joins become one, without a restart', async () => {
  const world = new World()
  const [left, right] = [star(world, 32), star(world, 32, 100)]
  await world.clock.advance(300_000)
  expect(world.all.map((node) => node.up.size)).toEqual(Array(64).fill(31))
  for (const node of world.all) node.forgetCosts()
  left[20]!.dial(right[10]!.self.endpoints[0]!)
  await world.meshed(60_000)
  expect(costs(world.all).heard.most).toBeLessThanOrEqual(6 * 64)
  expect(costs(world.all).told.mean).toBeLessThanOrEqual(3 * 64)
})

test('gossip - a mesh that was cut in two and is joined again at one place is one again', async () => {
  const world = new World()
  const nodes = star(world, 24)
  await world.meshed(30_000)
  await world.clock.advance(100_000)
  const isLeft = (node: WorldNode): boolean => nodes.indexOf(node) % 2 === 0
  world.reaches = (from, to) => isLeft(from) === isLeft(to)
  for (const one of nodes) for (const other of nodes) if (!world.reaches(one, other)) one.lose(other)
  await world.clock.advance(300_000)
  expect(nodes.map((node) => node.up.size)).toEqual(Array(24).fill(11))
  world.reaches = () => true
  nodes[1]!.dial(nodes[0]!.self.endpoints[0]!)
  await world.meshed(60_000)
})

test('gossip - one that some can reach and others cannot does not keep a mesh busy (G3)', async () => {
  const world = new World()
  const nodes = star(world, 24)
  await world.meshed(30_000)
  const hidden = world.add(50)
  const isFriend = (node: WorldNode): boolean => nodes.slice(0, 3).includes(node)
  world.reaches = (from, to) => ![from, to].includes(hidden) || isFriend(from) || isFriend(to)
  hidden.dial(nodes[0]!.self.endpoints[0]!)
  await world.clock.advance(120_000)
  expect(nodes.map((node) => node.up.size)).toEqual(nodes.map((node) => (isFriend(node) ? 24 : 23)))
  for (const node of nodes) node.forgetCosts()
  await world.clock.advance(300_000)
  expect(costs(nodes).asks.mean).toBeLessThanOrEqual(300 / 20)
  expect(costs(nodes).heard.mean).toBeLessThanOrEqual(4 * 24)
})
