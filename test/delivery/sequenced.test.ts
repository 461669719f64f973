import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SequencedItems } from '../../src/delivery/sequenced.ts'

const sequences = fc.oneof(
  fc.nat(300),
  fc.nat(300).map((n) => 2 ** 40 + n),
  // All in one slot of any ring.
  fc.nat(50).map((n) => n * 2 ** 20),
)

test('sequenced - what is there is found by its sequence, however the sequences lie', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(sequences, fc.boolean()), { maxLength: 800 }), (steps) => {
      const items = new SequencedItems<{ sequence: number }>()
      const kept = new Map<number, { sequence: number }>()
      for (const [sequence, isAdded] of steps) {
        const known = kept.get(sequence)
        if (known !== undefined) {
          expect(items.delete({ sequence })).toBe(false)
          expect(items.delete(known)).toBe(true)
          expect(items.delete(known)).toBe(false)
          kept.delete(sequence)
        } else if (isAdded) {
          const item = { sequence }
          items.add(item)
          kept.set(sequence, item)
        }
        expect(items.get(sequence)).toBe(kept.get(sequence))
        expect(items.size).toBe(kept.size)
      }
      for (const [sequence, item] of kept) expect(items.get(sequence)).toBe(item)
      expect(new Set(items)).toEqual(new Set(kept.values()))
    }),
  )
})
