import { expect, test } from 'vitest'
import { Changes } from '../../src/changes.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Roster, type RosterOptions } from '../../src/peers/roster.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { FRAME, type Hello, type Service, writeWindows } from '../../src/protocol/control-frames.ts'
import type { Link } from '../../src/transport/link.ts'
import { FakeClock } from '../support/fake-clock.ts'

const BOOT = 'b'.repeat(32)

const service = (name: string, messages: number): Service => ({
  ...{ kind: 'queue', name, patterns: [], messages, bytes: 1, leaseMs: 1 },
})

const helloOf = (id: string, services: readonly Service[] = []): Hello => ({
  ...{ mesh: 'default', id, boot: BOOT, name: 'one', number: 1, address: null },
  ...{ token: '', taken: 0, known: 0, unreachable: '' },
  interest: { revision: 1, patterns: [], responders: [], services },
})

const setUp = (options: Partial<RosterOptions> = {}): { roster: Roster; clock: FakeClock } => {
  const clock = new FakeClock()
  const nothing = (): void => {}
  const roster = new Roster({
    ...{ id: '0'.repeat(32), clock, changes: new Changes(clock), goneMs: 60_000 },
    address: () => null,
    interest: () => helloOf('').interest,
    sentTo: () => 0,
    awaits: () => false,
    ...{ up: nothing, down: nothing, gone: nothing, interested: nothing, lost: nothing },
    ...options,
  })
  return { roster, clock }
}

const windows = (services: readonly Service[]): Reader => {
  const writer = new Writer()
  writeWindows(writer, services)
  return new Reader(writer.take())
}

test('roster - once it is closed no timer keeps it in memory for the sake of those that were lost or refused it', () => {
  const { roster, clock } = setUp()
  roster.start()
  const lost = roster.meet(helloOf('1'.repeat(32)))!
  roster.up(lost)
  roster.down(lost, 'its connection broke')
  roster.list(new Peer('2'.repeat(32), BOOT, 'refuses'))
  expect(clock.pendingTimers).toBe(3)
  roster.close()
  expect(clock.pendingTimers).toBe(0)
})

test('roster - a peer that is lost again and again waits behind one timer, and is forgotten goneMs after the last time', async () => {
  const { roster, clock } = setUp()
  const peer = roster.meet(helloOf('1'.repeat(32)))!
  for (let time = 0; time < 5; time++) {
    roster.up(peer)
    roster.down(peer, 'its connection broke')
    await clock.advance(5000)
  }
  expect(clock.pendingTimers).toBe(1)
  expect(roster.get(peer.id)).toBe(peer)
  await clock.advance(55_000)
  expect(roster.get(peer.id)).toBeUndefined()
})

test('roster - windows are taken as they are stated, and frames that name too few services are left unread (G6)', () => {
  let interested = 0
  const { roster } = setUp({ interested: () => void interested++ })
  const many = Array.from({ length: 1000 }, (_, at) => service(`q${at}`, 1))
  const peer = roster.meet(helloOf('1'.repeat(32)))!
  roster.interested(peer, helloOf(peer.id, many).interest)
  roster.windowed(peer, windows(many.map(({ name }) => service(name, 7))))
  expect(peer.interest.services.every(({ messages }) => messages === 7)).toBe(true)
  expect(interested).toBe(2)
  const stated = peer.interest.services
  for (let frame = 0; frame < 100; frame++) roster.windowed(peer, windows([service('q0', 9)]))
  expect(peer.interest.services).toBe(stated)
  expect(interested).toBe(2)
})

test('roster - windows that were lost with a connection come with the next hello, an older interest does not', () => {
  const { roster } = setUp()
  const peer = roster.meet(helloOf('1'.repeat(32)))!
  roster.interested(peer, { ...helloOf(peer.id, [service('q', 2)]).interest, revision: 5 })
  roster.interested(peer, { ...helloOf(peer.id, [service('q', 64)]).interest, revision: 5 })
  expect(peer.interest.services).toEqual([service('q', 64)])
  roster.interested(peer, { ...helloOf(peer.id, [service('q', 1)]).interest, revision: 4 })
  expect(peer.interest.services).toEqual([service('q', 64)])
})

test('roster - whoever came and left without ever being up leaves nothing behind in other modules either', () => {
  const told: string[] = []
  const { roster } = setUp({
    down: ({ id }) => void told.push(`down ${id[0]}`),
    gone: ({ id }) => void told.push(`gone ${id[0]}`),
  })
  const away = roster.meet(helloOf('1'.repeat(32)))!
  roster.interested(away, helloOf(away.id).interest)
  roster.down(away, 'its connection is gone')
  const before = roster.meet(helloOf('2'.repeat(32)))!
  const after = roster.meet({ ...helloOf(before.id), boot: 'c'.repeat(32) })
  expect(after).not.toBe(before)
  expect(told).toEqual(['down 1', 'down 2', 'gone 2'])
  roster.close()
})

test('roster - a peer that was lost and dials this node again is not forgotten while it is connected', async () => {
  const { roster, clock } = setUp()
  const peer = roster.meet(helloOf('1'.repeat(32)))!
  roster.up(peer)
  roster.down(peer, 'its connection broke')
  roster.returned(peer)
  await clock.advance(60_000)
  expect(roster.get(peer.id)).toBe(peer)
  expect(peer.info()).toMatchObject({ state: 'seen' })
})

/** A peer that is up, and the numbers of the pings it was sent. */
const holding = (roster: Roster): { peer: Peer; pings: number[] } => {
  const peer = roster.meet(helloOf('1'.repeat(32)))!
  const pings: number[] = []
  const send = (type: number, write: (writer: Writer) => void): void => {
    const writer = new Writer()
    write(writer)
    const reader = new Reader(writer.take())
    reader.u48()
    if (type === FRAME.ping) pings.push(reader.u48())
  }
  peer.link = { isOpen: true, send } as unknown as Link
  roster.up(peer)
  return { peer, pings }
}

test('roster - who holds an id lives if it answers this very ping, and what it had sent before is no answer', async () => {
  const { roster, clock } = setUp()
  const { peer, pings } = holding(roster)
  roster.ping(peer)
  const living = roster.challenge(peer)
  await clock.advance(400)
  roster.heard(peer)
  roster.ponged(peer, pings[1]!)
  expect(await living).toBe(true)
  let verdict: boolean | undefined
  roster.ping(peer)
  void roster.challenge(peer).then((alive) => {
    verdict = alive
  })
  // The last of what the dead one had sent, its answer to an older ping among it.
  await clock.advance(400)
  roster.heard(peer)
  roster.ponged(peer, pings[2]!)
  await clock.advance(400)
  expect(verdict).toBeUndefined()
  await clock.advance(200)
  expect(verdict).toBe(false)
})

test('roster - who holds an id and talks without end lives, though its answer does not come through', async () => {
  const { roster, clock } = setUp()
  const { peer } = holding(roster)
  let verdict: boolean | undefined
  void roster.challenge(peer).then((alive) => {
    verdict = alive
  })
  for (let passed = 0; passed < 6000 && verdict === undefined; passed += 300) {
    await clock.advance(300)
    roster.heard(peer)
  }
  expect(verdict).toBe(true)
})
