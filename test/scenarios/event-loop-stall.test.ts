import { expect, test } from 'vitest'
import { type Member, type Outcome, type PresenceEvent, pause, startMember } from '../support/processes.ts'

const STALL_MS = 5000

const downs = async (member: Member): Promise<PresenceEvent[]> =>
  (await member.ask<PresenceEvent[]>('events')).filter(({ type }) => type === 'peer-down')

test('event loop stall - a node that held up its own loop for five seconds judges nobody, and nobody gives it up (G3)', async () => {
  const members = await Promise.all(['a', 'b', 'c'].map((name) => startMember({ name })))
  const [stalled, ...others] = members as [Member, Member, Member]
  for (const member of members) {
    await member.ask('respond', { name: `hold.${member.id}` })
    await member.ask('waitForPeers', { count: 2 })
  }
  // Whoever awaits something pings each second, so both directions have something to judge.
  const hold = (asker: Member, at: Member): Promise<unknown> =>
    asker.ask('ask', {
      as: at.id,
      name: `hold.${at.id}`,
      query: 'hang',
      timeoutMs: 60_000,
      waitMs: 5000,
    })
  for (const other of others) {
    await hold(stalled, other)
    await hold(other, stalled)
  }
  await stalled.noted('hanging', 2)
  await Promise.all(others.map((other) => other.noted('hanging')))

  // Stopped for more than a tick, so that a ping is unanswered when the stall begins, and answered behind its back.
  await Promise.all(others.map((other) => other.kill('SIGSTOP')))
  await pause(1500)
  const blocked = stalled.ask<{ startedAt: number; endedAt: number }>('block', { ms: STALL_MS })
  await stalled.noted('blocking')
  await Promise.all(others.map((other) => other.kill('SIGCONT')))
  const { startedAt, endedAt } = await blocked
  expect(endedAt - startedAt).toBeGreaterThanOrEqual(STALL_MS)
  // Two ticks of liveness and more pass before a verdict that was late could still come.
  await pause(endedAt + 3500 - Date.now())
  expect(await stalled.ask('statesSeen')).toEqual(['up'])
  for (const member of members) {
    expect(await downs(member)).toEqual([])
    const peers = await member.ask<{ state: string }[]>('peers')
    expect(peers.map(({ state }) => state)).toEqual(['up', 'up'])
  }
  for (const other of others) {
    const outcome = await other.ask<Outcome>('request', { name: `hold.${stalled.id}`, query: 'and now?' })
    expect(outcome.value).toBe('a')
    const asked = await stalled.ask<Outcome>('request', { name: `hold.${other.id}`, query: 'and you?' })
    expect(asked.value).toMatch(/^[bc]$/)
  }
}, 40_000)
