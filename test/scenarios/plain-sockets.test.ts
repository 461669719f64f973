// What a program without skein can do, and what it cannot break: bare ZeroMQ sockets against a living node.

import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Context, Dealer, Push, Request, type Socket, Subscriber } from 'zeromq'
import type { Node } from '../../src/index.ts'
import { Writer } from '../../src/protocol/bytes.ts'
import { beginDeliveryBatch, sealDeliveryBatch } from '../../src/protocol/delivery-batch.ts'
import { closeLater, collect, eventually, meshName, start, warningsOf } from '../support/mesh.ts'
import { threeFreePorts } from '../support/ports.ts'

const context = new Context({ blocky: false })

const make = <S extends Socket>(Type: new (options: { context: Context }) => S, port: number): S => {
  const socket = new Type({ context })
  socket.linger = 0
  ;(socket as Socket & { connect(endpoint: string): void }).connect(`tcp://127.0.0.1:${port}`)
  closeLater({ close: async () => socket.close() })
  return socket
}

/** A node whose ports are known, and a peer that shows whether it is well. */
const target = async (): Promise<{ node: Node; peer: Node; port: number }> => {
  const port = await threeFreePorts(['127.0.0.1'])
  const mesh = meshName()
  const node = await start({ mesh, port, name: 'target' })
  const peer = await start({ mesh })
  await Promise.all([peer.waitForPeers(1), node.waitForPeers(1)])
  await node.respond('echo', async (query) => query).ready
  return { node, peer, port }
}

const assertWell = async (node: Node, peer: Node): Promise<void> => {
  expect(await peer.request('echo', 'well')).toBe('well')
  const there = await collect(node, 'well')
  const back = await collect(peer, 'well')
  await peer.publish('well', 1)
  await node.publish('well', 2)
  await eventually(() => there.values.length === 2 && back.values.length === 2)
  await peer.publish('well', Buffer.alloc(300 * 1024))
  await eventually(() => there.values.length === 3)
  expect(peer.peers.map(({ id, state }) => [id, state])).toEqual([[node.id, 'up']])
}

const ask = async (socket: Request, ...frames: (string | Buffer)[]): Promise<[string, string]> => {
  await socket.send(frames)
  const reply = await socket.receive()
  expect(reply).toHaveLength(2)
  return [reply[0]!.toString(), reply[1]!.toString()]
}

test('plain REQ - asks with a name and JSON, text or bytes, and gets OK and the reply', async () => {
  const { node, port } = await target()
  node.respond('kind', (query) => (Buffer.isBuffer(query) ? `bytes ${query.length}` : typeof query))
  node.respond('bytes', () => Buffer.from('raw'))
  node.respond('nothing', () => {})
  const socket = make(Request, port)
  expect(await ask(socket, 'echo', '{"sku":"a1"}')).toEqual(['OK', '{"sku":"a1"}'])
  expect(await ask(socket, 'echo', 'not json')).toEqual(['OK', 'not json'])
  expect(await ask(socket, 'kind', '5')).toEqual(['OK', 'number'])
  expect(await ask(socket, 'kind', Buffer.from([0xff, 0xfe]))).toEqual(['OK', 'bytes 2'])
  expect(await ask(socket, 'bytes', '')).toEqual(['OK', 'raw'])
  expect((await ask(socket, 'nothing', ''))[0]).toBe('OK')
})

test('plain REQ - an error comes as its code and text', async () => {
  const { node, port } = await target()
  node.respond('fail', async () => {
    throw Object.assign(new Error('no such sku'), { code: 'NO_SKU' })
  })
  const socket = make(Request, port)
  expect(await ask(socket, 'fail', '')).toEqual(['NO_SKU', 'no such sku'])
  expect((await ask(socket, 'nobody', ''))[0]).toBe('NO_RESPONDER')
})

test('plain REQ - a malformed question, and a reply that JSON cannot carry, are still answered once', async () => {
  const { node, peer, port } = await target()
  node.respond('big', async () => 2n ** 60n)
  node.respond('pretends', async () => {
    throw Object.assign(new Error('not well'), { code: 'OK' })
  })
  const socket = make(Request, port)
  const questions: [Buffer | string, ...(Buffer | string)[]][] = [
    ['echo'],
    ['echo', 'a', 'b'],
    ['', ''],
    ['bad name', ''],
    ['echo.*', ''],
    [Buffer.from([0xff]), 'x'],
    ['echo', `${'['.repeat(5000)}${']'.repeat(5000)}`],
    ['echo', '"\\ud800"'],
    ['echo', '{"__proto__":{"a":1}}'],
    ['big', ''],
    ['pretends', ''],
  ]
  for (const question of questions) {
    const [status, text] = await ask(socket, ...question)
    expect([status, text], question.join(' ').slice(0, 60)).not.toContain('')
    if (question[1] !== '{"__proto__":{"a":1}}') expect(status).not.toBe('OK')
  }
  expect(await ask(socket, 'echo', '1')).toEqual(['OK', '1'])
  await assertWell(node, peer)
})

test('plain SUB - follows topics and reads the documented header', async () => {
  const { node, port } = await target()
  const socket = make(Subscriber, port + 1)
  socket.subscribe('sensors.')
  const frames: Buffer[][] = []
  void (async () => {
    for await (const message of socket) frames.push(message)
  })().catch(() => {})
  let tries = 0
  await eventually(async () => {
    await node.publish('sensors.kitchen', 'warming up')
    tries++
    return frames.length > 0
  })
  frames.length = 0
  const own = await collect(node, 'sensors.kitchen')
  for (let i = 0; i < 10; i++) void node.publish('sensors.kitchen', `reading ${i}`)
  await node.publish('sensors.cellar', Buffer.from([1, 2, 3]), { headers: { unit: 'c' } })
  await eventually(
    () => own.values.length === 10 && frames.some(([topic]) => String(topic).includes('cellar')),
  )
  const texts: string[] = []
  let next = 0
  for (const [topic, batch] of frames) {
    if (topic!.toString() !== 'sensors.kitchen\0') continue
    const b = batch!
    expect([b[0], b[1], b[2], b[3]]).toEqual([0x53, 0x4b, 1, 2])
    expect(b.toString('hex', 4, 20)).toBe(node.boot)
    const first = b.readUIntLE(30, 6)
    const count = b.readUInt32LE(36)
    if (next > 0 && count > 0) expect(first).toBe(next)
    next = count > 0 ? first + count : next
    let at = 40
    for (let left = count; left > 0; left--) {
      expect(b[at]).toBe(3)
      const length = b.readUInt32LE(at + 1)
      texts.push(b.toString('utf8', at + 5, at + 5 + length))
      at += 5 + length
    }
    expect(at).toBe(b.length)
  }
  expect(texts.filter((text) => text !== 'warming up')).toEqual(
    Array.from({ length: 10 }, (_, i) => `reading ${i}`),
  )
  expect(tries).toBeGreaterThan(0)
})

/** A foreign, cut or mutated batch of each road. */
const batches = (node: Node): fc.Arbitrary<Uint8Array> => {
  const control = Buffer.from([0x53, 0x4b, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 5, 0x85, 0xa4, 0x6d, 0x65, 0x73])
  const writer = new Writer()
  beginDeliveryBatch(writer, 'ab'.repeat(16), node.boot, 1, 0)
  const delivery = Buffer.from(writer.take())
  sealDeliveryBatch(delivery, 3)
  const valid = fc.constantFrom<Buffer>(control, delivery)
  const flipped = fc.tuple(valid, fc.nat(), fc.integer({ min: 1, max: 255 })).map(([batch, at, by]) => {
    const copy = Buffer.from(batch)
    copy[at % copy.length]! ^= by
    return copy
  })
  const cut = fc.tuple(valid, fc.nat()).map(([batch, at]) => batch.subarray(0, at % batch.length))
  const prefixed = fc
    .tuple(fc.constantFrom(1, 2, 3, 4), fc.uint8Array({ maxLength: 200 }))
    .map(([kind, rest]) => Buffer.concat([Buffer.from([0x53, 0x4b, 1, kind]), rest]))
  return fc.oneof(fc.uint8Array({ maxLength: 300 }), flipped, cut, prefixed)
}

test('garbage - on the control and delivery roads is counted, warned of once, and breaks nothing (G3)', async () => {
  const { node, peer, port } = await target()
  const dealer = make(Dealer, port)
  const push = make(Push, port + 2)
  let sent = 0
  await fc.assert(
    fc.asyncProperty(fc.array(batches(node), { minLength: 1, maxLength: 4 }), async (frames) => {
      sent++
      await dealer.send(frames.map((frame) => Buffer.from(frame)))
      await push.send(frames.map((frame) => Buffer.from(frame)))
    }),
    { numRuns: 100 },
  )
  // A last one of each that is certainly refused, behind all others.
  const before = node.stats().malformed
  await dealer.send([Buffer.from('garbage'), Buffer.from('garbage')])
  await push.send([Buffer.from('garbage')])
  await eventually(() => node.stats().malformed >= Math.max(before, sent))
  expect(warningsOf(node).length).toBeGreaterThan(0)
  expect(warningsOf(node).length).toBeLessThan(20)
  for (const { code } of warningsOf(node)) expect(['MALFORMED', 'VERSION_MISMATCH']).toContain(code)
  await assertWell(node, peer)
})

test('garbage - one foreign frame is one count and one warning that says what was wrong', async () => {
  const { node, peer, port } = await target()
  const push = make(Push, port + 2)
  await push.send(Buffer.from('GET / HTTP/1.1'))
  await eventually(() => node.stats().malformed === 1)
  expect(warningsOf(node)).toEqual([
    { code: 'MALFORMED', text: expect.stringMatching(/something else dials/) },
  ])
  await assertWell(node, peer)
})

test('garbage - a foreign version is refused with its number, and the sender is told', async () => {
  const { node, peer, port } = await target()
  const dealer = make(Dealer, port)
  await dealer.send(Buffer.from([0x53, 0x4b, 9, 1, 0, 0, 0, 1]))
  const [answer] = await dealer.receive()
  expect(answer!.toString('latin1')).toMatch(/VERSION_MISMATCH.*version 9/s)
  await eventually(() => warningsOf(node).some(({ text }) => text.includes('version 9')))
  await assertWell(node, peer)
})

test('garbage - as subscriptions to the feed changes nothing for others', async () => {
  const { node, peer, port } = await target()
  const socket = make(Subscriber, port + 1)
  const prefixes = fc.sample(fc.uint8Array({ maxLength: 60 }), { numRuns: 100, seed: 1 })
  // What begins as a barrier, but is none.
  for (const length of [0, 1, 16, 23, 24, 25, 40])
    prefixes.push(Uint8Array.of(1, ...Buffer.alloc(length, 0xee)))
  for (const prefix of prefixes) socket.subscribe(Buffer.from(prefix))
  for (const prefix of prefixes.slice(0, 50)) socket.unsubscribe(Buffer.from(prefix))
  await turn()
  await assertWell(node, peer)
  expect(node.peers.map(({ id }) => id)).toEqual([peer.id])
})
