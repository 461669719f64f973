import { expect, test } from 'vitest'
import { Changes } from '../../src/changes.ts'
import { Dialler, type DiallerOptions } from '../../src/peers/dialler.ts'
import type { Peer } from '../../src/peers/peer.ts'
import { Roster } from '../../src/peers/roster.ts'
import type { Hello } from '../../src/protocol/control-frames.ts'
import { FRAME } from '../../src/protocol/control-frames.ts'
import { loneFrame, type Route } from '../../src/transport/link.ts'
import type { DialEvents } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'

const BOOT = 'b'.repeat(32)

const helloOf = (id: string): Hello => ({
  ...{
    mesh: 'default',
    id,
    boot: BOOT,
    name: 'one',
    number: 1,
    token: '',
    taken: 0,
    known: 0,
    unreachable: '',
  },
  address: { hosts: ['127.0.0.1'], control: 1, feed: 2, delivery: 3 },
  interest: { revision: 1, patterns: [], responders: [], services: [] },
})

/** A node to which a peer is connected that it has begun to dial. */
const setUp = () => {
  const clock = new FakeClock()
  const changes = new Changes(clock)
  const dials: DialEvents[] = []
  const nothing = (): void => {}
  const roster = new Roster({
    ...{ id: '0'.repeat(32), clock, changes, goneMs: 60_000 },
    ...{ address: () => null, interest: () => helloOf('').interest, sentTo: () => 0, awaits: () => false },
    ...{ up: nothing, down: nothing, gone: nothing, interested: nothing, lost: nothing },
  })
  const options: Partial<DiallerOptions> = {
    ...{
      id: '0'.repeat(32),
      boot: 'c'.repeat(32),
      mesh: 'default',
      clock,
      changes,
      roster,
      queueBytes: 1000,
    },
    transport: {
      dialControl: (_: string, on: DialEvents) => {
        dials.push(on)
        return { send: async () => {}, close: nothing }
      },
    } as unknown as DiallerOptions['transport'],
    ...{ tried: nothing, warning: nothing, hello: () => helloOf('0'.repeat(32)) },
  }
  const dialler = new Dialler(options as DiallerOptions)
  const hello = helloOf('1'.repeat(32))
  const peer = roster.meet(hello) as Peer
  peer.address = hello.address
  peer.route = { send: nothing, close: nothing } as unknown as Route
  dialler.dial(peer)
  expect(dials).toHaveLength(1)
  return { clock, dialler, dials, peer }
}

test('dialler - a peer that is connected to this node is dialled again when a source withdraws it, since it is there', async () => {
  const { clock, dialler, dials, peer } = setUp()
  dialler.gone(peer.id, peer.boot)
  expect(dialler.isSought(peer.id, peer.boot)).toBe(false)
  await clock.advance(1000)
  expect(dials).toHaveLength(2)
  dialler.close()
})

test('dialler - a peer that is connected to this node and refuses it once is dialled again', async () => {
  const { clock, dialler, dials, peer } = setUp()
  const refusal = loneFrame(0, FRAME.refuse, (writer) => {
    writer.text8('NODE_ID_IN_USE')
    writer.text32('held by a living node')
  })
  dials[0]!.frames!([refusal])
  expect(dialler.isSought(peer.id, peer.boot)).toBe(false)
  await clock.advance(1000)
  expect(dials).toHaveLength(2)
  dialler.close()
})
