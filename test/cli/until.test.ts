import { describe, expect, test } from 'vitest'
import { until } from '../../src/cli/until.ts'

describe('cli until', () => {
  test('count - it ends when the last one that was taken is done, and takes no more', async () => {
    const limit = until({ count: 2 }, new AbortController().signal)
    expect([limit.take(), limit.take(), limit.take()]).toEqual([true, true, false])
    let ended = false
    void limit.ended.then(() => {
      ended = true
    })
    limit.done()
    await Promise.resolve()
    expect(ended).toBe(false)
    limit.done()
    expect(await limit.ended).toBe('count')
  })

  test('timeout - it ends although nothing happened', async () => {
    expect(await until({ timeoutMs: 5 }, new AbortController().signal).ended).toBe('timeout')
  })

  test('stop - it ends when told to, also if that was before it began', async () => {
    const stopping = new AbortController()
    const limit = until({}, stopping.signal)
    stopping.abort()
    expect(await limit.ended).toBe('stopped')
    expect(limit.take()).toBe(false)
    expect(await until({ count: 1 }, stopping.signal).ended).toBe('stopped')
  })
})
