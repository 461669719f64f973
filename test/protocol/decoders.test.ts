import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Inbox } from '../../src/delivery/inbox.ts'
import { Message } from '../../src/delivery/message.ts'
import { isSkeinError } from '../../src/errors.ts'
import { Peer } from '../../src/peers/peer.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import {
  FRAME,
  readHello,
  readInterest,
  readTails,
  readWindows,
  type Service,
  writeHello,
  writeInterest,
  writeTails,
  writeWindows,
} from '../../src/protocol/control-frames.ts'
import {
  beginDeliveryBatch,
  type HandOver,
  sealDeliveryBatch,
  writeHandOver,
} from '../../src/protocol/delivery-batch.ts'
import {
  barrierKey,
  beginFeedBatch,
  FEED_HEADER_BYTES,
  readBarrierKey,
  sealFeedBatch,
  writeTopicLast,
} from '../../src/protocol/feed-batch.ts'
import { FilterSet } from '../../src/protocol/filters.ts'
import { Frame } from '../../src/protocol/frame.ts'
import { readGossip, writeGossip } from '../../src/protocol/gossip-frame.ts'
import { KIND, writePrefix } from '../../src/protocol/header.ts'
import { encodePayload } from '../../src/protocol/payload.ts'
import { decodeHeaders, readRecord, writeRecord } from '../../src/protocol/record.ts'
import { readSettlement, writeSettlement } from '../../src/protocol/settlement.ts'
import { topicFrame } from '../../src/protocol/topics.ts'
import { Follow } from '../../src/transport/follow.ts'
import { readControlBatch } from '../../src/transport/link.ts'
import type { DialEvents } from '../../src/transport/transport.ts'
import { FakeClock } from '../support/fake-clock.ts'

const ID = 'a'.repeat(32)
const BOOT = 'b'.repeat(32)
const RUNS = 500

const payload = encodePayload({ n: 1, text: 'x' }, { trace: 'abc', other: '' }, false, 1000, () => '')

/** Bytes that nobody sent, and bytes that somebody did, with some of them changed, cut off or added. */
const bytesLike = (valid: Buffer): fc.Arbitrary<Buffer> =>
  fc.oneof(
    fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
    fc
      .record({
        changes: fc.array(
          fc.tuple(fc.nat(Math.max(0, valid.length - 1)), fc.oneof(fc.nat(255), fc.constant(255))),
          {
            maxLength: 6,
          },
        ),
        cut: fc.oneof(fc.constant(valid.length), fc.nat(valid.length)),
        tail: fc.uint8Array({ maxLength: 8 }),
      })
      .map(({ changes, cut, tail }) => {
        const bytes = Buffer.from(valid)
        for (const [at, value] of changes) bytes[at] = value
        return Buffer.concat([bytes.subarray(0, cut), tail])
      }),
  )

/** Runs a decoder; only the refusals that a decoder may raise are let pass. */
const decode = (run: () => void): void => {
  try {
    run()
  } catch (error) {
    if (!isSkeinError(error, 'MALFORMED') && !isSkeinError(error, 'VERSION_MISMATCH')) throw error
  }
}

const written = (write: (writer: Writer) => void): Buffer => {
  const writer = new Writer()
  write(writer)
  return writer.take()
}

const SERVICE: Service = {
  ...{ kind: 'group', name: 'billing', patterns: ['a.*'], messages: 3, bytes: 4, leaseMs: 5 },
}

const hello = written((writer) =>
  writeHello(writer, {
    mesh: 'default',
    id: ID,
    boot: BOOT,
    name: 'one',
    number: 3,
    address: { hosts: ['127.0.0.1', 'db.local'], control: 1, feed: 2, delivery: 3 },
    interest: { revision: 4, patterns: ['a.*', 'b.>'], responders: ['r'], services: [SERVICE] },
    token: BOOT,
    taken: 5,
    known: 6,
    unreachable: '',
  }),
)
const interest = written((writer) =>
  writeInterest(writer, { revision: 4, patterns: ['a.*', 'b.>'], responders: ['r.s'], services: [SERVICE] }),
)
const tails = written((writer) =>
  writeTails(writer, [
    { topic: 'a', generation: 1, last: 2 },
    { topic: 'ü.b', generation: 3, last: 4 },
  ]),
)
const windows = written((writer) =>
  writeWindows(writer, [SERVICE, { ...SERVICE, name: 'mail', kind: 'queue' }]),
)
const settlement = written((writer) =>
  writeSettlement(writer, {
    ...{ kind: 'handled-before', boot: BOOT, sequence: 7, addressee: { kind: 'queue', name: 'mail' } },
  }),
)
const gossip = written((writer) =>
  writeGossip(writer, {
    kind: 'tell',
    members: [{ id: ID, boot: BOOT, name: 'one', endpoints: ['tcp://127.0.0.1:1', 'tcp://db.local:2'] }],
    done: true,
  }),
)
const record = written((writer) => writeRecord(writer, payload, true))
const control = written((writer) => {
  writePrefix(writer, KIND.control)
  writer.u32(1)
  for (const body of [hello, interest, tails]) {
    writer.u8(FRAME.hello)
    writer.u32(body.length)
    writer.bytes(body)
  }
})

const feedBatch = (count: number, first = 1, claimed = count): Buffer => {
  const batch = written((writer) => {
    beginFeedBatch(writer, Buffer.from(BOOT, 'hex'))
    for (let i = 0; i < count; i++) writeRecord(writer, payload)
  })
  sealFeedBatch(batch, 1, 1, first, claimed)
  return batch
}

const answer = (topics: number, claimed = topics): Buffer => {
  const batch = written((writer) => {
    beginFeedBatch(writer, Buffer.from(BOOT, 'hex'), KIND.barrier)
    for (let i = 0; i < topics; i++) writeTopicLast(writer, topicFrame(`t.${i}`), i, i)
  })
  sealFeedBatch(batch, 9, 1, 1, claimed)
  return batch
}

/** Of every kind: owed in this boot, in an older one, with a key, and to nobody. */
const handOver = (number: number): HandOver => ({
  number,
  kind: (['node', 'group', 'queue'] as const)[number % 3]!,
  group: number % 3 === 1 ? 'billing' : '',
  topic: 'a.b',
  key: number % 2 === 0 ? 'k' : undefined,
  boot: number % 4 === 1 ? ID : BOOT,
  sequence: number,
  isOwed: number % 4 !== 0,
  attempt: number % 4 === 0 ? 1 : number,
  redelivered: number % 2 === 1,
  isLast: number % 3 === 2,
})

const deliveryBatch = (token: string, count: number, claimed = count): Buffer => {
  const batch = written((writer) => {
    beginDeliveryBatch(writer, token, BOOT, 1, 0)
    for (let i = 0; i < count; i++) {
      writeHandOver(writer, i, handOver(i), BOOT)
      writeRecord(writer, payload, true)
    }
  })
  sealDeliveryBatch(batch, claimed)
  return batch
}

const readMessage = (topic: string, received: ReturnType<typeof readRecord>): void => {
  const message = new Message(topic, { id: ID, boot: BOOT }, 0, 0, received)
  decode(() => void message.value)
  decode(() => void message.headers)
}

/** How often the innermost steps ran: work is bounded by the bytes that came, not by the counts they claim. */
interface Work {
  steps: number
}

const followTaking = (work: Work): { take: (frames: Buffer[]) => void; barrier: () => Buffer } => {
  let events: DialEvents | undefined
  let barrier: Buffer = Buffer.alloc(0)
  const follow = new Follow({
    ownId: ID,
    boot: BOOT,
    endpoint: 'memory',
    clock: new FakeClock(),
    maxTopics: 100,
    isPressed: () => false,
    dial: (_, on) => {
      events = on
      return {
        subscribe: (prefix) => {
          if (prefix[0] === 1) barrier = prefix
        },
        unsubscribe: () => {},
        close: () => {},
      }
    },
    deliver: (topic, received) => {
      work.steps++
      readMessage(topic, received)
    },
    gap: () => work.steps++,
    report: () => {},
    confirmed: () => {},
    wants: () => true,
    stranger: () => {},
    fault: () => {},
  })
  follow.open()
  follow.listen(FilterSet.of(['>']), 1)
  events!.up!()
  return { take: (frames) => events!.frames!(frames), barrier: () => barrier }
}

const inboxTaking = (work: Work): { take: (frames: Buffer[]) => void; token: string } => {
  const peer = new Peer(ID, BOOT, 'one')
  const inbox = new Inbox({
    selfId: 'self',
    died: () => {},
    clock: new FakeClock(),
    peerOf: (token) => (token === peer.tokenGiven ? peer : undefined),
    heard: () => {},
    deliver: (_addressee, message, received) => {
      work.steps++
      readMessage(message.topic, received)
    },
  })
  return { take: (frames) => inbox.take(frames), token: peer.tokenGiven }
}

test.each<[string, Buffer, (bytes: Buffer) => void]>([
  ['a hello', hello, readHello],
  ['an interest', interest, readInterest],
  ['windows', windows, (bytes) => readWindows(new Reader(bytes), [SERVICE])],
  ['a settlement', settlement, (bytes) => readSettlement(new Reader(bytes))],
  ['gossip', gossip, (bytes) => readGossip(new Reader(bytes))],
  ['tails', tails, (bytes) => readTails(new Reader(bytes))],
  ['headers', payload.headers!, decodeHeaders],
  ['a record', record, (bytes) => readMessage('a', readRecord(new Reader(bytes), new Frame(bytes)))],
  ['a barrier key', barrierKey(Buffer.from(ID, 'hex'), 1, 2), readBarrierKey],
  [
    'a control batch',
    control,
    (bytes) =>
      readControlBatch(
        bytes,
        () => true,
        (_, reader) => {
          const body = reader.bytes(reader.left)
          for (const read of [readHello, readInterest]) decode(() => read(body))
          decode(() => readTails(new Reader(body)))
        },
      ),
  ],
])('decoders - whatever bytes come as %s, they are read or refused as MALFORMED (G8)', (_, valid, read) => {
  read(valid)
  fc.assert(
    fc.property(bytesLike(valid), (bytes) => decode(() => read(bytes))),
    { numRuns: RUNS },
  )
})

test('decoders - what msgpack can hold but no hello or interest may is MALFORMED, too (G8)', () => {
  const wrong = fc.oneof(
    fc.anything({ withNullPrototype: false }),
    fc.string(),
    fc.constant(['a b']),
    fc.constant(['']),
  )
  fc.assert(
    fc.property(wrong, wrong, wrong, (revision, patterns, responders) => {
      const fields = { revision, patterns, responders }
      let bytes: Uint8Array
      try {
        bytes = encodePayload({ ...fields, interest: fields }, undefined, false, 1e6, () => '')
          .body as Uint8Array
      } catch {
        return
      }
      decode(() => readInterest(Buffer.from(bytes)))
    }),
    { numRuns: RUNS },
  )
  for (const patterns of [['a b'], ['a.>.b'], [7]]) {
    const bytes = encodePayload({ revision: 1, patterns, responders: [] }, undefined, false, 1e6, () => '')
    expect(() => readInterest(Buffer.from(bytes.body as Uint8Array))).toThrow(
      expect.objectContaining({ code: 'MALFORMED' }),
    )
  }
})

test('decoders - whatever frames come on the feed, they are read, ignored or MALFORMED, in bounded work (G8)', () => {
  const work = { steps: 0 }
  const topic = fc.oneof(
    fc.constant(topicFrame('a.b')),
    fc.uint8Array({ maxLength: 20 }).map((b) => Buffer.from(b)),
  )
  const follow = followTaking(work)
  const first = fc.oneof(topic, fc.constant(undefined))
  fc.assert(
    fc.property(
      first,
      fc.oneof(bytesLike(feedBatch(3)), bytesLike(answer(3))),
      fc.nat(3),
      (frame, batch, extra) => {
        work.steps = 0
        const frames = [
          frame ?? follow.barrier(),
          batch,
          ...Array<Buffer>(extra === 3 ? 2 : extra === 2 ? 1 : 0).fill(Buffer.of(1)),
        ]
        decode(() => follow.take(frames))
        decode(() => follow.take(frames.slice(0, extra)))
        expect(work.steps).toBeLessThanOrEqual(2 * batch.length + 4)
      },
    ),
    { numRuns: RUNS },
  )
})

test('decoders - whatever frames come on the delivery road, they are read, ignored or MALFORMED, in bounded work (G8)', () => {
  const work = { steps: 0 }
  const { token } = inboxTaking(work)
  fc.assert(
    fc.property(bytesLike(deliveryBatch(token, 3)), fc.nat(2), (batch, extra) => {
      work.steps = 0
      const inbox = inboxTaking(work)
      Buffer.from(inbox.token, 'hex').copy(batch, 4, 0, Math.max(0, Math.min(16, batch.length - 4)))
      decode(() => inbox.take([batch, ...Array<Buffer>(extra).fill(Buffer.of(1, 2))]))
      expect(work.steps).toBeLessThanOrEqual(batch.length)
    }),
    { numRuns: RUNS },
  )
})

test('decoders - a count that its bytes cannot hold ends with the bytes, after no more work than they are worth (G6)', () => {
  const most = 0xffff_ffff
  const work = { steps: 0 }
  const follow = followTaking(work)
  const inbox = inboxTaking(work)
  const refused: [string, () => void][] = [
    ['tails', () => readTails(new Reader(Buffer.concat([Buffer.alloc(4, 255), tails.subarray(4)])))],
    ['records', () => follow.take([topicFrame('a'), feedBatch(2, 1, most)])],
    [
      'records of a body of their own',
      () => follow.take([topicFrame('b'), feedBatch(2, 1, most), Buffer.of(1)]),
    ],
    ['topics of a barrier', () => follow.take([follow.barrier(), answer(2, most)])],
    ['deliveries', () => inbox.take([deliveryBatch(inbox.token, 2, most)])],
  ]
  for (const [what, run] of refused) {
    work.steps = 0
    expect(run, what).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
    expect(work.steps, what).toBeLessThan(200)
  }
})

test('decoders - a length that its bytes do not have allocates nothing', () => {
  const frame = written((writer) => {
    writePrefix(writer, KIND.control)
    writer.u32(1)
    writer.u8(FRAME.hello)
    writer.u32(0xffff_ffff)
  })
  const seen: number[] = []
  expect(() =>
    readControlBatch(
      frame,
      () => true,
      (type) => seen.push(type),
    ),
  ).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
  expect(seen).toEqual([])
  const short = Buffer.alloc(FEED_HEADER_BYTES - 1)
  expect(() => followTaking({ steps: 0 }).take([topicFrame('a'), short])).toThrow(
    expect.objectContaining({ code: 'MALFORMED' }),
  )
})

test('decoders - of what strangers say for people to read no more than the beginning is kept (G6)', () => {
  const words = 'ü'.repeat(1_000_000)
  for (const kind of ['failed', 'rejected', 'later'] as const) {
    const said = written((writer) =>
      writeSettlement(writer, { kind, number: 1, code: 'X', delayMs: 0, text: words }),
    )
    const reader = new Reader(said)
    const settlement = readSettlement(reader)
    expect(settlement).toMatchObject({ kind, text: expect.stringMatching(/^ü{2048,3072}$/) })
    expect(reader.left).toBe(0)
  }
  const long = written((writer) => writeHello(writer, { ...readHello(hello), unreachable: words }))
  expect(readHello(long).unreachable).toBe('ü'.repeat(512))
})

test('decoders - a version that this node does not speak is told apart from what is no skein batch at all', () => {
  const other = Buffer.from(control)
  other[2] = 9
  const read = (bytes: Buffer) => () =>
    readControlBatch(
      bytes,
      () => true,
      () => {},
    )
  expect(read(other)).toThrow(expect.objectContaining({ code: 'VERSION_MISMATCH' }))
  expect(read(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
})
