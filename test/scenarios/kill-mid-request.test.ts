import { expect, test } from 'vitest'
import { type Member, type Outcome, type PresenceEvent, startMember, until } from '../support/processes.ts'

const name = 'price.get'

const stateOf = async (member: Member, id: string): Promise<string | undefined> => {
  const peers = await member.ask<{ id: string; state: string }[]>('peers')
  return peers.find((peer) => peer.id === id)?.state
}

const inState = (member: Member, id: string, state: string, timeoutMs: number): Promise<unknown> =>
  until(
    () => stateOf(member, id),
    (now) => now === state,
    timeoutMs,
  )

const startResponder = async (label: string): Promise<Member> => {
  const member = await startMember({ name: label })
  await member.ask('respond', { name })
  return member
}

test('kill mid request - whose responder is killed learns within a second that it is lost and may have run (G7)', async () => {
  const [asker, responder] = await Promise.all([startMember(), startResponder('first')])
  await asker.ask('waitForPeers', { count: 1 })
  await asker.ask('ask', { as: 'held', name, query: 'hang', timeoutMs: 30_000, waitMs: 5000 })
  await responder.noted('hanging')
  const killedAt = Date.now()
  await responder.kill('SIGKILL')
  const outcome = await asker.ask<Outcome>('outcome', { as: 'held' })
  expect(outcome).toMatchObject({ code: 'PEER_LOST', mayHaveRun: true })
  expect(outcome.at - killedAt).toBeLessThan(1000)
  console.info(`killed mid request: the asker knew after ${outcome.at - killedAt} ms`)
}, 30_000)

test('kill mid request - a responder that is stopped is suspect, then down, others answer meanwhile, and it comes back (G3, G7)', async () => {
  const [asker, first] = await Promise.all([startMember(), startResponder('first')])
  await asker.ask('waitForPeers', { count: 1 })
  const held = { as: 'held', name, query: 'hang', timeoutMs: 60_000, waitMs: 5000, to: first.id }
  await asker.ask('ask', held)
  await first.noted('hanging')
  await startResponder('second')
  await asker.ask('waitForPeers', { count: 2 })

  const stoppedAt = Date.now()
  await first.kill('SIGSTOP')
  await inState(asker, first.id, 'suspect', 8000)
  const suspectMs = Date.now() - stoppedAt
  for (let i = 0; i < 10; i++) {
    const outcome = await asker.ask<Outcome>('request', { name, query: i, timeoutMs: 2000 })
    expect(outcome.value).toBe('second')
  }

  const lost = await asker.ask<Outcome>('outcome', { as: 'held' })
  expect(lost).toMatchObject({ code: 'PEER_LOST', mayHaveRun: true })
  expect(lost.at - stoppedAt).toBeGreaterThan(9000)
  expect(lost.at - stoppedAt).toBeLessThan(15_000)
  expect(await stateOf(asker, first.id)).toBe('down')

  const wokenAt = Date.now()
  await first.kill('SIGCONT')
  await inState(asker, first.id, 'up', 15_000)
  const back = await asker.ask<Outcome>('request', { name, query: 'again', to: first.id })
  expect(back.value).toBe('first')
  const events = await asker.ask<PresenceEvent[]>('events')
  const types = events.filter(({ id }) => id === first.id).map(({ type }) => type)
  // It may have been up before the asker's process could listen.
  expect(types.slice(-2)).toEqual(['peer-down', 'peer-up'])
  expect(types.filter((type) => type === 'peer-down')).toHaveLength(1)
  console.info(
    `stopped: suspect after ${suspectMs} ms, its request failed after ${lost.at - stoppedAt} ms, up again ${back.at - wokenAt} ms after it went on`,
  )
}, 60_000)
