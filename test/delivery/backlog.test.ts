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

const copyOf = (sequence: number, key?: string, dueAt = 0): Copy => {
  const envelope = {
    ...{ boot: 'b', acceptedAt: 0, topic: 'jobs', key, dedupeId: undefined, notBefore: undefined },
    ...{ expiresAt: undefined, retryOf: undefined, addressees: [] },
  }
  return new Copy({ sequence, envelope, payload: payloadOf(sequence) }, 0, dueAt, 0, '', false)
}

const memberOf = (id: string, given: HandedCopy[], messages = 10): Member => ({
  ...{ id, patterns: undefined, messages, bytes: 1_000_000, leaseMs: 60_000 },
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
        read = () => resolve(sequences.map((sequence) => copyOf(sequence)))
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

/** Two members that do one thing at a time, and so many keys of each. */
const two = (backlog: Backlog, count: number) => {
  const one: HandedCopy[] = []
  const other: HandedCopy[] = []
  backlog.join(memberOf('one', one, 1))
  backlog.join(memberOf('other', other, 1))
  const ofOne: string[] = []
  const ofOther: string[] = []
  for (let at = 0; ofOne.length < count || ofOther.length < count; at++)
    (backlog.members.ofKey(copyOf(at, `k${at}`).loaded.envelope) === 'one' ? ofOne : ofOther).push(`k${at}`)
  return { one, other, ofOne, ofOther }
}

test('backlog - a member with nothing to do gets its keys, whatever the keys of a busy one wait for (G3)', () => {
  const backlog = backlogOf(new FakeClock())
  const { one, other, ofOne, ofOther } = two(backlog, 1000)
  const [a, b] = ofOne as [string, string]
  // At first the second of its key waits, then the first of another key takes the room.
  for (const [at, key] of [a, a, b, ofOther[0]!].entries()) backlog.add(copyOf(at, key))
  other[0]!.settled(undefined)
  one[0]!.settled(undefined)
  for (const [at, key] of ofOne.slice(2, 1000).entries()) backlog.add(copyOf(100 + at, key))
  for (const [at, key] of ofOther.slice(0, 1000).entries()) {
    backlog.add(copyOf(2000 + at, key))
    expect(other).toHaveLength(2 + at)
    other[1 + at]!.settled(undefined)
  }
  // Whatever was parked comes in the end, each key in its order.
  for (let at = 1; at < one.length; at++) one[at]!.settled(undefined)
  expect(backlog.size).toBe(0)
  expect(one.filter(({ key }) => key === a).map(({ sequence }) => sequence)).toEqual([0, 1])
})

test('backlog - keys of a member that leaves go to those that stay (G2)', () => {
  const backlog = backlogOf(new FakeClock())
  const { one, other, ofOne } = two(backlog, 3)
  for (const [at, key] of ofOne.slice(0, 3).entries()) backlog.add(copyOf(at, key))
  expect([one.length, other.length]).toEqual([1, 0])
  backlog.leave('one')
  for (let at = 0; at < other.length; at++) other[at]!.settled(undefined)
  expect(other.map(({ sequence }) => sequence)).toEqual([1, 2])
})

test('backlog - 50,000 behind one key hold up nobody, few of them are in memory, and they come in order (G3, G4)', async () => {
  const out = new Map<number, Copy>()
  let inMemory = 0
  let most = 0
  const backlog = backlogOf(new FakeClock(), {
    unloaded: (copy) => {
      inMemory--
      out.set(copy.sequence, copy)
    },
    load: async (sequences) => {
      const copies = sequences.map((sequence) => (sequence % 10 === 9 ? undefined : copyOf(sequence, 'slow')))
      inMemory += copies.filter((copy) => copy !== undefined).length
      most = Math.max(most, inMemory)
      return copies
    },
    handled: () => inMemory--,
  })
  const given: HandedCopy[] = []
  backlog.join(memberOf('one', given, 2))
  for (let sequence = 0; sequence < 50_000; sequence++) {
    inMemory++
    backlog.add(copyOf(sequence, 'slow'))
  }
  backlog.add(copyOf(50_000, 'quick'))
  expect(given.map(({ sequence }) => sequence)).toEqual([0, 50_000])
  expect(inMemory).toBeLessThan(100)
  expect(backlog.isUnloaded(40_000)).toBe(true)
  backlog.drop(copyOf(40_000, 'slow'))
  expect(backlog.isUnloaded(40_000)).toBe(false)
  given[1]!.settled(undefined)
  given.splice(1)
  for (let at = 0; backlog.size > 0; at++) {
    while (at === given.length) await new Promise((resolve) => setImmediate(resolve))
    given[at]!.settled(undefined)
  }
  const all = Array.from({ length: 50_000 }, (_, sequence) => sequence)
  // The first 64 never left the memory; what cannot be read, and what has ended, is passed over.
  const expected = all.filter((sequence) => sequence < 64 || (sequence % 10 !== 9 && sequence !== 40_000))
  expect(given.map(({ sequence }) => sequence)).toEqual(expected)
  expect(out.size).toBe(50_000 - 64)
  expect(most).toBeLessThan(200)
})

test('backlog - a key whose next message the disk does not show now waits for it, and nobody else does (G3, G4)', async () => {
  const clock = new FakeClock()
  const faults: unknown[] = []
  let isBroken = true
  const backlog = backlogOf(clock, {
    load: async (sequences) => {
      if (isBroken) throw new Error('EIO')
      return sequences.map((sequence) => copyOf(sequence, 'a'))
    },
    fault: (error) => void faults.push(error),
  })
  const given: HandedCopy[] = []
  backlog.join(memberOf('one', given, 1))
  for (let sequence = 0; sequence < 100; sequence++) backlog.add(copyOf(sequence, 'a'))
  for (let at = 0; at < 64; at++) given[at]!.settled(undefined)
  expect(given).toHaveLength(64)
  backlog.add(copyOf(1000))
  expect(given[64]!.sequence).toBe(1000)
  given[64]!.settled(undefined)
  await clock.advance(500)
  expect(faults.length).toBeGreaterThan(0)
  isBroken = false
  await clock.advance(1000)
  for (let at = 65; at < given.length; at++) {
    given[at]!.settled(undefined)
    await clock.advance(0)
  }
  expect(given.slice(65).map(({ sequence }) => sequence)).toEqual(
    Array.from({ length: 36 }, (_, at) => 64 + at),
  )
})

test('backlog - of what waits for its time little is in memory, and each comes when it is due (G6)', async () => {
  const clock = new FakeClock()
  const unloaded: number[] = []
  const backlog = backlogOf(clock, {
    unloaded: ({ sequence }) => void unloaded.push(sequence),
    load: async (sequences) => sequences.map((sequence) => copyOf(sequence, undefined, dueAt(sequence))),
  })
  const from = clock.now()
  // In an order of their own, all within 10 s.
  const dueAt = (sequence: number): number => from + 1 + ((sequence * 7919) % 10_000)
  const given: HandedCopy[] = []
  const count = 5000
  backlog.join(memberOf('one', given, count))
  for (let sequence = 0; sequence < count; sequence++)
    backlog.add(copyOf(sequence, undefined, dueAt(sequence)))
  expect([given.length, unloaded.length]).toEqual([0, count - 1024])
  const gone = unloaded.at(-1)!
  backlog.drop(copyOf(gone, undefined, dueAt(gone)))
  for (let passed = 0; passed < 10_000; passed += 1000) {
    await clock.advance(1000)
    for (let read = 0; read < 20; read++) await clock.microtasks()
    for (const { sequence } of given) expect(dueAt(sequence)).toBeLessThanOrEqual(clock.now())
    const due = Array.from({ length: count }, (_, at) => at).filter(
      (at) => at !== gone && dueAt(at) <= clock.now(),
    )
    expect(given).toHaveLength(due.length)
  }
})

test('backlog - given up, it tells all that it owed, what waits for its time and what is not in memory as well (G1)', () => {
  const clock = new FakeClock()
  const backlog = backlogOf(clock, { load: () => new Promise(() => {}) })
  const given: HandedCopy[] = []
  backlog.join(memberOf('one', given, 1))
  const later = clock.now() + 60_000
  for (let sequence = 0; sequence < 2000; sequence++) backlog.add(copyOf(sequence, undefined, later))
  for (let sequence = 2000; sequence < 3000; sequence++) backlog.add(copyOf(sequence, 'a'))
  for (let sequence = 3000; sequence < 40_000; sequence++) backlog.add(copyOf(sequence))
  const { copies, unloaded } = backlog.giveUp('gone')
  const told = [...copies.map(({ sequence }) => sequence), ...unloaded]
  expect(told.sort((one, other) => one - other)).toEqual(Array.from({ length: 40_000 }, (_, at) => at))
  expect(clock.pendingTimers).toBe(0)
})
