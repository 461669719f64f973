import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isSkeinError } from '../../src/errors.ts'
import { Reader, Writer } from '../../src/protocol/bytes.ts'
import { isEndpoint } from '../../src/protocol/endpoint.ts'
import {
  digestOf,
  type GossipMessage,
  type Member,
  readGossip,
  writeGossip,
} from '../../src/protocol/gossip-frame.ts'

const written = (message: GossipMessage): Buffer => {
  const writer = new Writer()
  writeGossip(writer, message)
  return writer.take()
}

const read = (bytes: Buffer): GossipMessage => readGossip(new Reader(bytes))

const tell = (...members: Partial<Member>[]): GossipMessage => ({
  kind: 'tell',
  done: true,
  members: members.map((over) => ({
    id: 'a'.repeat(32),
    boot: 'b'.repeat(32),
    name: 'kitchen',
    endpoints: ['tcp://10.0.0.5:7400'],
    ...over,
  })),
})

const id = fc.stringMatching(/^[0-9a-f]{32}$/)
const host = fc.oneof(
  fc.ipV4(),
  fc.ipV6().filter((text) => !text.includes('.')),
  fc.domain().filter((text) => /^[A-Za-z0-9]/.test(text) && text.length < 254),
)
const member = fc.record({
  id,
  boot: id,
  name: fc.string({ unit: 'binary', maxLength: 60 }).filter((text) => Buffer.byteLength(text) <= 255),
  endpoints: fc.array(
    fc
      .tuple(host, fc.integer({ min: 1, max: 65_535 }))
      .map(([at, port]) => `tcp://${at.includes(':') ? `[${at}]` : at}:${port}`),
    { maxLength: 8 },
  ),
})
const message: fc.Arbitrary<GossipMessage> = fc.oneof(
  fc.record({
    kind: fc.constant('ask' as const),
    digest: fc.record({ count: fc.nat(0xffff_ffff), hash: fc.nat(2 ** 48 - 1) }),
  }),
  fc.record({
    kind: fc.constant('tell' as const),
    members: fc.array(member, { maxLength: 6 }),
    done: fc.boolean(),
  }),
)

test('gossip frame - whatever is said arrives as it was said', () => {
  fc.assert(
    fc.property(message, (said) => {
      expect(read(written(said))).toEqual(said)
    }),
  )
})

test('gossip frame - whatever bytes come, they are read as sound members or are MALFORMED (G8)', () => {
  let [sound, refused] = [0, 0]
  const spoilt = fc
    .record({
      said: message,
      changes: fc.array(fc.tuple(fc.nat(200), fc.oneof(fc.nat(255), fc.constant(255))), { maxLength: 4 }),
      cut: fc.oneof(fc.constant(0), fc.nat(40)),
      tail: fc.uint8Array({ maxLength: 4 }),
    })
    .map(({ said, changes, cut, tail }) => {
      const bytes = Buffer.from(written(said))
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
      return Buffer.concat([bytes.subarray(0, Math.max(0, bytes.length - cut)), tail])
    })
  const bytes = fc.oneof(spoilt, fc.uint8Array({ maxLength: 80 }).map(Buffer.from))
  fc.assert(
    fc.property(bytes, (frame) => {
      let said: GossipMessage
      try {
        said = read(frame)
      } catch (error) {
        if (!isSkeinError(error, 'MALFORMED')) throw error
        refused++
        return
      }
      sound++
      if (said.kind === 'ask') return
      expect(said.members.length).toBeLessThanOrEqual(4096)
      for (const { id, boot, name, endpoints } of said.members) {
        expect(id + boot).toMatch(/^[0-9a-f]{64}$/)
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255)
        expect(endpoints.length).toBeLessThanOrEqual(8)
        expect(endpoints.every(isEndpoint)).toBe(true)
      }
      // What was taken can be told on, and arrives the same.
      expect(read(written(said))).toEqual(said)
    }),
    { numRuns: 2000 },
  )
  expect(Math.min(sound, refused)).toBeGreaterThan(200)
})

const patched = (message: GossipMessage, at: number, ...bytes: number[]): Buffer => {
  const frame = written(message)
  for (const [i, byte] of bytes.entries()) frame[at + i] = byte
  return frame
}

const NAME_AT = 4 + 32
const ENDPOINTS_AT = NAME_AT + 1 + 'kitchen'.length

test.each([
  ['nothing', Buffer.alloc(0), /too early/],
  ['another kind', Buffer.of(3, 0, 0, 0), /of kind 3/],
  ['a kind of zero', Buffer.of(0), /of kind 0/],
  ['an ask without its hash', Buffer.of(1, 0, 0, 0, 0, 1), /too early/],
  ['neither done nor not', patched(tell(), 1, 2), /says 2/],
  ['more members than may be', patched(tell(), 2, 1, 16), /4097 members/],
  ['more members than there are bytes', patched(tell({}), 2, 255, 15), /too early/],
  ['a name that is not UTF-8', patched(tell({}), NAME_AT + 1, 0xff), /not UTF-8/],
  ['nine endpoints', patched(tell({}), ENDPOINTS_AT, 9), /9 endpoints/],
  ['a port of zero', patched(tell({}), ENDPOINTS_AT + 1 + 1 + '10.0.0.5'.length, 0, 0), /cannot be dialled/],
  ['a wildcard', patched(tell({}), ENDPOINTS_AT + 2, 0x2a), /cannot be dialled/],
  ['a pair of addresses', patched(tell({}), ENDPOINTS_AT + 4, 0x3b), /cannot be dialled/],
  ['a host of no bytes', patched(tell({ endpoints: ['tcp://a:5'] }), ENDPOINTS_AT + 1, 0), /./],
])('gossip frame - %s is MALFORMED', (_what, frame, why) => {
  expect(() => read(frame)).toThrow(
    expect.objectContaining({ code: 'MALFORMED', message: expect.stringMatching(why) }),
  )
})

test('gossip frame - what follows the members is of a later version, and ignored', () => {
  expect(read(Buffer.concat([written(tell({})), Buffer.of(1, 2, 3)]))).toEqual(tell({}))
})

test('gossip frame - endpoints that mean something on one host only are not told, nor more than eight', () => {
  const endpoints = Array.from({ length: 9 }, (_, i) => `tcp://10.0.0.${i}:7400`)
  const said = tell(
    { endpoints },
    { endpoints: ['tcp://[fe80::1%eth0]:7400', 'ipc:///tmp/x', `tcp://${'a'.repeat(253)}:65535`] },
  )
  expect(read(written(said))).toEqual(
    tell({ endpoints: endpoints.slice(0, 8) }, { endpoints: [`tcp://${'a'.repeat(253)}:65535`] }),
  )
})

test('gossip frame - a digest is the same in any order, and another for another boot, id or number', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(id, id), { minLength: 1, selector: ([a, b]) => a + b }), (pairs) => {
      const all = pairs.map(([id, boot]) => ({ id, boot }))
      const digest = digestOf(all)
      expect(digestOf([...all].reverse())).toEqual(digest)
      expect(digestOf(all.slice(1)).hash).not.toBe(digest.hash)
      const [first, ...others] = all
      if (first!.id === first!.boot) return
      expect(digestOf([{ id: first!.boot, boot: first!.id }, ...others]).hash).not.toBe(digest.hash)
      expect(Number.isSafeInteger(digest.hash) && digest.hash >= 0 && digest.hash < 2 ** 48).toBe(true)
    }),
  )
  expect(digestOf([])).toEqual({ count: 0, hash: 0 })
  // Computed by another program, as whoever builds a peer in another language has to.
  expect(digestOf([{ id: '0'.repeat(32), boot: 'f'.repeat(32) }]).hash).toBe(0x6c5cc4a38cc5)
})
