import type { NodeStatus, Peer, SkeinError } from '../index.ts'
import type { Check } from './check.ts'
import {
  clockChecks,
  type Findings,
  labelOf,
  lagCheck,
  NOTE_MS,
  peerCheck,
  problem,
  viewChecks,
} from './peer-checks.ts'
import { explainRefusal, refusalOf } from './refusal.ts'
import { isUp } from './visit.ts'
import { count, list, milliseconds, quoted } from './wording.ts'

/** What can be said of the mesh. */
export const meshChecks = (findings: Findings): Check[] => [
  ...seedChecks(findings),
  ...companyChecks(findings),
  ...crossingChecks(findings),
  ...findings.peers.filter(({ id }) => id !== '').map((peer) => peerCheck(peer, findings)),
  ...viewChecks(findings),
  ...versionChecks(findings),
  ...modeChecks(findings),
  ...clockChecks(findings),
  ...lagChecks(findings),
  ...lossChecks(findings),
]

export const seedChecks = ({ survey, self, peers, waitedMs }: Findings): Check[] =>
  survey.seeds.map(({ seed, endpoints, fault }): Check => {
    const check = 'seed'
    const subject = seed.replace('tcp://', '')
    const lost = peers.find(({ id, name }) => id === '' && name === seed)
    if (fault !== undefined) {
      const remedy = 'correct the name or the resolver of this host, or name the seed by its address'
      return problem(check, subject, `its name leads to no address (${fault})`, remedy)
    }
    if (lost !== undefined) {
      const wait = { mesh: survey.mesh, waitedMs }
      return problem(check, subject, ...explainRefusal(refusalOf(lost), list(endpoints), wait))
    }
    return { check, subject, verdict: 'ok', text: whoAnswers(endpoints, self, peers) }
  })

const whoAnswers = (
  endpoints: readonly string[],
  { address }: NodeStatus,
  peers: readonly Peer[],
): string => {
  const peer = peers.find((each) => each.endpoints.some((endpoint) => endpoints.includes(endpoint)))
  if (peer !== undefined) return `it is ${labelOf(peer)}`
  const own = address?.hosts.some((host) => endpoints.includes(`tcp://${host}:${address.control}`))
  return own === true ? 'it is this very node' : 'it is reached'
}

/** Other meshes that are near: on this host, in the local network, or behind a seed. */
export const othersNear = ({ survey, peers }: Pick<Findings, 'survey' | 'peers'>): Map<string, string> => {
  const others = new Map<string, string>()
  for (const { mesh, nodes } of survey.registry?.meshes ?? []) {
    const alive = nodes.filter(({ state }) => state === 'alive').map(({ name }) => name)
    if (mesh !== survey.mesh && alive.length > 0)
      others.set(mesh, `${count(alive.length, 'node')} on this host: ${list(alive)}`)
  }
  for (const { mesh, name, endpoints } of survey.multicast?.strangers ?? []) {
    if (!others.has(mesh)) others.set(mesh, `${name} at ${endpoints[0] ?? 'an unknown address'}, by mDNS`)
  }
  for (const peer of peers) {
    const refusal = refusalOf(peer)
    if (peer.state !== 'seen' || refusal.kind !== 'mesh' || refusal.mesh === undefined) continue
    if (!others.has(refusal.mesh))
      others.set(refusal.mesh, `a node at ${peer.id === '' ? peer.name : list(peer.endpoints)}`)
  }
  return others
}

/** Nobody in this mesh, but somebody in another. */
export const wrongMesh = (mesh: string, others: ReadonlyMap<string, string>): readonly [string, string] => {
  const near = [...others].map(([name, who]) => `mesh "${name}" (${who})`)
  const [first = ''] = others.keys()
  return [`nobody else is in mesh "${mesh}", but there is ${list(near)}`, sameMesh(first)]
}

export const sameMesh = (mesh: string): string =>
  `if that one was meant, give both the same mesh: --mesh ${quoted(mesh)}, SKEIN_MESH or createNode({ mesh }). Nodes of other meshes are never seen`

const companyChecks = (findings: Findings): Check[] => {
  const { survey, peers, waitedMs } = findings
  const check = 'mesh'
  const subject = survey.mesh
  const up = peers.filter(isUp).length
  const others = othersNear(findings)
  if (up > 0) {
    const also = others.size === 0 ? '' : `; others here: ${list([...others.keys()])}`
    return [{ check, subject, verdict: 'ok', text: `${count(up, 'other node')} up${also}` }]
  }
  if (others.size > 0) return [problem(check, subject, ...wrongMesh(survey.mesh, others))]
  const text = `no other node was found within ${milliseconds(waitedMs)}`
  const remedy = survey.open
    ? 'start another one with the same --mesh and --open; where multicast does not get through, name one node with --seed host:port'
    : 'start another one on this host with the same --mesh; for nodes of other hosts start all with --open'
  return [{ check, subject, verdict: 'note', text, remedy }]
}

/** Whether multicast gets through the network: nothing that one host tries by itself can tell. */
const crossingChecks = ({ survey, peers }: Findings): Check[] => {
  const { multicast, interfaces } = survey
  if (multicast === null || multicast.probes.every(({ outcome }) => outcome !== 'heard')) return []
  const own = interfaces.flatMap(({ addresses }) => addresses)
  const isHere = (endpoint: string): boolean =>
    own.some(
      (address) => endpoint.startsWith(`tcp://${address}:`) || endpoint.startsWith(`tcp://[${address}]`),
    )
  const others = peers.filter(
    (peer) => isUp(peer) && peer.endpoints.length > 0 && !peer.endpoints.some(isHere),
  )
  if (others.length === 0 || others.some(({ foundBy }) => foundBy.includes('mdns'))) return []
  const names = list(others.map(({ name }) => name))
  const text = `${names} ${others.length === 1 ? 'was' : 'were'} found, but not by mDNS: multicast does not get through the network in between, or mDNS is off there`
  const remedy =
    'let the network (switch, Wi-Fi, VPN, container) pass multicast to 224.0.0.251, or keep to seeds and gossip: they are enough'
  return [{ check: 'multicast', verdict: 'note', text, remedy }]
}

const versionChecks = ({ self, visits, warnings }: Findings): Check[] => {
  const check = 'version'
  const strange = warnings.filter(({ code }) => code === 'VERSION_MISMATCH').map(({ message }) => message)
  if (strange.length > 0) {
    const remedy = 'update the older one: both need versions of skein that go together'
    return [...new Set(strange)].map((text): Check => ({ check, verdict: 'problem', text, remedy }))
  }
  if (visits.length === 0) return []
  return [{ check, verdict: 'ok', text: `all speak version ${self.protocol} of the wire` }]
}

const modeChecks = ({ self, visits }: Findings): Check[] => {
  const check = 'mode'
  const names = (open: boolean): string[] =>
    visits.filter(({ status }) => status?.open === open).map(({ peer }) => peer.name)
  const [open, closed] = [names(true), names(false)]
  if (self.open && closed.length > 0) {
    const text = `${list(closed)} ${closed.length === 1 ? 'stays' : 'stay'} on this host, and nodes elsewhere never see ${closed.length === 1 ? 'it' : 'them'}`
    const remedy = 'start them with --open (open: true) if they are meant for other hosts'
    return [{ check, verdict: 'note', text, remedy }]
  }
  if (!self.open && open.length > 0) {
    const text = `${list(open)} ${open.length === 1 ? 'is' : 'are'} open to other hosts; this check was not, and saw this host only`
    return [{ check, verdict: 'note', text, remedy: 'run skein doctor --open to check the network as well' }]
  }
  return []
}

const lagChecks = ({ self, visits }: Findings): Check[] => {
  const loops: [string, number][] = [['this node', self.lagMs]]
  for (const { peer, status } of visits) if (status !== undefined) loops.push([labelOf(peer), status.lagMs])
  const late = loops.flatMap(([subject, lagMs]) => lagCheck(subject, lagMs))
  const text = `no stall of more than ${NOTE_MS} ms was seen in the last ten seconds`
  return late.length > 0 ? late : [{ check: 'event-loop', verdict: 'ok', text }]
}

/** Subscribers that have not kept up at some time. */
const lossChecks = ({ visits }: Findings): Check[] =>
  visits.flatMap(({ peer, status }): Check[] => {
    const lossy = status?.subscriptions.filter(({ dropped }) => dropped > 0) ?? []
    if (lossy.length === 0) return []
    const each = lossy.map(({ pattern, dropped }) => `${dropped} of "${pattern}"`)
    const text = `it did not keep up, and dropped messages since it was started: ${list(each)}`
    const remedy = 'ask skein why with one of its topics: it says whether more are being dropped'
    return [{ check: 'loss', subject: labelOf(peer), verdict: 'note', text, remedy }]
  })

/** By which checks a warning of the node is told already. */
const TOLD_BY: Readonly<Record<string, readonly string[]>> = {
  SEED_UNREACHABLE: ['seed'],
  MESH_MISMATCH: ['seed', 'peer', 'mesh'],
  VERSION_MISMATCH: ['version'],
  REGISTRY_UNAVAILABLE: ['registry'],
  MDNS_UNAVAILABLE: ['multicast'],
  PEER_UNKNOWN: ['peer', 'dial-back'],
}

/** What else the node has warned of, in its own words. */
export const warningChecks = (warnings: readonly SkeinError[], checks: readonly Check[]): Check[] => {
  const isTold = ({ code }: SkeinError): boolean =>
    checks.some(({ check, verdict }) => verdict === 'problem' && TOLD_BY[code]?.includes(check) === true)
  const texts = new Set(warnings.filter((warning) => !isTold(warning)).map(({ message }) => message))
  return [...texts].map((text): Check => ({ check: 'warning', verdict: 'note', text }))
}
