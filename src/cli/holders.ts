import type { NodeStatus } from '../index.ts'
import { isWorker } from './status.ts'
import type { Visit } from './visit.ts'

/** Of a topic or pattern. */
export const MAX_LENGTH = 255

/** What the workers of a node work on, or what the others of it subscribe by. */
export const patternsOf = ({ subscriptions }: NodeStatus, worker: boolean): string[] =>
  subscriptions.filter((each) => isWorker(each) === worker).map(({ pattern }) => pattern)

/** The queues that somebody works on, and who does. */
export const queuesOf = (visits: readonly Visit[]): Map<string, string[]> =>
  holders(visits, (status) => patternsOf(status, true))

/** Who has each of these. */
export const holders = (
  visits: readonly Visit[],
  of: (status: NodeStatus) => readonly string[],
): Map<string, string[]> => {
  const found = new Map<string, string[]>()
  for (const { peer, status } of visits) {
    for (const each of new Set(status === undefined ? [] : of(status))) {
      if (each.length <= MAX_LENGTH) found.set(each, [...(found.get(each) ?? []), peer.name])
    }
  }
  return found
}
