import fc from 'fast-check'
import { expect, test } from 'vitest'
import { VirtualClock } from '../../src/transport/virtual-clock.ts'
import { errorOf } from '../support/mesh.ts'

test('virtual clock - time passes only when it is told to, and by exactly as much', async () => {
  const clock = new VirtualClock()
  let rings = 0
  clock.after(60_000, () => rings++)
  expect(clock.now()).toBe(0)
  await clock.advance(59_999)
  expect([clock.now(), rings]).toEqual([59_999, 0])
  await clock.advance(1)
  expect([clock.now(), rings]).toEqual([60_000, 1])
})

test('virtual clock - timers run when they are due, in order, equals as they were set, and none that was cancelled', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ delayMs: fc.integer({ min: 0, max: 20 }), cancelled: fc.boolean() }), {
        maxLength: 60,
      }),
      async (timers) => {
        const clock = new VirtualClock()
        const ran: { index: number; at: number }[] = []
        const cancels = timers.map(({ delayMs }, index) =>
          clock.after(delayMs / 8, () => ran.push({ index, at: clock.now() })),
        )
        for (const [index, { cancelled }] of timers.entries()) if (cancelled) cancels[index]!()
        await clock.advance(100)
        const expected = timers
          .map(({ delayMs, cancelled }, index) => ({ index, at: delayMs / 8, cancelled }))
          .filter((timer) => !timer.cancelled)
          .sort((a, b) => a.at - b.at || a.index - b.index)
          .map(({ index, at }) => ({ index, at }))
        expect(ran).toEqual(expected)
        expect(clock.pending).toBe(0)
      },
    ),
  )
})

test('virtual clock - very many cancelled timers are forgotten, and the others run in their order', async () => {
  const clock = new VirtualClock()
  const ran: number[] = []
  for (let n = 0; n < 10_000; n++) {
    const cancel = clock.after(10_000 - n, () => ran.push(n))
    if (n % 100 === 0) continue
    cancel()
    cancel()
  }
  expect(clock.pending).toBe(100)
  await clock.advance(10_000)
  expect(ran).toEqual(Array.from({ length: 100 }, (_, n) => 9900 - 100 * n))
  expect(clock.pending).toBe(0)
})

test('virtual clock - what is forgotten in the middle of a moment makes nothing of it run twice', async () => {
  const clock = new VirtualClock()
  const ran: string[] = []
  const cancels = Array.from({ length: 5000 }, () => clock.after(10, () => ran.push('cancelled')))
  clock.at(1, { run: () => void ran.push('before') })
  clock.at(1, {
    run: () => {
      for (const cancel of cancels) cancel()
    },
  })
  clock.at(1, { run: () => void ran.push('after') })
  await clock.advance(20)
  expect([ran, clock.pending]).toEqual([['before', 'after'], 0])
})

test('virtual clock - a delay that is negative or no number is none', async () => {
  const clock = new VirtualClock()
  const ran: number[] = []
  clock.after(1, () => ran.push(3))
  clock.after(Number.NaN, () => ran.push(1))
  clock.after(-5, () => ran.push(2))
  await clock.advance(0)
  expect(ran).toEqual([1, 2])
  await clock.advance(1)
  expect(ran).toEqual([1, 2, 3])
})

test('virtual clock - whatever waits in microtasks runs to its end before the next timer does', async () => {
  const clock = new VirtualClock()
  const order: string[] = []
  const wait = async (): Promise<void> => {
    for (let n = 0; n < 100; n++) await Promise.resolve()
    order.push('first, 100 awaits later')
  }
  clock.after(1, () => void wait())
  clock.after(1, () => order.push('second'))
  await clock.advance(1)
  expect(order).toEqual(['first, 100 awaits later', 'second'])
})

test('virtual clock - turns end before time goes on, after all that is due at the same moment', async () => {
  const clock = new VirtualClock()
  const order: string[] = []
  const { turn } = clock
  clock.after(1, () => {
    order.push('a')
    turn(() => {
      order.push(`turn at ${clock.now()}`)
      turn(() => order.push(`next turn at ${clock.now()}`))
      turn(() => order.push('and its second'))
    })
  })
  clock.after(1, () => order.push('b'))
  clock.after(1.001, () => order.push('later'))
  await clock.advance(2)
  expect(order).toEqual(['a', 'b', 'turn at 1', 'next turn at 1', 'and its second', 'later'])
})

test('virtual clock - a program that waits only for turns does not stop time', async () => {
  const clock = new VirtualClock()
  let turns = 0
  const spin = (): void => {
    turns++
    clock.turn(spin)
  }
  spin()
  let rang = false
  clock.after(1, () => {
    rang = true
  })
  await clock.advance(2)
  expect([rang, clock.now()]).toEqual([true, 2])
  expect(turns).toBeLessThan(2000)
  const error = await errorOf(() => clock.run(new Promise<never>(() => {}), { limitMs: 5 }))
  expect([error.code, clock.now()]).toEqual(['WAIT_TIMEOUT', 7])
  expect(error.message).toContain('after 5 ms it still waits')
})

test('virtual clock - run lets time pass until a promise settles, and answers as it does', async () => {
  const clock = new VirtualClock()
  const after = (ms: number): Promise<number> =>
    new Promise((resolve) => clock.after(ms, () => resolve(clock.now())))
  expect(await clock.run(after(1234.5))).toBe(1234.5)
  expect(clock.now()).toBe(1234.5)
  await expect(clock.run(after(1).then(() => Promise.reject(new Error('as it was'))))).rejects.toThrow(
    'as it was',
  )
  expect(await clock.run(Promise.resolve('at once'))).toBe('at once')
  expect(clock.now()).toBe(1235.5)
})

test('virtual clock - run ends when the limit of virtual time is over, and says so (G7)', async () => {
  const clock = new VirtualClock()
  const tick = (): void => void clock.after(100, tick)
  tick()
  const never = new Promise<never>(() => {})
  const error = await errorOf(() => clock.run(never, { limitMs: 1050 }))
  expect([error.code, clock.now()]).toEqual(['WAIT_TIMEOUT', 1050])
  expect(error.message).toContain('after 1050 ms it still waits')
})

test('virtual clock - run ends at once when nothing is left to happen, and says so (G7)', async () => {
  const clock = new VirtualClock()
  clock.after(7, () => {})
  const error = await errorOf(() => clock.run(new Promise<never>(() => {})))
  expect([error.code, clock.now()]).toEqual(['WAIT_TIMEOUT', 7])
  expect(error.message).toContain('nothing is left to happen')
})

test('virtual clock - what a timer throws rejects whoever drives it, and time can go on', async () => {
  const clock = new VirtualClock()
  clock.after(1, () => {
    throw new Error('broken')
  })
  let rang = false
  clock.after(2, () => {
    rang = true
  })
  await expect(clock.advance(5)).rejects.toThrow('broken')
  await clock.advance(5)
  expect(rang).toBe(true)
})

test('virtual clock - several may drive it at once: it is one time, and each ends at its own moment', async () => {
  const clock = new VirtualClock()
  const ends: [string, number][] = []
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => void clock.after(ms, resolve))
  const ending = (name: string) => (): void => void ends.push([name, clock.now()])
  await Promise.all([
    clock.run(sleep(30)).then(ending('later')),
    clock.run(clock.run(sleep(10)).then(ending('within'))).then(ending('around')),
    clock.run(sleep(20)).then(ending('sooner')),
  ])
  expect(ends).toEqual([
    ['within', 10],
    ['around', 10],
    ['sooner', 20],
    ['later', 30],
  ])
})

test('virtual clock - several may wait at once, and time stops for each at its own moment', async () => {
  const clock = new VirtualClock()
  const ends: string[] = []
  const note = (name: string, waiting: Promise<unknown>): Promise<unknown> =>
    waiting.then(
      () => ends.push(`${name} at ${clock.now()}`),
      (error: unknown) => ends.push(`${name} ${(error as { code: string }).code} at ${clock.now()}`),
    )
  const after = (ms: number): Promise<void> => new Promise((resolve) => void clock.after(ms, resolve))
  await Promise.all([
    note('ten', clock.advance(10)),
    note('seven', clock.run(after(7))),
    note('five', clock.advance(5)),
    note('never', clock.run(new Promise(() => {}), { limitMs: 8 })),
    note('nested', clock.run(clock.advance(3).then(() => clock.advance(3)))),
  ])
  expect(ends).toEqual(['five at 5', 'nested at 6', 'seven at 7', 'never WAIT_TIMEOUT at 8', 'ten at 10'])
})

test('virtual clock - what one does when its time is over may be what another waits for', async () => {
  const clock = new VirtualClock()
  let done = (): void => {}
  const waiting = clock.run(
    new Promise<void>((resolve) => {
      done = resolve
    }),
  )
  await clock.advance(100)
  done()
  await waiting
  expect(clock.now()).toBe(100)
})

test('virtual clock - what it runs may let time pass itself', async () => {
  const clock = new VirtualClock()
  let inner: Promise<void> | undefined
  clock.after(1, () => {
    inner = clock.advance(5)
  })
  await clock.advance(2)
  await inner
  expect(clock.now()).toBe(6)
})

test('virtual clock - while something outside is awaited, time stands still', async () => {
  const clock = new VirtualClock()
  clock.after(1, () => {})
  const real = new Promise<string>((resolve) => setTimeout(() => resolve('from outside'), 20))
  const inside = async (): Promise<unknown> => {
    const text = await clock.outside(real)
    return [text, clock.now()]
  }
  expect(await clock.run(inside())).toEqual(['from outside', 0])
  await clock.advance(1)
  expect(clock.now()).toBe(1)
})

test('virtual clock - chance repeats itself for the same seed, and is another for another', () => {
  const draw = (seed: number): number[] => {
    const clock = new VirtualClock({ seed })
    return Array.from({ length: 100 }, () => clock.random())
  }
  expect(draw(7)).toEqual(draw(7))
  expect(draw(7)).not.toEqual(draw(8))
  for (const number of draw(7)) expect(number >= 0 && number < 1).toBe(true)
  const mean = draw(1).reduce((sum, number) => sum + number, 0) / 100
  expect(Math.abs(mean - 0.5)).toBeLessThan(0.15)
})

test('virtual clock - the clock on the wall goes with it', async () => {
  const clock = new VirtualClock({ wallMs: 1_000_000 })
  await clock.advance(500)
  expect(clock.wall()).toBe(1_000_500)
})
