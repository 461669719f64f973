import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PatternTree } from '../../src/protocol/pattern-tree.ts'
import { matches } from '../../src/protocol/topics.ts'

const level = fc.constantFrom('a', 'b', 'constructor', '__proto__')
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('.'))
const pattern = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('*')), { maxLength: 3 }), fc.boolean())
  .map(([levels, tail]) => [...levels, ...(tail || levels.length === 0 ? ['>'] : [])].join('.'))
const ascending = (a: number, b: number): number => a - b
const step = fc.record({ act: fc.constantFrom('add', 'add', 'delete'), pattern, value: fc.nat(3) })

test('pattern tree - after any adding and deleting it finds what asking every pattern would', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.array(topic, { maxLength: 8 }), (steps, topics) => {
      const tree = new PatternTree<number>()
      const pairs = new Map<string, { pattern: string; value: number }>()
      for (const { act, pattern: at, value } of steps) {
        const key = `${at} ${value}`
        if (act === 'add') {
          tree.add(at, value)
          pairs.set(key, { pattern: at, value })
        } else {
          expect(tree.delete(at, value)).toBe(pairs.delete(key))
        }
        expect(tree.size).toBe(pairs.size)
      }
      for (const given of topics) {
        const expected = [...pairs.values()]
          .filter((pair) => matches(pair.pattern, given))
          .map((pair) => pair.value)
        expect(tree.match(given).toSorted(ascending)).toEqual(expected.toSorted(ascending))
      }
      for (const { pattern: at, value } of pairs.values()) expect(tree.delete(at, value)).toBe(true)
      expect(tree.size).toBe(0)
      for (const given of topics) expect(tree.match(given)).toEqual([])
    }),
    { numRuns: 500 },
  )
})

test('pattern tree - a value comes once for each pattern it was added under, however often', () => {
  const tree = new PatternTree<string>()
  for (const at of ['a.>', 'a.b', 'a.*', 'a.b', '*.*']) tree.add(at, 'x')
  tree.add('a.b', 'y')
  expect(tree.size).toBe(5)
  expect(tree.match('a.b')).toEqual(['x', 'y', 'x', 'x', 'x'])
})

test('pattern tree - deleting under another pattern or another value deletes nothing', () => {
  const tree = new PatternTree<string>()
  tree.add('a.*', 'x')
  tree.add('a.b', 'x')
  for (const at of ['a', 'a.>', 'a.*.c', '*', 'a.c']) expect(tree.delete(at, 'x')).toBe(false)
  expect(tree.delete('a.*', 'y')).toBe(false)
  expect(tree.size).toBe(2)
  expect(tree.match('a.b')).toEqual(['x', 'x'])
})

test('pattern tree - after a reset it is as new', () => {
  const tree = new PatternTree<string>()
  tree.add('a', 'x')
  tree.add('>', 'x')
  tree.reset()
  expect(tree.size).toBe(0)
  expect(tree.match('a')).toEqual([])
  tree.add('*', 'z')
  expect(tree.match('a')).toEqual(['z'])
})

test('pattern tree - among thousands of patterns each topic finds its own', () => {
  const tree = new PatternTree<number>()
  for (let i = 0; i < 10_000; i++) tree.add(i % 2 === 0 ? `device.${i}.temp` : `device.${i}.*`, i)
  const lost = Array.from({ length: 10_000 }, (_, i) => i).filter(
    (i) => tree.match(`device.${i}.temp`).join() !== `${i}`,
  )
  expect(lost).toEqual([])
  expect(tree.match('device.1.other')).toEqual([1])
  expect(tree.match('device.2.other')).toEqual([])
})
