import type { Node, Peer } from '../index.ts'
import type { Answer, Check } from './check.ts'
import { seedChecks } from './mesh-checks.ts'
import {
  clockChecks,
  type Findings,
  labelOf,
  lagCheck,
  NOTE_MS,
  outlookChecks,
  peerCheck,
  problem,
  viewChecks,
} from './peer-checks.ts'
import type { Session } from './run.ts'
import { subscriberChecks } from './subscriber-checks.ts'
import { isUp, type Visit } from './visit.ts'
import { count, list, milliseconds } from './wording.ts'

/** How these peers are doing: as this node sees them, as others do, and as they see the others. */
export const explainPeer = async (
  { node, stop }: Session,
  called: readonly Peer[],
  findings: Findings,
): Promise<Answer> => {
  const checks = (await Promise.all(called.map((peer) => checksOf(node, peer, findings, stop)))).flat()
  const reaches = called.filter((peer) => isHere(peer, findings) && isUp(peer)).map(labelOf)
  const problems = checks.filter(({ verdict }) => verdict === 'problem').length
  const states = called.map((peer) => (isHere(peer, findings) ? peer.state : 'not known here'))
  const who =
    called.length === 1
      ? `this peer is ${states[0]}`
      : `${called.length} peers are called so: ${tally(states)}`
  const well = called.length === 1 ? 'nothing is wrong with it' : 'nothing is wrong with them'
  const trouble = problems === 0 ? well : count(problems, 'problem')
  const outcome = problems === 0 && reaches.length > 0 ? 'fine' : 'impaired'
  return { about: 'peer', outcome, conclusion: `${who}; ${trouble}`, reaches, checks }
}

/** `all up`, `1 up and 1 down`. */
const tally = (states: readonly string[]): string => {
  const kinds = [...new Set(states)]
  if (kinds.length === 1) return `all ${kinds[0]}`
  return list(kinds.map((kind) => `${states.filter((state) => state === kind).length} ${kind}`))
}

const isHere = ({ id, name }: Peer, { peers }: Findings): boolean =>
  peers.some((peer) => peer.id === id && peer.name === name)

const checksOf = async (node: Node, peer: Peer, findings: Findings, stop: AbortSignal): Promise<Check[]> => {
  if (peer.id === '') return seedChecks(findings).filter(({ subject }) => peer.name === `tcp://${subject}`)
  const views = viewChecks(findings, (id) => id === peer.id)
  if (!isHere(peer, findings)) return [unknownCheck(peer, findings), ...views]
  const visit = findings.visits.find((each) => each.peer.id === peer.id)
  const paces = visit?.status === undefined ? [] : await subscriberChecks(node, [visit], () => true, stop)
  return [
    peerCheck(peer, findings),
    ...(visit === undefined ? [] : visitChecks(visit)),
    ...views,
    ...(visit === undefined ? [] : outlookChecks(visit)),
    ...paces,
  ]
}

/** Others know it, and this node does not. */
const unknownCheck = (peer: Peer, { visits }: Findings): Check => {
  const by = visits.filter(({ status }) => status?.peers.some(({ id }) => id === peer.id))
  const names = list(by.map((each) => each.peer.name))
  const at = peer.endpoints.length === 0 ? '' : ` at ${list(peer.endpoints)}`
  const text = `${names} ${by.length === 1 ? 'knows' : 'know'} it (${peer.state})${at}, but it was not found from here`
  const remedy = 'see that this host reaches the addresses of that node, or run this where others do'
  return problem('peer', labelOf(peer), text, remedy)
}

const visitChecks = ({ peer, status, roundTripMs, aheadMs }: Visit): Check[] => {
  if (status === undefined) return []
  const subject = labelOf(peer)
  const { host, pid, runtime, protocol, address, open, lagMs, peers, responders } = status
  const ports = address === null ? '' : `, ports ${address.control}, ${address.feed} and ${address.delivery}`
  const where = address === null ? 'it only dials' : `it tells others ${list(address.hosts)}${ports}`
  const mode = open ? 'open to other hosts' : 'for its own host only'
  const ok = (check: string, text: string): Check => ({ check, subject, verdict: 'ok', text })
  const up = peers.filter(isUp).length
  const clock = clockChecks({ visits: [{ peer, status, roundTripMs, aheadMs, error: '' }] })
  const clockText = `within ${milliseconds(Math.abs(aheadMs) + roundTripMs / 2)} of this host's`
  const late = lagCheck(subject, lagMs)
  return [
    ok(
      'node',
      `process ${pid} on host ${host}, Node.js ${runtime}, version ${protocol} of the wire, ${mode}`,
    ),
    ok('address', where),
    ...(clock.some(({ verdict }) => verdict !== 'ok') ? clock : [ok('clock', clockText)]),
    ...(late.length > 0
      ? late
      : [ok('event-loop', `no stall of more than ${NOTE_MS} ms was seen in the last ten seconds`)]),
    ok('outlook', `it sees ${count(up, 'node')} up`),
    ok('responders', `it responds to ${responders.length === 0 ? 'nothing' : list(responders)}`),
  ]
}
