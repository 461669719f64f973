import { expect, test } from 'vitest'
import type { Backlog } from '../../src/delivery/backlog.ts'
import { Lanes } from '../../src/delivery/lanes.ts'
import type { Loaded } from '../../src/delivery/ledger.ts'
import { LookUps } from '../../src/delivery/look-ups.ts'
import { Missed } from '../../src/delivery/missed.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { type HandledBefore, writeSettlement } from '../../src/protocol/settlement.ts'
import type { Link } from '../../src/transport/link.ts'
import type { Transport } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { BOOT } from '../support/memory-feed.ts'

/** So many of one sender's messages, by their ids. */
const said = (first: number, count: number): Reader => {
  const writer = new Writer()
  writer.u48(first)
  for (let sequence = first; sequence < first + count; sequence++)
    writeSettlement(writer, {
      ...{ kind: 'handled-before', boot: BOOT, sequence, addressee: { kind: 'queue', name: 'jobs' } },
    })
  return new Reader(Buffer.from(writer.take()))
}

test('lanes - what a peer says to have handled before is looked up together, and only so much of it at a time (G6)', async () => {
  const asked: (readonly HandledBefore[])[] = []
  const lookUps: (() => void)[] = []
  const peer = new Peer('1'.repeat(32), 'c'.repeat(32), 'receiver')
  peer.address = { hosts: ['127.0.0.1'], control: 1, feed: 2, delivery: 3 }
  peer.link = { endpoint: 'tcp://127.0.0.1:1', isOpen: true, send: () => {} } as unknown as Link
  const lanes = new Lanes({
    missed: new Missed(),
    boot: BOOT,
    transport: { dialDelivery: () => ({ send: async () => {}, close: () => {} }) } as unknown as Transport,
    clock: new FakeClock(),
    queueBytes: 1000,
    handledBefore: (_peer, some) => {
      asked.push(some)
      return new Promise((resolve) => lookUps.push(resolve))
    },
    applied: async () => true,
    fault: (error) => {
      throw error
    },
  })
  const counts = (): number[] => asked.map(({ length }) => length)
  lanes.settled(peer, said(1, 40_000))
  lanes.settled(peer, said(40_001, 40_000))
  lanes.settled(peer, said(80_001, 1))
  expect(counts()).toEqual([40_000, 25_536])
  for (const end of lookUps.splice(0)) end()
  await new Promise(setImmediate)
  // What was not taken is said again, and nothing of it is left out.
  lanes.settled(peer, said(40_001, 40_000))
  expect(counts()).toEqual([40_000, 25_536, 14_464])
  expect(asked[2]![0]!.sequence).toBe(65_537)
  lanes.close()
})

/** Look-ups on a disk that shows what `disk` does. */
const setUp = (disk: (sequences: readonly number[]) => Promise<(Loaded | undefined)[]>) => {
  const clock = new FakeClock()
  const found: number[] = []
  const faults: unknown[] = []
  const taken = new Set<number>()
  const backlog = {
    handledBefore: (_boot: string, sequence: number) => void taken.add(sequence),
    takeHandledBefore: (sequence: number) => taken.delete(sequence),
  } as unknown as Backlog
  const lookUps = new LookUps({
    clock,
    backlogOf: ({ name }) => (name === 'jobs' ? backlog : undefined),
    load: disk,
    found: (_peer, { sequence }) => void found.push(sequence),
    fault: (error) => void faults.push(error),
  })
  const peer = new Peer('1'.repeat(32), 'c'.repeat(32), 'receiver')
  const add = (sequences: readonly number[], name = 'jobs', after?: Promise<unknown>): Promise<void> =>
    lookUps.add(
      peer,
      sequences.map((sequence) => ({
        ...{ kind: 'handled-before', boot: BOOT, sequence, addressee: { kind: 'queue', name } },
      })),
      after,
    )
  return { clock, found, faults, lookUps, add }
}

const loadedOf = (sequence: number, boot = BOOT): Loaded =>
  ({ sequence, envelope: { boot }, payload: {} }) as unknown as Loaded

test('look-ups - each once however often it is said, few values at a time, and nothing of other boots or queues (G6)', async () => {
  const loads: number[] = []
  const { found, add } = setUp(async (sequences) => {
    loads.push(sequences.length)
    return sequences.map((sequence) => loadedOf(sequence, sequence === 3 ? 'c'.repeat(32) : BOOT))
  })
  const many = Array.from({ length: 100 }, (_, at) => at)
  await add([...many, ...many, ...many])
  expect(found).toEqual(many.filter((sequence) => sequence !== 3))
  expect(loads).toEqual([64, 36])
  await add(many, 'unknown')
  expect(loads).toHaveLength(2)
})

test('look-ups - a disk that does not answer is asked again: until it does, nothing of it counts as recorded (G9)', async () => {
  let isBroken = true
  const { clock, found, faults, lookUps, add } = setUp(async (sequences) => {
    if (isBroken) throw new Error('EIO')
    return sequences.map((sequence) => loadedOf(sequence))
  })
  let isOver = false
  const first = add([1])
  void add([2], 'jobs', first).then(() => {
    isOver = true
  })
  await clock.advance(2500)
  expect([found, isOver, faults.length]).toEqual([[], false, 3])
  isBroken = false
  await clock.advance(1000)
  expect([found, isOver]).toEqual([[1, 2], true])
  isBroken = true
  const last = add([3])
  await clock.advance(0)
  lookUps.close()
  await clock.advance(1000)
  await last
  expect([found, clock.pendingTimers]).toEqual([[1, 2], 0])
})
