import { expect, test } from 'vitest'
import { Backlog } from '../../src/delivery/backlog.ts'
import { Copy, type HandedCopy, type Member } from '../../src/delivery/places.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { payloadOf } from '../support/memory-feed.ts'

const backlogOf = (clock: FakeClock): Backlog =>
  new Backlog({
    addressee: { kind: 'queue', name: 'jobs' },
    clock,
    maxAttempts: 3,
    load: () => Promise.resolve([]),
    unloaded: () => {},
    handled: () => {},
    failed: () => {},
    died: () => {},
    fault: (error) => {
      throw error
    },
  })

const copyOf = (sequence: number): Copy => {
  const envelope = {
    ...{ boot: 'b', acceptedAt: 0, topic: 'jobs', key: undefined, dedupeId: undefined, notBefore: undefined },
    ...{ expiresAt: undefined, retryOf: undefined, addressees: [] },
  }
  return new Copy({ sequence, envelope, payload: payloadOf(sequence) }, 0, 0, 0, '', false)
}

const memberOf = (id: string, given: HandedCopy[]): Member => ({
  ...{ id, patterns: undefined, messages: 10, bytes: 1000, leaseMs: 60_000 },
  hasRoom: () => true,
  give: (handed) => void given.push(handed),
})

const shown = (given: readonly HandedCopy[]) =>
  given.map(({ sequence, redelivered, attempt }) => ({ sequence, redelivered, attempt }))

test('backlog - what a member hands back comes out of order at the next one, so it is flagged, and costs no attempt (G4, G9)', () => {
  const backlog = backlogOf(new FakeClock())
  const one: HandedCopy[] = []
  const two: HandedCopy[] = []
  backlog.join(memberOf('one', one))
  backlog.add(copyOf(1))
  backlog.join(memberOf('two', two))
  one[0]!.settled({ kind: 'handed-back', number: 0, why: 'closing' })
  expect(shown(two)).toEqual([{ sequence: 1, redelivered: true, attempt: 1 }])
})

test('backlog - what a member failed with, or was lost with, the next gets as a repeat (G9)', async () => {
  const clock = new FakeClock()
  const backlog = backlogOf(clock)
  const one: HandedCopy[] = []
  const two: HandedCopy[] = []
  backlog.join(memberOf('one', one))
  backlog.add(copyOf(1))
  backlog.add(copyOf(2))
  backlog.leave('one')
  backlog.join(memberOf('two', two))
  backlog.lost(one[0]!)
  one[1]!.settled({ kind: 'failed', number: 0, code: 'HANDLER_FAILED', text: 'no' })
  await clock.advance(2000)
  expect(shown(two)).toEqual([
    { sequence: 1, redelivered: true, attempt: 1 },
    { sequence: 2, redelivered: true, attempt: 2 },
  ])
})
