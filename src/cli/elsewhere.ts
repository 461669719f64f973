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

const MAX_MESHES = 32
/** Each costs a node for half a second. */
const AT_ONCE = 8
const SETTLE_MS = 300
const ASK_MS = 700
const CLOSE_MS = 100

export interface Search {
  readonly found: readonly Elsewhere[]
  /** Meshes that were not asked, because there are so many. */
  readonly unasked: number
}

/** Looks into the other meshes of this host, as a node that only dials and is no member of them. */
export const findElsewhere = async (
  sought: string,
  { mesh, registry }: HostSurvey,
  options: NodeOptions,
  stop: AbortSignal,
): Promise<Search> => {
  const meshes = (registry?.meshes ?? [])
    .map((each) => ({ ...each, nodes: each.nodes.filter(({ state }) => state === 'alive') }))
    .filter((each) => each.mesh !== mesh && each.nodes.length > 0)
  const left = meshes.slice(0, MAX_MESHES)
  const found: Elsewhere[] = []
  const goOn = async (): Promise<void> => {
    for (let other = left.shift(); other !== undefined; other = left.shift()) {
      const called = other.nodes.filter(({ id, name }) => id === sought || name === sought)
      const names =
        called.length === 0
          ? []
          : [`${count(called.length, 'node')} ${called.length === 1 ? 'is' : 'are'} called so`]
      const statuses = await statusesIn(other.mesh, options, stop)
      const has = [...names, ...statuses.flatMap((status) => hasOf(status, sought))]
      if (has.length > 0) found.push({ mesh: other.mesh, has })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, goOn))
  return { found, unasked: Math.max(0, meshes.length - MAX_MESHES) + (registry?.unread ?? 0) }
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
