import { expect, test } from 'vitest'
import { type Beating, Beats } from '../../src/transport/beat.ts'
import { FakeClock } from '../support/fake-clock.ts'

interface Topic extends Beating {
  readonly name: string
}

const topic = (name: string): Topic => ({ name, lastAt: 0, stage: -1 })

const bench = (): { clock: FakeClock; beats: Beats<Topic>; sent: [string, number][] } => {
  const clock = new FakeClock()
  const from = clock.now()
  const sent: [string, number][] = []
  return { clock, sent, beats: new Beats(clock, ({ name }) => sent.push([name, clock.now() - from])) }
}

test('beat - a last message is followed by ten beats, each twice as late as the one before, then by none (G5)', async () => {
  const { clock, beats, sent } = bench()
  const a = topic('a')
  beats.left(a, clock.now())
  await clock.advance(200_000)
  expect(sent).toHaveLength(10)
  for (const [i, [, at]] of sent.entries()) {
    const due = 100 * (2 ** (i + 1) - 1)
    expect(at).toBeGreaterThanOrEqual(due)
    expect(at).toBeLessThanOrEqual(due + 100 * (i + 1))
  }
  expect(a.stage).toBe(-1)
  expect(clock.pendingTimers).toBe(0)
})

test('beat - while messages go on leaving none is sent, the first one 0.1 s after the last', async () => {
  const { clock, beats, sent } = bench()
  const a = topic('a')
  for (let i = 0; i < 20; i++) {
    beats.left(a, clock.now())
    await clock.advance(50)
  }
  expect(sent).toEqual([])
  await clock.advance(150)
  expect(sent).toHaveLength(1)
})

test('beat - a message between two beats is followed by one, and after the row has ended by a new row (G5)', async () => {
  const { clock, beats, sent } = bench()
  const a = topic('a')
  beats.left(a, clock.now())
  await clock.advance(1000)
  const before = sent.length
  beats.left(a, clock.now())
  await clock.advance(1000)
  expect(sent.length).toBeGreaterThan(before)
  await clock.advance(200_000)
  sent.length = 0
  beats.left(a, clock.now())
  await clock.advance(1000)
  expect(sent.length).toBeGreaterThanOrEqual(3)
})

test('beat - many topics share one timer', async () => {
  const { clock, beats, sent } = bench()
  for (let i = 0; i < 100; i++) beats.left(topic(`t${i}`), clock.now())
  expect(clock.pendingTimers).toBe(1)
  await clock.advance(100)
  expect(sent).toHaveLength(100)
})

test('beat - after close nothing beats', async () => {
  const { clock, beats, sent } = bench()
  beats.left(topic('a'), clock.now())
  beats.close()
  beats.left(topic('b'), clock.now())
  await clock.advance(1000)
  expect(sent).toEqual([])
  expect(clock.pendingTimers).toBe(0)
})
