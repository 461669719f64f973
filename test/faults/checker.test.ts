import { expect, test } from 'vitest'
import { type Happened, judge, parseHistory } from './checker.ts'

let at = 0
const send = (n: number, key?: string): Happened => ({
  ...{ kind: 'send', at: ++at, n },
  ...(key !== undefined && { key }),
})
const ok = (n: number, ...to: string[]): Happened => ({ kind: 'ok', at: ++at, n, to })
const fail = (n: number, isUncertain = false): Happened => ({
  ...{ kind: 'fail', at: ++at, n, code: 'JOURNAL_FULL', isUncertain },
})
const got = (
  n: number,
  { to = 'queue jobs', pid = 1, redelivered = false, id = `id ${n}` } = {},
): Happened => ({
  ...{ kind: 'got', at: ++at, n, to, pid, id, attempt: 1, redelivered },
})
const done = (n: number, { to = 'queue jobs', pid = 1 } = {}): Happened => ({
  ...{ kind: 'done', at: ++at, n, to, pid },
})
const accepted = (n: number, key?: string): Happened[] => [send(n, key), ok(n, 'queue jobs')]

test('checker - what was accepted and handled once by each addressee, in order, is right', () => {
  const history = [
    ...[send(1), ok(1, 'queue jobs', 'group bills'), got(1), got(1, { to: 'group bills' })],
    ...[done(1), done(1, { to: 'group bills' }), ...accepted(2), got(2), done(2), send(3), fail(3)],
  ]
  const { violations, ...counts } = judge(history)
  expect(violations).toEqual([])
  expect(counts).toEqual({ sent: 3, accepted: 2, refused: 1, handled: 3, lost: 0, faults: 0, repeats: 0 })
})

test('checker - what was accepted and never handled is lost, for each addressee by itself (G2)', () => {
  const history = [send(1), ok(1, 'queue jobs', 'group bills'), got(1), done(1)]
  expect(judge(history).violations).toEqual(['G2 lost: 1 for group bills was accepted and never handled'])
})

test('checker - a handler that began and did not succeed has not handled it (G2)', () => {
  expect(judge([...accepted(1), got(1)]).violations).toEqual([
    'G2 lost: 1 for queue jobs was accepted and never handled',
  ])
})

test('checker - what ended with a reason is not lost', () => {
  expect(judge([...accepted(1), { kind: 'ended', at: ++at, n: 1, to: 'queue jobs' }]).violations).toEqual([])
})

test('checker - a send without an outcome may be handled or not', () => {
  expect(judge([send(1), send(2), got(2), done(2)]).violations).toEqual([])
})

test('checker - what was never sent, or refused for certain, is a phantom (G1)', () => {
  expect(judge([got(7), done(7)]).violations).toEqual([
    'phantom: 7 for queue jobs was handled and never sent',
  ])
  expect(judge([send(1), fail(1), got(1), done(1)]).violations).toEqual([
    'G1 phantom: 1 for queue jobs was handled although its send was refused',
  ])
  expect(judge([send(1), fail(1, true), got(1), done(1)]).violations).toEqual([])
})

test('checker - one message under two ids is a phantom', () => {
  const history = [
    ...accepted(1),
    got(1),
    got(1, { pid: 2, redelivered: true, id: 'other' }),
    done(1, { pid: 2 }),
  ]
  expect(judge(history).violations).toEqual(['phantom: 1 for queue jobs came under two ids'])
})

test('checker - a repeat is counted, and one of the pair must be flagged (G9)', () => {
  const flagged = [...accepted(1), got(1), got(1, { pid: 2, redelivered: true }), done(1, { pid: 2 })]
  expect(judge(flagged)).toMatchObject({ repeats: 1, violations: [] })
  const unflagged = [...accepted(1), got(1), got(1, { pid: 2 }), done(1, { pid: 2 })]
  expect(judge(unflagged).violations).toEqual([
    'G9: 1 for queue jobs was handled 2 times without being flagged',
  ])
})

test('checker - where a handler has succeeded it does not run again, flagged or not (G9)', () => {
  const history = [...accepted(1), got(1), done(1), got(1, { redelivered: true }), done(1)]
  expect(judge(history).violations).toEqual([
    'G9: 1 for queue jobs ran again in process 1, where it had succeeded',
  ])
})

test('checker - first hand-overs to a member are in order; flagged ones and other members are not compared (G4)', () => {
  const both = [...accepted(1), ...accepted(2)]
  expect(judge([...both, got(2), got(1), done(1), done(2)]).violations).toEqual([
    'G4: 1 for queue jobs was first handed to process 1 behind 2',
  ])
  expect(judge([...both, got(2), got(1, { pid: 2 }), done(1), done(2)]).violations).toEqual([])
  expect(judge([...both, got(2), got(1, { redelivered: true }), done(1), done(2)]).violations).toEqual([])
})

test('checker - of a key nothing begins before its predecessor was handled (G4)', () => {
  const both = [...accepted(1, 'k'), ...accepted(2, 'k')]
  expect(judge([...both, got(1), done(1), got(2), done(2)]).violations).toEqual([])
  expect(judge([...both, got(1), got(2), done(1), done(2)]).violations).toEqual([
    'G4 key: 2 for queue jobs began before 1 of the same key was handled',
  ])
})

test('checker - a line that was not written to its end counts for nothing', () => {
  const text = `${JSON.stringify(send(2))}\n{"kind":"send","n"`
  expect(parseHistory([text, `${JSON.stringify(send(1))}\n`])).toHaveLength(2)
})
