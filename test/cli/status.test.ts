import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readStatus } from '../../src/cli/status.ts'

const status = {
  ...{ id: 'a'.repeat(32), name: 'orders', boot: 'b'.repeat(32), mesh: 'shop', protocol: 1, runtime: 'v20' },
  ...{ host: 'vm', pid: 7, open: true, wallMs: 1, lagMs: 2, missed: 3 },
  address: { hosts: ['10.0.0.5'], control: 7400, feed: 7401, delivery: 7402 },
  subscriptions: [
    { pattern: 'a.*', queued: 1, dropped: 2 },
    { pattern: 'a.*', queued: 0, dropped: 0, addressee: { kind: 'group', name: 'billing' } },
    { pattern: 'jobs', queued: 0, dropped: 0, addressee: { kind: 'queue', name: 'jobs' } },
  ],
  responders: ['price.get'],
  peers: [
    {
      id: 'c'.repeat(32),
      name: 'billing',
      boot: 'd',
      state: 'one-way',
      foundBy: ['hello'],
      endpoints: [],
      reason: 'r',
    },
  ],
  wanting: ['e'],
}

describe('cli status', () => {
  test('a status is read as it was sent', () => {
    expect(readStatus(status)).toEqual(status)
  })

  test('what is not needed may be missing, and entries that cannot be are left out', () => {
    const odd = {
      ...status,
      subscriptions: [{ pattern: 1 }, null],
      responders: 'x',
      peers: [{ id: 1 }],
      address: 5,
    }
    expect(readStatus(odd)).toMatchObject({ subscriptions: [], responders: [], peers: [], address: null })
  })

  test('whatever a peer answers, it is a status or nothing (all input is hostile)', () => {
    expect(readStatus({ ...status, lagMs: 'late' })).toBeUndefined()
    expect(readStatus({ ...status, wallMs: Number.NaN })).toBeUndefined()
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(readStatus(value)).toBeUndefined()
      }),
    )
    const fields = fc.record(
      Object.fromEntries(
        Object.entries(status).map(([key, value]) => [key, fc.oneof(fc.constant(value), fc.anything())]),
      ),
    )
    fc.assert(
      fc.property(fields, (value) => {
        const read = readStatus(value)
        if (read === undefined) return
        expect(
          read.peers.every(({ foundBy, endpoints }) => Array.isArray(foundBy) && Array.isArray(endpoints)),
        ).toBe(true)
        expect(Number.isFinite(read.lagMs) && Number.isFinite(read.wallMs)).toBe(true)
      }),
    )
  })
})
