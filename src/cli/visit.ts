import { setTimeout as sleep } from 'node:timers/promises'
import type { Node, NodeStatus, Peer, StatusQuery } from '../index.ts'
import { sentenceOf } from './failure.ts'
import { readStatus, STATUS } from './status.ts'

const ANSWER_MS = 1000
/** A status of a large mesh is large. */
const AT_ONCE = 32
/** Of a slow answer nobody knows which way took the time, so that it says little about a clock. */
const SLOW_MS = 20
const MORE_TRIES = 2
const LOOK_MS = 50
const QUIET_MS = 300

/** What one peer says of itself when it is asked. */
export interface Visit {
  readonly peer: Peer
  /** Undefined where it gave no answer, or none that can be read. */
  readonly status: NodeStatus | undefined
  /** Why there is none. */
  readonly error: string
  readonly roundTripMs: number
  /** How far its clock is ahead of this one's, within half a round trip. */
  readonly aheadMs: number
}

/** What this very node says of itself. */
export const ownStatus = async (node: Node, topic?: string): Promise<NodeStatus | undefined> =>
  readStatus(await node.request(STATUS, queryOf(topic), { to: node.id, timeoutMs: ANSWER_MS }))

export interface Visiting {
  readonly stop: AbortSignal
  /** Whoever could not be asked by then is not asked any more. */
  readonly endAt: number
  /** Who wants it is asked for, too. */
  readonly topic?: string
}

/** Asks these peers for their status. */
export const visitAll = async (node: Node, peers: readonly Peer[], visiting: Visiting): Promise<Visit[]> => {
  const left = [...peers]
  const visits: Visit[] = []
  const goOn = async (): Promise<void> => {
    for (let peer = left.shift(); peer !== undefined; peer = left.shift()) {
      visits.push(
        performance.now() < visiting.endAt
          ? await visit(node, peer, visiting)
          : { peer, status: undefined, error: 'no time was left to ask it', roundTripMs: 0, aheadMs: 0 },
      )
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, goOn))
  return peers.map((peer) => visits.find((each) => each.peer === peer)!)
}

const visit = async (node: Node, peer: Peer, visiting: Visiting): Promise<Visit> => {
  let best = await ask(node, peer, visiting)
  for (
    let tries = 0;
    tries < MORE_TRIES && best.status !== undefined && best.roundTripMs > SLOW_MS;
    tries++
  ) {
    const again = await ask(node, peer, visiting)
    if (again.status !== undefined && again.roundTripMs < best.roundTripMs) best = again
  }
  return best
}

const queryOf = (topic: string | undefined): StatusQuery => (topic === undefined ? {} : { topic })

const ask = async (node: Node, peer: Peer, { stop, topic }: Visiting): Promise<Visit> => {
  const options = { to: peer.id, timeoutMs: ANSWER_MS, signal: stop }
  const askedAt = performance.now()
  const askedWall = Date.now()
  try {
    const answer: unknown = await node.request(STATUS, queryOf(topic), options)
    const roundTripMs = performance.now() - askedAt
    const status = readStatus(answer)
    const error = status === undefined ? 'its answer cannot be read' : ''
    const aheadMs = status === undefined ? 0 : status.wallMs - (askedWall + roundTripMs / 2)
    return { peer, status, error, roundTripMs, aheadMs }
  } catch (error) {
    if (stop.aborted) throw error
    const roundTripMs = performance.now() - askedAt
    return { peer, status: undefined, error: sentenceOf(error), roundTripMs, aheadMs: 0 }
  }
}

export const isUp = ({ state }: Peer): boolean => state === 'up' || state === 'suspect'

/** An address where nobody answers is nobody, after a time that a person waits. */
const SEED_MS = 2000
/** Of a node that somebody has told of, it is known by then whether it can be dialled at all. */
const NODE_MS = 6000

/**
 * Resolves when the list of peers has not changed for a while and nobody in it is still awaited, or when it is late:
 * after `timeoutMs` where that is given.
 */
export const found = async (node: Node, timeoutMs: number | undefined, stop: AbortSignal): Promise<void> => {
  const startedAt = performance.now()
  let seen = ''
  let changedAt = startedAt
  for (;;) {
    const now = performance.now()
    const present = JSON.stringify(node.peers)
    if (present !== seen) changedAt = now
    seen = present
    const waitedMs = now - startedAt
    const isAwaited = node.peers.some(
      ({ id, state, code }) =>
        state === 'seen' &&
        // The verdict is known; that it is tried again nobody waits for.
        code === undefined &&
        waitedMs < (timeoutMs ?? (id === '' ? SEED_MS : NODE_MS)),
    )
    const isLate = waitedMs >= (timeoutMs ?? NODE_MS)
    if (isLate || (!isAwaited && now - changedAt >= QUIET_MS)) return
    await sleep(LOOK_MS, undefined, { signal: stop })
  }
}
