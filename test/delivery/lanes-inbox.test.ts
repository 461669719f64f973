import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Inbox } from '../../src/delivery/inbox.ts'
import { Lanes } from '../../src/delivery/lanes.ts'
import { Missed } from '../../src/delivery/missed.ts'
import type { Settle } from '../../src/delivery/verdict.ts'
import { SkeinError } from '../../src/errors.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { FRAME } from '../../src/protocol/control-frames.ts'
import { decodeReceived } from '../../src/protocol/payload.ts'
import type { Link, Route } from '../../src/transport/link.ts'
import type { DialEvents, Transport } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { BOOT, payloadOf } from '../support/memory-feed.ts'

const MB = 1024 * 1024

/** A sender, a receiver, and between them a PUSH that loses and reorders on a reset, as ZeroMQ's does. */
class World {
  readonly clock = new FakeClock()
  /** PUSH waits while there is no connection. */
  connected: Promise<void> = Promise.resolve()
  /** Batches on their way to the receiver. */
  pipe: Buffer[][] = []
  /** Control frames on their way back, in order. */
  readonly back: (() => void)[] = []
  readonly got: unknown[] = []
  readonly settles: Settle[] = []
  readonly missed: number[] = []
  readonly faults: unknown[] = []
  readonly receiver = new Peer('1'.repeat(32), 'c'.repeat(32), 'receiver')
  readonly sender = new Peer('2'.repeat(32), BOOT, 'sender')
  readonly lanes: Lanes
  readonly inbox: Inbox
  on!: DialEvents

  constructor(queueBytes = 64 * MB) {
    this.receiver.address = { hosts: ['127.0.0.1'], control: 1, feed: 2, delivery: 3 }
    this.receiver.token = this.sender.tokenGiven
    this.receiver.link = {
      endpoint: 'tcp://127.0.0.1:1',
      isOpen: true,
      send: (type: number) => void this.missed.push(type),
    } as unknown as Link
    this.sender.route = {
      send: (type: number, write?: (writer: Writer) => void) => this.#answer(type, write),
    } as unknown as Route
    const transport = {
      dialDelivery: (_: string, on: DialEvents) => {
        this.on = on
        const send = async (frames: Buffer[]): Promise<void> => {
          await this.connected
          this.pipe.push(frames)
        }
        return { send, close: () => {} }
      },
    } as unknown as Transport
    this.lanes = new Lanes({
      missed: new Missed(),
      boot: BOOT,
      transport,
      clock: this.clock,
      queueBytes,
      handledBefore: async () => {},
      applied: async () => true,
      fault: (error) => this.faults.push(error),
    })
    this.inbox = new Inbox({
      selfId: 'self',
      died: () => {},
      clock: this.clock,
      peerOf: (token) => (token === this.sender.tokenGiven ? this.sender : undefined),
      heard: () => {},
      deliver: (_addressee, _message, record, _held, settle) => {
        this.got.push(decodeReceived(record))
        if (settle !== undefined) this.settles.push(settle)
      },
    })
  }

  send(value: unknown): void {
    this.lanes.send(this.receiver, 'a', payloadOf(value), 1)
  }

  read(count = Number.POSITIVE_INFINITY): void {
    for (const frames of this.pipe.splice(0, count)) this.inbox.take(frames)
  }

  control(count = Number.POSITIVE_INFINITY): void {
    for (const run of this.back.splice(0, count)) run()
  }

  ping(): void {
    this.inbox.pinged(this.sender, this.lanes.sentTo(this.receiver))
    const taken = this.inbox.takenFrom(this.sender)
    this.back.push(() => this.lanes.ponged(this.receiver, taken))
  }

  /** Everything moves until nothing does any more. */
  async flow(): Promise<void> {
    await this.clock.advance(1)
    while (this.pipe.length + this.back.length > 0) {
      this.read()
      await this.clock.advance(1)
      this.control()
      await this.clock.advance(1)
    }
  }

  #answer(type: number, write: ((writer: Writer) => void) | undefined): void {
    const writer = new Writer()
    write?.(writer)
    const reader = new Reader(writer.take())
    this.back.push(() => {
      if (type === FRAME.taken) this.lanes.taken(this.receiver, reader.u48())
      else if (type === FRAME.resume) this.lanes.resume(this.receiver, reader.u48())
      else if (type === FRAME.settled) this.lanes.settled(this.receiver, reader)
    })
  }
}

type Step = (world: World) => void | Promise<void>
const step = (text: string, run: Step): Step => Object.assign(run, { toString: () => text })

const steps = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.constantFrom(1, 3, 20_000, 50_000).map((bytes) =>
      step(`send ${bytes}`, (world) => {
        const value = Buffer.alloc(bytes + 4)
        value.writeUInt32LE(sent(world))
        world.send(value)
        counts.set(world, sent(world) + 1)
      }),
    ),
  },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(0, 1, 60, 150)
      .map((ms) => step(`advance ${ms}`, (world) => world.clock.advance(ms))),
  },
  { weight: 4, arbitrary: fc.nat(4).map((n) => step(`read ${n}`, (world) => world.read(n))) },
  { weight: 3, arbitrary: fc.nat(4).map((n) => step(`control ${n}`, (world) => world.control(n))) },
  { weight: 1, arbitrary: fc.constant(step('ping', (world) => world.ping())) },
  {
    weight: 2,
    arbitrary: fc.array(fc.nat(), { minLength: 1, maxLength: 6 }).map((seeds) =>
      step(`reset ${seeds.join(' ')}`, (world) => {
        const kept = world.pipe.filter((_, i) => seeds[i % seeds.length]! % 3 !== 0)
        world.pipe = kept
          .map((frames, i) => ({ frames, at: i + (seeds[i % seeds.length]! % 4) }))
          .sort((a, b) => a.at - b.at)
          .map(({ frames }) => frames)
        world.on.up?.()
      }),
    ),
  },
)

const counts = new WeakMap<World, number>()
const sent = (world: World): number => counts.get(world) ?? 0
const indexes = (world: World): number[] => world.got.map((value) => (value as Buffer).readUInt32LE(0))

test('lanes and inbox - whatever is lost or reordered by resets, each message is taken once and in order (G4, G9)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 5, maxLength: 80 }), async (run) => {
      const world = new World()
      world.send(Buffer.alloc(4))
      counts.set(world, 1)
      for (const each of run) await each(world)
      for (let i = 0; i < 6; i++) {
        await world.clock.advance(1000)
        world.ping()
        await world.flow()
      }
      expect(indexes(world)).toEqual(Array.from({ length: sent(world) }, (_, i) => i))
      let drained = false
      void world.lanes.drain(10).then(() => {
        drained = true
      })
      await world.clock.advance(0)
      expect(drained).toBe(true)
      expect(world.faults).toEqual([])
    }),
    { numRuns: 150 },
  )
}, 60_000)

test('lanes - no more than a window is on its way; what is taken makes room for the rest (G6)', async () => {
  const world = new World()
  for (let i = 0; i < 10; i++) world.send(Buffer.alloc(MB))
  await world.clock.advance(1)
  expect(world.pipe).toHaveLength(3)
  await world.flow()
  expect(world.got).toHaveLength(10)
})

test('lanes - one batch larger than the window still leaves', async () => {
  const world = new World()
  world.send(Buffer.alloc(6 * MB))
  world.send('next')
  await world.flow()
  expect(world.got).toHaveLength(2)
})

test('lanes - what was taken while it waited to be sent again is not sent, and does not keep the window closed', async () => {
  const world = new World()
  for (let i = 0; i < 3; i++) world.send(Buffer.alloc(MB))
  await world.clock.advance(1)
  world.read()
  await world.clock.advance(1)
  let connect = (): void => {}
  world.connected = new Promise<void>((resolve) => {
    connect = resolve
  })
  world.send('waits for the connection')
  await world.clock.advance(1)
  world.on.up?.()
  world.control()
  connect()
  await world.clock.advance(1)
  expect(world.pipe).toHaveLength(2)
  await world.flow()
  expect(world.got).toHaveLength(4)
})

test('lanes - a lost tail is noticed by two pings that say the same (G5)', async () => {
  const world = new World()
  world.send(1)
  await world.flow()
  world.send(2)
  await world.clock.advance(1)
  world.pipe = []
  world.ping()
  await world.flow()
  expect(world.got).toEqual([1])
  world.ping()
  await world.flow()
  expect(world.got).toEqual([1, 2])
})

test('lanes - what a full queue refuses is counted, and the peer is told of it (G3, G5)', async () => {
  const world = new World(5 * MB)
  for (let i = 0; i < 12; i++) world.send(Buffer.alloc(MB))
  expect(world.lanes.dropped).toBe(8)
  expect(world.missed).toEqual(Array(8).fill(FRAME.missed))
  await world.flow()
  expect(world.got).toHaveLength(4)
})

const outcome = (handed: Promise<void>): { is: string } => {
  const seen = { is: '' }
  handed.then(
    () => {
      seen.is = 'handled'
    },
    (error: SkeinError) => {
      seen.is = error.code
    },
  )
  return seen
}

test('lanes - a hand-over ends when the peer has handled it, and a busy peer is offered it again', async () => {
  const world = new World()
  const seen = outcome(world.lanes.handOver(world.receiver, 'a', payloadOf('x'), 1, 5000))
  await world.flow()
  expect(world.lanes.awaits(world.receiver)).toBe(true)
  world.settles.shift()!(new SkeinError('BUSY', 'no room'))
  await world.flow()
  expect(seen.is).toBe('')
  await world.clock.advance(50)
  await world.flow()
  expect(world.got).toEqual(['x', 'x'])
  world.settles.shift()!()
  await world.flow()
  expect(seen.is).toBe('handled')
  await world.clock.advance(100)
  await world.flow()
  expect([world.lanes.unsettled, world.clock.pendingTimers]).toEqual([0, 0])
})

test('lanes - a hand-over that fails, times out, or whose peer is lost says so (G7)', async () => {
  const world = new World()
  const failing = outcome(world.lanes.handOver(world.receiver, 'a', payloadOf(1), 1, 5000))
  await world.flow()
  world.settles.shift()!(new SkeinError('HANDLER_FAILED', 'no'))
  await world.flow()
  const late = outcome(world.lanes.handOver(world.receiver, 'a', payloadOf(2), 1, 100))
  await world.clock.advance(100)
  const lost = outcome(world.lanes.handOver(world.receiver, 'a', payloadOf(3), 1, 5000))
  await world.clock.advance(1)
  world.lanes.down(world.receiver)
  await world.clock.advance(0)
  expect([failing.is, late.is, lost.is]).toEqual(['HANDLER_FAILED', 'WAIT_TIMEOUT', 'PEER_LOST'])
  expect(world.lanes.unsettled).toBe(0)
})

test('inbox - a batch whose token was not given to its sender is MALFORMED', async () => {
  const world = new World()
  world.receiver.token = 'f'.repeat(32)
  world.send(1)
  await world.clock.advance(1)
  expect(() => world.read()).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
  expect(world.got).toEqual([])
})

test('inbox - a sender that is ahead is told to resume once, not at each batch; after a loss it begins anew', async () => {
  const world = new World()
  for (let i = 0; i < 4; i++) {
    world.send(i)
    await world.clock.advance(1)
  }
  world.pipe.shift()
  world.read()
  expect(world.back).toHaveLength(1)
  await world.flow()
  expect(world.got).toEqual([0, 1, 2, 3])
  world.inbox.down(world.sender)
  expect(world.inbox.takenFrom(world.sender)).toBe(0)
})
