import { expect, test } from 'vitest'
import { type Member, type Outcome, type PresenceEvent, pause, startMember } from '../support/processes.ts'

const STALL_MS = 5000
/** Two ticks of liveness and more, in which a verdict that was late would still come. */
const WATCH_MS = 2500

interface Mesh {
  stalled: Member
  others: Member[]
}

/** Whoever awaits something pings each second, so both directions have something to judge. */
const start = async (): Promise<Mesh> => {
  const members = await Promise.all(['a', 'b', 'c'].map((name) => startMember({ name })))
  const [stalled, ...others] = members as [Member, Member, Member]
  for (const member of members) {
    await member.ask('respond', { name: `hold.${member.id}` })
    await member.ask('waitForPeers', { count: 2 })
  }
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
  return { stalled, others }
}

const undisturbed = async ({ stalled, others }: Mesh): Promise<void> => {
  for (const member of [stalled, ...others]) {
    const events = await member.ask<PresenceEvent[]>('events')
    expect(events.filter(({ type }) => type === 'peer-down')).toEqual([])
    const peers = await member.ask<{ state: string }[]>('peers')
    expect(peers.map(({ state }) => state)).toEqual(['up', 'up'])
  }
  for (const other of others) {
    const outcome = await other.ask<Outcome>('request', { name: `hold.${stalled.id}`, query: 'and now?' })
    expect(outcome.value).toBe('a')
    const asked = await stalled.ask<Outcome>('request', { name: `hold.${other.id}`, query: 'and you?' })
    expect(asked.value).toMatch(/^[bc]$/)
  }
}

test('event loop stall - a node that held up its own loop for five seconds judges nobody, and nobody gives it up (G3)', async () => {
  const mesh = await start()
  await mesh.stalled.ask('block', { ms: STALL_MS })
  await pause(WATCH_MS)
  expect(await mesh.stalled.ask('statesSeen')).toEqual(['up'])
  await undisturbed(mesh)
}, 40_000)

test('event loop stall - silence that the stall only seems to prolong is no verdict: what came meanwhile is read first (G3)', async () => {
  const mesh = await start()
  const { stalled, others } = mesh
  // Silent for seven seconds, they are suspect; with the stall that follows it looks like more than the ten of a loss.
  await Promise.all(others.map((other) => other.kill('SIGSTOP')))
  await pause(7000)
  const blocked = stalled.ask('block', { ms: STALL_MS })
  await stalled.noted('blocking')
  await Promise.all(others.map((other) => other.kill('SIGCONT')))
  await blocked
  await pause(WATCH_MS)
  await undisturbed(mesh)
}, 40_000)
