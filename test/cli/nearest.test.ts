import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compare, editDistance, nearest } from '../../src/cli/nearest.ts'
import { matches } from '../../src/protocol/topics.ts'

const level = fc.constantFrom('a', 'b', 'ab', 'sensors', 'Sensors', 'kitchen')
const topics = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('.'))
const patterns = fc
  .tuple(
    fc.array(fc.oneof(level, fc.constant('*')), { maxLength: 3 }),
    fc.oneof(level, fc.constantFrom('*', '>')),
  )
  .map(([levels, last]) => [...levels, last].join('.'))

const texts = (topic: string, candidates: readonly string[]): string[] =>
  nearest(topic, candidates).map(({ text }) => text)

const difference = (topic: string, candidate: string): string | undefined =>
  compare(topic, candidate)?.difference

describe('nearest', () => {
  test.each([
    ['a typo', 'sensors.kitchen.temp', 'sensors.kitchn.temp', 'level 2 is "kitchn" there, not "kitchen"'],
    ['two letters swapped', 'price.get', 'price.gte', 'level 2 is "gte" there, not "get"'],
    [
      'the case',
      'sensors.a',
      'Sensors.*',
      'level 1 is "Sensors" there, not "sensors": upper and lower case differ',
    ],
    ['a level too few', 'sensors.kitchen.temp', 'sensors.*', 'it has no level for "temp" (level 3)'],
    [
      'a level in the middle',
      'sensors.kitchen.temp',
      'sensors.temp',
      'it has no level for "kitchen" (level 2)',
    ],
    ['a level too many', 'orders.new', 'orders.new.eu', 'it has a level too many, "eu" (level 3)'],
    ['a wildcard too many', 'orders', 'orders.*', 'it has a level too many, "*" (level 2)'],
    ['nothing left for >', 'sensors', 'sensors.>', 'its ">" wants at least one more level'],
    ['other separators', 'sensors/kitchen', 'sensors.kitchen', 'only what separates its levels differs'],
    ['only wildcards, but another number', 'a', '*.*', 'it has a level too many, "*" (level 2)'],
  ])('%s is named, with its level', (_, topic, candidate, said) => {
    expect(difference(topic, candidate)).toBe(said)
  })

  test.each([
    ['sensors.kitchen', 'orders.*'],
    ['price.get', 'sensors.*'],
    ['a', 'b'],
    ['tick', 'orders.new.eu.west'],
  ])('%s has nothing to do with %s', (topic, candidate) => {
    expect(compare(topic, candidate)).toBeUndefined()
  })

  test('the nearest comes first, no more than asked for, and each once', () => {
    const candidates = [
      'sensors.hall.temp',
      'sensors.kitchn.temp',
      'orders.*',
      'sensors.kitchn.temp',
      'Sensors.kitchen.temp',
    ]
    expect(texts('sensors.kitchen.temp', candidates)).toEqual([
      'Sensors.kitchen.temp',
      'sensors.kitchn.temp',
      'sensors.hall.temp',
    ])
    expect(nearest('sensors.kitchen.temp', candidates, 1)).toHaveLength(1)
  })

  test('nothing differs where a pattern matches, and only there', () => {
    fc.assert(
      fc.property(patterns, topics, (pattern, topic) => {
        const near = compare(topic, pattern)
        // A match of wildcards alone, or of a `>` that takes many levels, is no resemblance, and nobody asks for it.
        if (near !== undefined) expect(near.cost === 0).toBe(matches(pattern, topic))
        if (near !== undefined && near.cost > 0) expect(near.difference).not.toBe('')
      }),
    )
  })

  test('the distance counts letters inserted, removed, changed and swapped', () => {
    expect([
      editDistance('', ''),
      editDistance('abc', ''),
      editDistance('get', 'gte'),
      editDistance('kitten', 'sitting'),
    ]).toEqual([0, 3, 1, 3])
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a))
        expect(editDistance(a, b) === 0).toBe(a === b)
      }),
    )
  })
})
