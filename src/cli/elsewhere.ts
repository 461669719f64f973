import { createNode, type HostSurvey, matches, type NodeOptions, type NodeStatus } from '../index.ts'
import { MAX_LENGTH } from './holders.ts'
import { doing } from './status.ts'
import { isUp, visitAll } from './visit.ts'
import { count } from './wording.ts'

/** What is sought, as far as another mesh of this host has it. */
export interface Elsewhere {
  readonly mesh: string
  /** Who has what: `billing subscribes by "order.*"`. */
  readonly has: readonly string[]
}

/** Whoever has more has a reason for them. */
const MAX_MESHES = 4
const SETTLE_MS = 300
const ASK_MS = 700
const CLOSE_MS = 100

/** Looks into the other meshes of this host, as a node that only dials and is no member of them. */
export const findElsewhere = async (
  sought: string,
  { mesh, registry }: HostSurvey,
  options: NodeOptions,
  stop: AbortSignal,
): Promise<Elsewhere[]> => {
  const meshes = (registry?.meshes ?? [])
    .map((each) => ({ ...each, nodes: each.nodes.filter(({ state }) => state === 'alive') }))
    .filter((each) => each.mesh !== mesh && each.nodes.length > 0)
  return Promise.all(
    meshes.slice(0, MAX_MESHES).map(async (other): Promise<Elsewhere> => {
      const called = other.nodes.filter(({ id, name }) => id === sought || name === sought)
      const names =
        called.length === 0
          ? []
          : [`${count(called.length, 'node')} ${called.length === 1 ? 'is' : 'are'} called so`]
      const statuses = await statusesIn(other.mesh, options, stop)
      return { mesh: other.mesh, has: [...names, ...statuses.flatMap((status) => hasOf(status, sought))] }
    }),
  )
}

const statusesIn = async (mesh: string, options: NodeOptions, stop: AbortSignal): Promise<NodeStatus[]> => {
  const node = await createNode({
    ...{ name: options.name, mesh, listen: false, settleMs: SETTLE_MS, closeTimeoutMs: CLOSE_MS },
    discovery: { mdns: false, gossip: false },
  })
  try {
    const visiting = { stop, endAt: performance.now() + ASK_MS }
    const visits = await visitAll(node, node.peers.filter(isUp), visiting)
    return visits.flatMap(({ status }) => status ?? [])
  } finally {
    await node.close()
  }
}

const hasOf = ({ name, subscriptions, responders }: NodeStatus, sought: string): string[] => {
  const wanting = subscriptions.filter(
    ({ pattern }) => pattern.length <= MAX_LENGTH && matches(pattern, sought),
  )
  return [
    ...[...new Set(wanting.map(doing))].map((what) => `${name} ${what}`),
    ...(responders.includes(sought) ? [`${name} responds to it`] : []),
  ]
}
