import { expect, test } from 'vitest'
import { BATCH_BYTES } from '../../src/protocol/bytes.ts'
import { Lane, type LaneOptions } from '../../src/transport/lane.ts'
import { readControlBatch } from '../../src/transport/link.ts'
import { FakeClock } from '../support/fake-clock.ts'

interface Sent {
  readonly hello: number
  readonly frames: string[]
  readonly bytes: number
}

interface Bench {
  readonly lane: Lane
  readonly clock: FakeClock
  readonly sent: Sent[]
}

const read = (batch: Buffer): Sent => {
  let hello = -1
  const frames: string[] = []
  readControlBatch(
    batch,
    (number) => {
      hello = number
      return true
    },
    (type, reader) => frames.push(`${type}:${reader.text(Math.min(10, reader.left))}`),
  )
  return { hello, frames, bytes: batch.length }
}

const bench = (options: Partial<LaneOptions> = {}): Bench => {
  const clock = new FakeClock()
  const sent: Sent[] = []
  const lane = new Lane({
    send: async (batch) => void sent.push(read(batch)),
    turn: clock.turn,
    limitBytes: 1024 * 1024,
    ...options,
  })
  return { lane, clock, sent }
}

const add = (lane: Lane, text: string, urgent = false, type = 16): void => {
  const writer = lane.begin(type, urgent)
  writer.bytes(Buffer.from(text))
  lane.end(writer)
}

const frames = (sent: readonly Sent[]): string[][] => sent.map((batch) => batch.frames)

test('lane - the first frame leaves in a microtask, the rest of the turn together at its end', async () => {
  const { lane, clock, sent } = bench()
  add(lane, 'a')
  expect(sent).toEqual([])
  await clock.microtasks()
  add(lane, 'b')
  add(lane, 'c')
  await clock.microtasks()
  expect(frames(sent)).toEqual([['16:a']])
  await clock.endTurn()
  expect(frames(sent)).toEqual([['16:a'], ['16:b', '16:c']])
})

test('lane - a full batch leaves before the turn ends, and what follows keeps its order', async () => {
  const { lane, clock, sent } = bench()
  add(lane, 'first')
  await clock.microtasks()
  const text = 'x'.repeat(1000)
  for (let i = 0; i < 66; i++) add(lane, text)
  add(lane, 'last')
  await clock.microtasks()
  expect(sent).toHaveLength(2)
  expect(sent[1]!.bytes).toBeGreaterThanOrEqual(BATCH_BYTES)
  await clock.endTurn()
  expect(sent).toHaveLength(3)
  expect(sent[2]!.frames.at(-1)).toBe('16:last')
})

test('lane - urgent frames leave before requests that came first', async () => {
  const { lane, clock, sent } = bench()
  add(lane, 'request')
  add(lane, 'ping', true, 5)
  await clock.advance(1)
  expect(frames(sent)).toEqual([['5:ping'], ['16:request']])
})

test('lane - urgent frames overtake full batches that wait for a busy network', async () => {
  let open = (): void => {}
  const sent: Sent[] = []
  const { lane, clock } = bench({
    send: (batch) => {
      sent.push(read(batch))
      return new Promise<void>((resolve) => {
        open = resolve
      })
    },
  })
  for (let i = 0; i < 3; i++) add(lane, `${i}`.repeat(BATCH_BYTES))
  add(lane, 'ping', true, 5)
  await clock.microtasks()
  for (let i = 0; i < 4; i++) {
    open()
    await clock.microtasks()
  }
  expect(sent.map((batch) => batch.frames[0]!.slice(0, 6))).toEqual(['16:000', '5:ping', '16:111', '16:222'])
})

test('lane - the number of the hello is stamped when a batch leaves, not when it was begun', async () => {
  const { lane, clock, sent } = bench()
  lane.helloNumber = 1
  add(lane, 'a')
  lane.helloNumber = 2
  await clock.microtasks()
  expect(sent[0]!.hello).toBe(2)
})

test('lane - hasRoom counts what waits, in batches and in the open one, and not what is urgent (G6)', async () => {
  const { lane, clock } = bench({ send: () => new Promise(() => {}), limitBytes: 200_000 })
  expect(lane.hasRoom(200_000)).toBe(true)
  expect(lane.hasRoom(200_001)).toBe(false)
  add(lane, 'taken')
  await clock.microtasks()
  for (let i = 0; i < 2; i++) add(lane, 'x'.repeat(BATCH_BYTES))
  add(lane, 'x'.repeat(1000))
  add(lane, 'x'.repeat(200_000), true, 5)
  expect(lane.hasRoom(200_000 - 2 * BATCH_BYTES - 1100)).toBe(true)
  expect(lane.hasRoom(200_000 - 2 * BATCH_BYTES - 1000)).toBe(false)
})

test('lane - drained resolves once the network took everything, at once where nothing waits', async () => {
  let open = (): void => {}
  const { lane, clock } = bench({
    send: () =>
      new Promise<void>((resolve) => {
        open = resolve
      }),
  })
  await lane.drained()
  add(lane, 'a')
  add(lane, 'b', true)
  let drained = false
  void lane.drained().then(() => {
    drained = true
  })
  await clock.microtasks()
  expect(drained).toBe(false)
  open()
  await clock.microtasks()
  expect(drained).toBe(false)
  open()
  await clock.microtasks()
  expect(drained).toBe(true)
})

test('lane - when sending fails it closes, wakes whoever drains, and throws nothing (G7)', async () => {
  let tried = 0
  const { lane, clock } = bench({
    send: async () => {
      tried++
      throw new Error('gone')
    },
  })
  add(lane, 'a')
  await lane.drained()
  expect(lane.hasRoom(1)).toBe(false)
  add(lane, 'b', true)
  await clock.advance(1)
  expect(tried).toBe(1)
})

test('lane - a closed one keeps nothing of what is still added to it (G6)', async () => {
  const { lane, clock, sent } = bench()
  lane.close()
  for (let i = 0; i < 100; i++) add(lane, 'x'.repeat(1000), true)
  await clock.advance(1)
  expect(sent).toEqual([])
  const writer = lane.begin(5, true)
  expect(writer.length).toBeLessThan(100)
  await lane.drained()
})
