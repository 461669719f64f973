import { expect, test } from 'vitest'
import type { SourceName } from '../../src/discovery/discovery.ts'
import { Candidates } from '../../src/peers/candidates.ts'
import type { Link } from '../../src/transport/link.ts'
import { FakeClock } from '../support/fake-clock.ts'

const idOf = (n: number): string => n.toString(16).padStart(32, '0')

test('candidates - whoever finds no room among very many is tried when there is some, and before hearsay (G3)', async () => {
  const clock = new FakeClock()
  const opened: string[] = []
  const candidates = new Candidates({
    clock,
    open: ({ endpoint }) => {
      opened.push(endpoint)
      return { endpoint, open: () => {}, close: () => {} } as unknown as Link
    },
    isMissing: () => true,
    resolve: () => Promise.reject(new Error('not part of this test')),
    tried: () => {},
    failed: () => {},
    changed: () => {},
  })
  let nodes = 0
  const tell = (source: SourceName, host = '127.1'): string => {
    const n = nodes++
    const endpoint = `tcp://${host}.${n >> 8}.${n & 255}:1`
    candidates.dial({ id: idOf(n), boot: idOf(n), name: 'one', endpoints: [endpoint], source })
    return endpoint
  }
  for (let n = 0; n < 1024; n++) tell('hello')
  const heard = tell('gossip')
  const came = tell('hello')
  expect(opened).toHaveLength(1024)
  await clock.advance(5000)
  expect(opened.slice(1024)).toEqual([came, heard])
  candidates.close()
  expect(clock.pendingTimers).toBe(0)
})
