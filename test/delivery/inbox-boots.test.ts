import { expect, test } from 'vitest'
import { Inbox } from '../../src/delivery/inbox.ts'
import type { Settle } from '../../src/delivery/verdict.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { FRAME } from '../../src/protocol/control-frames.ts'
import { beginDeliveryBatch, sealDeliveryBatch, writeHandOver } from '../../src/protocol/delivery-batch.ts'
import { writeRecord } from '../../src/protocol/record.ts'
import { readSettlement, type Settlement } from '../../src/protocol/settlement.ts'
import type { Route } from '../../src/transport/link.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { payloadOf } from '../support/memory-feed.ts'

const ID = 'a'.repeat(32)
const bootOf = (n: number): string => n.toString(16).repeat(32)

/** One boot of the sender, and what it is told. */
const boot = (n: number) => {
  const peer = new Peer(ID, bootOf(n), 'sender')
  const told: Settlement[] = []
  const send = (type: number, write: (writer: Writer) => void): void => {
    const writer = new Writer()
    write(writer)
    const reader = new Reader(writer.take())
    if (type !== FRAME.settled) return
    reader.u48()
    while (reader.left > 0) told.push(readSettlement(reader))
  }
  peer.route = { send } as unknown as Route
  return { peer, told }
}

/** Hands over one message that this boot, or an earlier one, has accepted. */
const batch = ({ tokenGiven, boot: sender }: Peer, accepted: string, sequence: number): Buffer => {
  const writer = new Writer()
  beginDeliveryBatch(writer, tokenGiven, sender, 1, 0)
  const id = { boot: accepted, sequence }
  const rest = {
    kind: 'queue',
    group: '',
    topic: 'jobs',
    key: undefined,
    attempt: 1,
    redelivered: false,
    isLast: false,
  } as const
  writeHandOver(writer, 7, { ...rest, ...id, isOwed: true }, sender)
  writeRecord(writer, payloadOf('work'), true)
  const bytes = Buffer.from(writer.take())
  sealDeliveryBatch(bytes, 1)
  return bytes
}

const setUp = () => {
  const clock = new FakeClock()
  const settles: Settle[] = []
  const peers = new Map<string, Peer>()
  const inbox = new Inbox({
    selfId: 'self',
    died: () => {},
    clock,
    peerOf: (token) => peers.get(token),
    heard: () => {},
    deliver: (_addressee, _message, _record, _held, settle) => void settles.push(settle!),
  })
  const come = (sender: ReturnType<typeof boot>): void => {
    peers.set(sender.peer.tokenGiven, sender.peer)
    inbox.greeted(sender.peer)
  }
  return { clock, inbox, settles, come }
}

test('inbox - what was handled for a boot that died is told to the next one, by its id (G9)', async () => {
  const { clock, inbox, settles, come } = setUp()
  const [first, second] = [boot(1), boot(2)]
  come(first)
  inbox.take([batch(first.peer, bootOf(1), 5)])
  inbox.down(first.peer)
  settles[0]!()
  await clock.advance(1)
  expect(first.told).toEqual([])
  come(second)
  await clock.advance(1)
  const addressee = { kind: 'queue', name: 'jobs' } as const
  expect(second.told).toEqual([{ kind: 'handled-before', boot: bootOf(1), sequence: 5, addressee }])
})

test('inbox - a boot that said hello and was never up takes nothing away from the next one', async () => {
  const { clock, inbox, settles, come } = setUp()
  const [first, never, third] = [boot(1), boot(2), boot(3)]
  come(first)
  inbox.take([batch(first.peer, bootOf(1), 5)])
  inbox.down(first.peer)
  settles[0]!()
  come(never)
  come(third)
  inbox.take([batch(third.peer, bootOf(3), 6)])
  settles[1]!()
  await clock.advance(1)
  expect(third.told.at(-1)).toEqual({ kind: 'handled', from: 7, count: 1 })
  expect(never.told.filter(({ kind }) => kind === 'handled')).toEqual([])
})
