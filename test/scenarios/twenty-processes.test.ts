import { expect, test } from 'vitest'
import { type Member, type PresenceEvent, spawnMember, until } from '../support/processes.ts'

const COUNT = 20
const KILLED = 5

const meshed = (members: readonly Member[]): Promise<number[]> =>
  Promise.all(
    members.map((member) =>
      member.ask<number>('waitForPeers', { count: members.length - 1, timeoutMs: 30_000 }),
    ),
  )

const idOf = (index: number): string => index.toString(16).padStart(32, '0')

const startAll = (indexes: readonly number[]): Promise<Member[]> =>
  Promise.all(indexes.map((index) => spawnMember().start({ name: `node-${index}`, id: idOf(index) })))

test('twenty processes - all mesh, the death of five is noticed by each other one within a second, and they return (G3)', async () => {
  const spawnedAt = Date.now()
  const members = await startAll(Array.from({ length: COUNT }, (_, index) => index))
  const meshedMs = Math.max(...(await meshed(members))) - spawnedAt

  const killed = members.slice(0, KILLED)
  const left = members.slice(KILLED)
  const killedAt = new Map<string, number>()
  // The clock is read before each kill and at each peer-down, so a stall of this process only lengthens the test.
  await Promise.all(
    killed.map((member) => {
      killedAt.set(member.id, Date.now())
      return member.kill('SIGKILL')
    }),
  )
  const downs = (events: PresenceEvent[]): PresenceEvent[] =>
    events.filter(({ type }) => type === 'peer-down')
  const noticedMs = await Promise.all(
    left.map(async (member) => {
      const events = await until(
        () => member.ask<PresenceEvent[]>('events'),
        (all) => downs(all).length >= KILLED,
        10_000,
      )
      expect(new Set(downs(events).map(({ id }) => id))).toEqual(new Set(killedAt.keys()))
      return Math.max(...downs(events).map(({ id, at }) => at - killedAt.get(id)!))
    }),
  )
  expect(Math.max(...noticedMs)).toBeLessThan(1000)

  const restartedAt = Date.now()
  const returned = await startAll(Array.from({ length: KILLED }, (_, index) => index))
  const againMs = Math.max(...(await meshed([...left, ...returned]))) - restartedAt
  console.info(
    `${COUNT} processes: spawned and fully meshed in ${meshedMs} ms; ${KILLED} killed, noticed by all after at most ${Math.max(...noticedMs)} ms; restarted and meshed again in ${againMs} ms`,
  )
}, 60_000)
