import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Liveness } from '../../src/peers/liveness.ts'
import { Peer } from '../../src/peers/peer.ts'
import type { Link } from '../../src/transport/link.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { eventually } from '../support/mesh.ts'

class Bench {
  readonly clock = new FakeClock()
  readonly pings: [string, number][] = []
  readonly lost: [string, number][] = []
  changes = 0
  readonly awaited = new Set<Peer>()
  readonly peers = new Map<string, Peer>()
  readonly from = this.clock.now()
  readonly liveness = new Liveness({
    id: '0'.repeat(32),
    clock: this.clock,
    awaits: (peer) => this.awaited.has(peer),
    ping: (peer) => this.pings.push([peer.name, this.clock.now() - this.from]),
    changed: () => this.changes++,
    lost: (peer) => {
      this.lost.push([peer.name, this.clock.now() - this.from])
      peer.state = 'down'
    },
  })

  peer(name: string, awaited = false): Peer {
    const peer = new Peer(name.repeat(32), 'b'.repeat(32), name)
    peer.state = 'up'
    peer.link = {} as Link
    peer.heardAt = this.clock.now()
    this.peers.set(peer.id, peer)
    if (awaited) this.awaited.add(peer)
    return peer
  }

  /** It answers whatever it is asked, once a second. */
  async answering(ms: number, ...peers: Peer[]): Promise<void> {
    for (let passed = 0; passed < ms; passed += 500) {
      await this.clock.advance(500)
      for (const peer of peers) if (peer.pingedAt > 0) this.liveness.heard(peer)
    }
  }
}

test('liveness - in a large mesh a node pings no more often than in a small one, and each peer within a minute', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peers = Array.from({ length: 200 }, (_, n) => at.peer(String.fromCharCode(0x100 + n)))
  await at.answering(60_000, ...peers)
  expect(at.pings).toHaveLength(200)
  expect(new Set(at.pings.map(([who]) => who)).size).toBe(200)
})

test('liveness - of two idle nodes one asks, and by that both know that the other lives', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const [lower, higher] = [at.peer(' '), at.peer('a')]
  await at.answering(18_000, lower, higher)
  expect(at.pings.map(([who]) => who)).toEqual(['a'])
  await at.answering(2000, lower, higher)
  expect(at.pings.map(([who]) => who)).toEqual(['a', ' '])
})

test('liveness - doubt asks at once, and once', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const [up, down] = [at.peer('a'), at.peer('b')]
  down.state = 'down'
  for (const peer of [up, up, down]) at.liveness.doubt(peer)
  expect(at.pings).toEqual([['a', 0]])
})

test('liveness - a peer from whom something is awaited is pinged each second, an idle one every 15 s, all on one tick', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peers = [at.peer('a', true), at.peer('b', true), at.peer('c')]
  await at.answering(30_000, ...peers)
  const of = (name: string): number[] => at.pings.filter(([who]) => who === name).map(([, ms]) => ms)
  expect(of('a').length).toBeGreaterThanOrEqual(15)
  expect(of('b')).toEqual(of('a'))
  expect(of('c')).toEqual([15_000, 30_000])
  expect(at.clock.pendingTimers).toBe(1)
  expect(at.pings.every(([, ms]) => ms % 1000 === 0)).toBe(true)
  at.liveness.close()
  expect(at.clock.pendingTimers).toBe(0)
})

test('liveness - silence makes a peer suspect 3 s after the first ping and down after 10 s', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peer = at.peer('a', true)
  await at.clock.advance(3500)
  expect(peer.state).toBe('up')
  await at.clock.advance(1000)
  expect(peer.state).toBe('suspect')
  expect(at.changes).toBe(1)
  await at.clock.advance(6000)
  expect(at.lost).toEqual([])
  await at.clock.advance(1000)
  expect(at.lost).toEqual([['a', 11_000]])
  const pings = at.pings.length
  await at.clock.advance(5000)
  expect(at.pings).toHaveLength(pings)
  expect(at.lost).toHaveLength(1)
})

test('liveness - any traffic revives a suspect', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peer = at.peer('a', true)
  await at.clock.advance(8000)
  expect(peer.state).toBe('suspect')
  at.liveness.heard(peer)
  expect([peer.state, peer.reason, at.changes]).toEqual(['up', '', 2])
  await at.clock.advance(3500)
  expect(peer.state).toBe('up')
})

test('liveness - a node that stalled itself first reads its backlog and judges nobody', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peer = at.peer('a', true)
  await at.clock.advance(1000)
  at.clock.stall(60_000)
  await at.clock.advance(1000)
  expect([peer.state, at.lost]).toEqual(['up', []])
  at.liveness.heard(peer)
  await at.clock.advance(2000)
  expect(peer.state).toBe('up')
})

test('liveness - a peer that was silent before the stall is still judged after it, by what it had', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  const peer = at.peer('a', true)
  await at.clock.advance(6000)
  at.clock.stall(60_000)
  await at.clock.advance(2000)
  expect(at.lost).toEqual([])
  expect(peer.state).toBe('suspect')
  await at.clock.advance(6000)
  expect(at.lost).toHaveLength(1)
})

test('liveness - what held up the event loop for less than a tick is remembered for ten ticks, from the first one on', async () => {
  const meter = {
    worstMs: 0,
    closed: false,
    reset() {
      meter.worstMs = 0
    },
    close() {
      meter.closed = true
    },
  }
  const at = new Bench()
  const clock = Object.assign(at.clock, { lag: () => meter })
  at.liveness.start(at.peers)
  const holdUp = async (ms: number): Promise<void> => {
    await clock.advance(100)
    meter.worstMs = Math.max(meter.worstMs, ms)
  }
  await holdUp(250)
  expect(at.liveness.lagMs).toBe(0)
  await clock.advance(1000)
  expect(at.liveness.lagMs).toBe(0)
  await holdUp(400)
  expect(at.liveness.lagMs).toBe(400)
  await holdUp(300)
  await clock.advance(9800)
  expect(at.liveness.lagMs).toBe(400)
  await clock.advance(1000)
  expect(at.liveness.lagMs).toBe(0)
  clock.stall(46_000)
  await clock.advance(1000)
  expect(at.liveness.lagMs).toBeGreaterThan(45_000)
  at.liveness.close()
  expect(meter.closed).toBe(true)
})

test('clock - what holds up the event loop is measured, well below a second', async () => {
  const lag = systemClock.lag!()
  await eventually(() => {
    const until = performance.now() + 400
    while (performance.now() < until);
    return lag.worstMs >= 150
  })
  lag.reset()
  expect(lag.worstMs).toBe(0)
  lag.close()
})

test('liveness - a peer that is down, or that no connection leads to, is not judged', async () => {
  const at = new Bench()
  at.liveness.start(at.peers)
  at.peer('a', true).state = 'down'
  at.peer('b', true).link = undefined
  await at.clock.advance(20_000)
  expect(at.pings).toEqual([])
  expect(at.lost).toEqual([])
})
