import { expect, test } from 'vitest'
import { Groups, statedBy } from '../../src/delivery/groups.ts'
import type { Service } from '../../src/protocol/control-frames.ts'
import { FakeClock } from '../support/fake-clock.ts'

const serviceOf = (name: string, patterns: readonly string[]): Service => ({
  ...{ kind: 'group', name, patterns, messages: 1, bytes: 1, leaseMs: 1 },
})

test('groups - what is withdrawn in one turn, however much, costs one look at what members state (G3)', async () => {
  const clock = new FakeClock()
  const forgotten: string[] = []
  let looks = 0
  const services: Service[] = []
  const groups = new Groups({
    clock,
    time: () => clock.now(),
    rememberMs: 60_000,
    stated: () => {
      looks++
      return statedBy([services])
    },
    forgotten: (group) => void forgotten.push(group),
    changed: () => {},
    warning: (error) => {
      throw error
    },
  })
  for (let n = 0; n < 1000; n++) groups.seen(`g${n}`, ['a', 'b'])
  // Another member of one of them is there still.
  services.push(serviceOf('g7', ['a']))
  for (let n = 0; n < 1000; n++) {
    groups.withdrawn(`g${n}`, 'a')
    groups.withdrawn(`g${n}`, 'never')
    if (n !== 8) groups.withdrawn(`g${n}`, 'b')
  }
  await clock.advance(1)
  expect(looks).toBe(1)
  expect(forgotten).toHaveLength(998)
  expect(groups.wanting('a')).toEqual(['g7'])
  expect(groups.wanting('b')).toEqual(['g8'])
})
