import { expect, test } from 'vitest'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { FRAME, type Hello, readHello } from '../../src/protocol/control-frames.ts'
import { KIND, writePrefix } from '../../src/protocol/header.ts'
import { Link, Route, readControlBatch } from '../../src/transport/link.ts'
import type { Dial, DialEvents, Sent, Transport } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'

const helloOf = (number: number): Hello => ({
  mesh: 'default',
  id: 'a'.repeat(32),
  boot: 'b'.repeat(32),
  name: 'one',
  number,
  address: null,
  interest: { revision: 0, patterns: [], responders: [], services: [] },
  token: '',
  taken: 0,
  known: 0,
  unreachable: '',
})

const refuse = (): never => {
  throw new Error('not part of this test')
}

const transportOf = (parts: Partial<Transport>): Transport => ({
  addresses: refuse,
  resolve: refuse,
  listen: refuse,
  answer: refuse,
  publish: refuse,
  answerPlain: refuse,
  dialControl: refuse,
  dialDelivery: refuse,
  dialFeed: refuse,
  close: refuse,
  ...parts,
})

interface Sending {
  readonly number: number
  readonly types: number[]
  readonly hello: Hello | undefined
}

const read = (batch: Buffer): Sending => {
  let number = -1
  let hello: Hello | undefined
  const types: number[] = []
  readControlBatch(
    batch,
    (of) => {
      number = of
      return true
    },
    (type, reader) => {
      types.push(type)
      if (type === FRAME.hello) hello = readHello(reader.bytes(reader.left))
    },
  )
  return { number, types, hello }
}

const batchOf = (number: number, ...types: number[]): Buffer => {
  const writer = new Writer()
  writePrefix(writer, KIND.control)
  writer.u32(number)
  for (const type of types) {
    writer.u8(type)
    writer.u32(0)
  }
  return writer.take()
}

interface Bench {
  readonly link: Link
  readonly clock: FakeClock
  readonly sent: Sending[]
  readonly frames: number[]
  readonly told: string[]
  readonly on: DialEvents
  /** A frame of this type ends the link. */
  closesAt(type: number): void
}

const bench = (): Bench => {
  const clock = new FakeClock()
  const sent: Sending[] = []
  const frames: number[] = []
  const told: string[] = []
  let on: DialEvents | undefined
  let closing = -1
  const dial: Dial = {
    send: async ([batch]) => void sent.push(read(batch!)),
    close: () => void told.push('closed'),
  }
  const link = new Link({
    transport: transportOf({
      dialControl: (_, events) => {
        on = events
        return dial
      },
    }),
    clock,
    endpoint: 'tcp://127.0.0.1:1',
    queueBytes: 1000,
    hello: helloOf,
    frame: (from, type) => {
      frames.push(type)
      if (type === closing) from.close()
    },
    broken: () => told.push('broken'),
    refused: () => told.push('refused'),
    fault: refuse,
  })
  link.open()
  const closesAt = (type: number): void => {
    closing = type
  }
  return { link, clock, sent, frames, told, on: on!, closesAt }
}

test('link - each connection begins with a hello under a new number, and is open once that very hello is welcomed', async () => {
  const { link, clock, sent, told, on } = bench()
  on.up!()
  await clock.microtasks()
  expect(sent.map(({ number, hello }) => [number, hello?.number])).toEqual([[1, 1]])
  expect(link.isOpen).toBe(false)
  expect(link.welcomed(1)).toBe(true)
  expect(link.isOpen).toBe(true)
  on.down!()
  expect(link.isOpen).toBe(false)
  on.up!()
  expect(link.welcomed(1)).toBe(false)
  expect(link.isOpen).toBe(false)
  expect(link.welcomed(2)).toBe(true)
  expect(told).toEqual(['broken'])
})

test('link - a hello that nobody welcomes is said again, a welcomed one is not', async () => {
  const { link, clock, sent, on } = bench()
  on.up!()
  // After 0.5 s, then after twice as long each time.
  await clock.advance(1600)
  expect(sent.map(({ hello }) => hello?.number)).toEqual([1, 2, 3])
  link.welcomed(3)
  await clock.advance(5000)
  expect(sent).toHaveLength(3)
})

test('link - to be asked who this is a thousand times costs one hello, and none while one is on its way', async () => {
  const { link, clock, sent, on } = bench()
  on.up!()
  for (let time = 0; time < 1000; time++) link.asked()
  expect(link.welcomed(1)).toBe(true)
  for (let time = 0; time < 1000; time++) link.asked()
  await clock.microtasks()
  expect(sent.flatMap(({ types }) => types)).toEqual([FRAME.hello, FRAME.hello])
  expect(link.isOpen).toBe(false)
  expect(link.welcomed(2)).toBe(true)
})

test('link - a connection that is down says nothing again; what waited follows the hello of the next one', async () => {
  const { link, clock, sent, on } = bench()
  on.up!()
  on.down!()
  await clock.advance(5000)
  const before = sent.length
  link.send(FRAME.ping)
  on.up!()
  await clock.advance(1)
  expect(sent.slice(before).map(({ number }) => number)).toEqual(sent.slice(before).map(() => 2))
})

test('link - answers that follow an older hello are dropped, those outside any hello are taken', () => {
  const { frames, on } = bench()
  on.up!()
  on.up!()
  on.frames!([batchOf(1, FRAME.pong)])
  on.frames!([batchOf(3, FRAME.pong)])
  expect(frames).toEqual([])
  on.frames!([batchOf(2, FRAME.pong, FRAME.taken)])
  on.frames!([batchOf(0, FRAME.who)])
  expect(frames).toEqual([FRAME.pong, FRAME.taken, FRAME.who])
})

test('link - an answer of several frames is MALFORMED', () => {
  const { on } = bench()
  expect(() => on.frames!([batchOf(0), batchOf(0)])).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
})

test('link - a closed one takes, says and welcomes nothing more', async () => {
  const { link, clock, sent, frames, told, on } = bench()
  on.up!()
  await clock.microtasks()
  link.close()
  on.frames!([batchOf(1, FRAME.pong)])
  expect(link.welcomed(1)).toBe(false)
  link.greet()
  await clock.advance(2000)
  expect(sent).toHaveLength(1)
  expect(frames).toEqual([])
  expect(told).toEqual(['closed'])
  expect(clock.pendingTimers).toBe(0)
})

test('link - what follows in the batch that closed it is left unread: a thousand refusals are one', () => {
  const { link, frames, on, closesAt } = bench()
  closesAt(FRAME.refuse)
  on.up!()
  on.frames!([batchOf(0, FRAME.who, ...Array.from({ length: 1000 }, () => FRAME.refuse))])
  expect(frames).toEqual([FRAME.who, FRAME.refuse])
  expect(link.isOpen).toBe(false)
})

test('link - a control batch reads each frame within its own bounds', () => {
  const writer = new Writer()
  writePrefix(writer, KIND.control)
  writer.u32(4)
  writer.u8(FRAME.ping)
  writer.u32(1)
  writer.u8(7)
  writer.u8(FRAME.pong)
  writer.u32(0)
  const seen: [number, number][] = []
  readControlBatch(
    writer.take(),
    (number) => number === 4,
    (type, reader) => seen.push([type, reader.left]),
  )
  expect(seen).toEqual([
    [FRAME.ping, 1],
    [FRAME.pong, 0],
  ])
  expect(() => new Reader(Buffer.of(1)).u16()).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
})

test('route - a full connection is tried again and only its own lane waits, a gone one closes it (G3)', async () => {
  const clock = new FakeClock()
  const answers: Sent[] = ['full', 'full', 'sent']
  const tried: number[] = []
  const transport = transportOf({
    answer: async (_, batch) => {
      tried.push(read(batch).number)
      return answers.shift() ?? 'gone'
    },
  })
  const route = new Route('key', 7, transport, clock, 1000)
  route.send(FRAME.pong)
  await clock.advance(10)
  expect(tried).toEqual([7, 7, 7])
  route.send(FRAME.pong)
  await clock.advance(10)
  expect(route.lane.hasRoom(1)).toBe(false)
})
