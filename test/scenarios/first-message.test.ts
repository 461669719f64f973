import { expect, test } from 'vitest'
import { type Member, spawnMember, startMember, type Tally, until } from '../support/processes.ts'

const ROUNDS = 30

const received = (member: Member, pattern: string, topic: string): Promise<Tally> =>
  until(
    () => member.ask<Tally>('tally', { pattern }),
    ({ topics }) => topics.includes(topic),
    5000,
  )

test('first message - of a publisher that has just started, it reaches both subscribers it waited for, 30 of 30 (G5)', async () => {
  const pattern = 'sensors.>'
  const publisher = spawnMember()
  const subscribers = await Promise.all([startMember(), startMember()])
  for (const subscriber of subscribers) await subscriber.ask('subscribe', { pattern })
  for (let round = 1; round <= ROUNDS; round++) {
    const topic = `sensors.kitchen.${round}`
    await publisher.start()
    await publisher.ask('waitForSubscribers', { topic, count: 2 })
    await publisher.ask('publish', { topic, value: round })
    await Promise.all(subscribers.map((subscriber) => received(subscriber, pattern, topic)))
    await publisher.ask('close')
  }
  for (const subscriber of subscribers) {
    const { received: count, missed, uncounted } = await subscriber.ask<Tally>('tally', { pattern })
    expect({ count, missed, uncounted }).toEqual({ count: ROUNDS, missed: 0, uncounted: 0 })
  }
}, 60_000)

test('first message - to subscriptions that are just being made, it reaches both, 30 of 30 (G5)', async () => {
  const [publisher, ...subscribers] = await Promise.all([startMember(), startMember(), startMember()])
  for (let round = 1; round <= ROUNDS; round++) {
    const pattern = `round${round}.>`
    const topic = `round${round}.only`
    const there = publisher.ask('waitForSubscribers', { topic, count: 2 })
    await Promise.all(subscribers.map((subscriber) => subscriber.ask('subscribe', { pattern, waits: false })))
    await there
    await publisher.ask('publish', { topic, value: round })
    const tallies = await Promise.all(subscribers.map((subscriber) => received(subscriber, pattern, topic)))
    for (const tally of tallies) expect(tally.received).toBe(1)
    await Promise.all(subscribers.map((subscriber) => subscriber.ask('unsubscribe', { pattern })))
  }
}, 60_000)
