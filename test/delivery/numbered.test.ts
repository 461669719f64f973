import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Numbered, NumberedItems } from '../../src/delivery/numbered.ts'

const item = (): Numbered => ({ number: 0 })

test('numbered - numbers rise, are found, and are never given twice while their item is there', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(999), { maxLength: 600 }), (steps) => {
      const items = new NumberedItems<Numbered>()
      const kept = new Map<number, Numbered>()
      let last = 0
      for (const step of steps) {
        const oldest = [...kept.values()][step % (kept.size + 1)]
        if (step % 3 === 0 && oldest !== undefined) {
          expect(items.delete(oldest)).toBe(true)
          expect(items.delete(oldest)).toBe(false)
          kept.delete(oldest.number)
        } else {
          const added = item()
          items.add(added)
          expect(added.number).toBeGreaterThan(last)
          last = added.number
          kept.set(added.number, added)
        }
        expect(items.size).toBe(kept.size)
      }
      for (const [number, one] of kept) expect(items.get(number)).toBe(one)
      expect(new Set(items)).toEqual(new Set(kept.values()))
    }),
  )
})

test('numbered - one that stays for long is passed over by all that come and go', () => {
  const items = new NumberedItems<Numbered>()
  const long = item()
  items.add(long)
  for (let n = 0; n < 10_000; n++) {
    const short = item()
    items.add(short)
    expect(items.get(short.number)).toBe(short)
    items.delete(short)
    expect(items.get(short.number)).toBeUndefined()
  }
  expect(items.get(long.number)).toBe(long)
  expect([...items]).toEqual([long])
})
