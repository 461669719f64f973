import { expect, test } from 'vitest'
import { Changes } from '../../src/changes.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Roster, type RosterOptions } from '../../src/peers/roster.ts'
import type { Hello } from '../../src/protocol/control-frames.ts'
import { FakeClock } from '../support/fake-clock.ts'

const BOOT = 'b'.repeat(32)

const helloOf = (id: string): Hello => ({
  ...{ mesh: 'default', id, boot: BOOT, name: 'one', number: 1, address: null },
  ...{ token: '', taken: 0, known: 0, unreachable: '' },
  interest: { revision: 1, patterns: [], responders: [], services: [] },
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
