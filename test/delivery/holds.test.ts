import { expect, test } from 'vitest'
import { Holds } from '../../src/delivery/holds.ts'

const BOOT = 'b'.repeat(32)
const MOST = 65_536
const NODE = { kind: 'node', name: '' } as const

test('holds - what was handled in part and never came again gives way, the oldest first: the sender is not refused for ever (G2, G6)', () => {
  const holds = new Holds()
  for (let sequence = 1; sequence <= MOST; sequence++) {
    const held = holds.add('a', NODE, { boot: BOOT, sequence })!
    if (sequence > 1) holds.keepPartial('a', held)
  }
  holds.runs('a', holds.get('a', NODE, { boot: BOOT, sequence: 2 })!)
  expect(holds.add('a', NODE, { boot: BOOT, sequence: MOST + 1 })?.state).toBe('running')
  const states = [1, 2, 3, 4].map((sequence) => holds.get('a', NODE, { boot: BOOT, sequence })?.state)
  expect(states).toEqual(['running', 'running', undefined, 'partial'])
})

test('holds - what runs or was handled never gives way: a sender with more than any window is refused (G6, G9)', () => {
  const holds = new Holds()
  for (let sequence = 1; sequence <= MOST; sequence++) holds.add('a', NODE, { boot: BOOT, sequence })
  expect(holds.add('a', NODE, { boot: BOOT, sequence: MOST + 1 })).toBeUndefined()
  expect(holds.add('b', NODE, { boot: BOOT, sequence: 1 })).toBeDefined()
})
