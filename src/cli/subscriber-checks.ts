import { setTimeout as sleep } from 'node:timers/promises'
import type { Node, NodeStatus, SubscriptionStatus } from '../index.ts'
import type { Check } from './check.ts'
import { labelOf, lagCheck } from './peer-checks.ts'
import { doing, isWorker } from './status.ts'
import { type Visit, visitAll } from './visit.ts'
import { count } from './wording.ts'

const SAMPLE_MS = 1000
/** For asking them again. */
const ASK_MS = 2000
/** This many waiting is no longer a burst that passes. */
const MANY_WAITING = 100

/** How these subscribers keep up with what comes, over a second. */
export const subscriberChecks = async (
  node: Node,
  subscribers: readonly Visit[],
  concerns: (subscription: SubscriptionStatus) => boolean,
  stop: AbortSignal,
): Promise<Check[]> => {
  if (subscribers.length === 0) return []
  const startedAt = performance.now()
  await sleep(SAMPLE_MS, undefined, { signal: stop })
  const peers = subscribers.map(({ peer }) => peer)
  const later = await visitAll(node, peers, { stop, endAt: startedAt + SAMPLE_MS + ASK_MS })
  const seconds = (performance.now() - startedAt) / 1000
  return subscribers.flatMap(({ peer, status }, at): Check[] => {
    const after = later[at]?.status
    const subject = labelOf(peer)
    if (status === undefined) return []
    if (after === undefined) {
      const text = 'it answered a second ago and does not any more'
      const remedy =
        'see whether its process still runs, or is busy: one that blocks its event loop answers nobody'
      return [{ check: 'peer', subject, verdict: 'problem', text, remedy }]
    }
    return [...paceChecks(subject, status, after, seconds, concerns), ...lagCheck(subject, after.lagMs)]
  })
}

const RAISE = 'make its handler faster, run more of them at a time (concurrency), or give it a longer queue'

/** What happened to each subscription between two looks. */
const paceChecks = (
  subject: string,
  before: NodeStatus,
  after: NodeStatus,
  seconds: number,
  concerns: (subscription: SubscriptionStatus) => boolean,
): Check[] => {
  const checks = after.subscriptions.filter(concerns).map((subscription: SubscriptionStatus): Check => {
    const { pattern, queued, dropped } = subscription
    const at = after.subscriptions.indexOf(subscription)
    const earlier = before.subscriptions[at]
    // They stand in the order in which they were made; one that was made meanwhile has no past.
    const lost = earlier?.pattern === pattern ? Math.max(0, dropped - earlier.dropped) : dropped
    const waiting =
      queued === 0 ? 'nothing waits' : `${count(queued, 'message')} wait${queued === 1 ? 's' : ''}`
    const what = doing(subscription)
    const check = isWorker(subscription) ? 'worker' : 'subscriber'
    if (lost > 0) {
      const text = `${what} and is dropping ${rate(lost, seconds)}: it does not keep up, ${waiting} in its queue, ${dropped} were dropped so far`
      return { check, subject, verdict: 'problem', text, remedy: RAISE }
    }
    if (dropped > 0) {
      const text = `${what}; ${dropped} were dropped so far, none of them in the last second, ${waiting}`
      return { check, subject, verdict: 'note', text, remedy: RAISE }
    }
    if (queued >= MANY_WAITING && queued >= (earlier?.queued ?? 0)) {
      const text = `${what}, and ${waiting} for its handler: what comes now arrives late`
      return { check, subject, verdict: 'note', text, remedy: RAISE }
    }
    return { check, subject, verdict: 'ok', text: `${what}; ${waiting}, nothing was dropped` }
  })
  const missed = after.missed - before.missed
  if (missed > 0 && !checks.some(({ verdict }) => verdict === 'problem')) {
    const text = `it is missing ${rate(missed, seconds)} of all that it subscribes to: see its gap events for publisher, topic and reason`
    checks.push({ check: 'subscriber', subject, verdict: 'problem', text, remedy: RAISE })
  }
  return checks
}

const rate = (number: number, seconds: number): string =>
  `${Math.max(1, Math.round(number / seconds))} messages a second`
