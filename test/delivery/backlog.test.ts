import { expect, test } from 'vitest'
import { Backlog, type BacklogOptions } from '../../src/delivery/backlog.ts'
import { Copy, type HandedCopy, type Member } from '../../src/delivery/places.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { payloadOf } from '../support/memory-feed.ts'

const backlogOf = (clock: FakeClock, options: Partial<BacklogOptions> = {}): Backlog =>
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
    ...options,
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

test('backlog - what was settled while it was read from the disk is given to nobody (G9)', async () => {
  let read = (): void => {}
  const backlog = backlogOf(new FakeClock(), {
    load: (sequences) =>
      new Promise((resolve) => {
        read = () => resolve(sequences.map(copyOf))
      }),
  })
  backlog.restore([1, 2, 3], 0)
  const given: HandedCopy[] = []
  backlog.join(memberOf('one', given))
  expect(backlog.isUnloaded(2)).toBe(true)
  backlog.drop(copyOf(2))
  read()
  await new Promise((resolve) => setImmediate(resolve))
  expect(given.map(({ sequence }) => sequence)).toEqual([1, 3])
})

test.each(['lost', 'failed', 'handed-back'] as const)(
  'backlog - what one member has handled before is not given to it again when another, which had it in hand, has %s it (G9)',
  (how) => {
    const handled: unknown[] = []
    const backlog = backlogOf(new FakeClock(), { handled: (_, ending) => void handled.push(ending) })
    const one: HandedCopy[] = []
    const two: HandedCopy[] = []
    backlog.join(memberOf('one', one))
    backlog.add(copyOf(1))
    backlog.join(memberOf('two', two))
    backlog.handledBefore('b', 1, 'two')
    if (how === 'lost') backlog.lost(one[0]!)
    else if (how === 'failed') one[0]!.settled({ kind: how, number: 0, code: '', text: '' })
    else one[0]!.settled({ kind: how, number: 0, why: 'busy' })
    expect(two).toEqual([])
    expect(handled).toEqual([{ outcome: 'handled', by: 'two' }])
    expect(backlog.size).toBe(0)
  },
)
