import type { HostSurvey, NodeStatus, Peer, PeerState, SkeinError } from '../index.ts'
import type { Check } from './check.ts'
import { explainRefusal, refusalOf } from './refusal.ts'
import { isUp, type Visit } from './visit.ts'
import { list, milliseconds } from './wording.ts'

/** From so many on it is worth a word, and from so many on something suffers. */
export const NOTE_MS = 100
const PROBLEM_MS = 1000

/** What a node has found out by being in the mesh for a while. */
export interface Findings {
  readonly survey: HostSurvey
  /** What this node says of itself. */
  readonly self: NodeStatus
  readonly peers: readonly Peer[]
  /** Of those that are up. */
  readonly visits: readonly Visit[]
  readonly warnings: readonly SkeinError[]
  /** How long the others had to come. */
  readonly waitedMs: number
}

export const labelOf = ({ id, name }: Pick<Peer, 'id' | 'name'>): string => `${name} (${id.slice(0, 8)})`

export const problem = (check: string, subject: string, text: string, remedy: string): Check => ({
  ...{ check, subject, text, remedy },
  verdict: 'problem',
})

export const REACHABLE =
  'open those ports in the firewall there, or give that node --advertise with an address that others reach'

export const RESPONSIVE =
  'see whether its process is stopped or busy: one that blocks its event loop answers nobody'

/** Whether a peer is up in both directions, and if not why. */
export const peerCheck = (peer: Peer, findings: Findings): Check => {
  const check = 'peer'
  const subject = labelOf(peer)
  const at = list(peer.endpoints)
  switch (peer.state) {
    case 'one-way':
      return problem(
        check,
        subject,
        `one-way: it reaches this node, but cannot be dialled: ${peer.reason ?? 'nobody answers at its addresses'}`,
        REACHABLE,
      )
    case 'down':
      return problem(
        check,
        subject,
        `it was there and is lost: ${peer.reason ?? 'no reason is known'}`,
        'see whether its process still runs, and what it said last',
      )
    case 'seen': {
      const where = peer.endpoints.length === 0 ? 'the addresses it tells' : at
      const wait = { mesh: findings.survey.mesh, waitedMs: findings.waitedMs }
      return problem(check, subject, ...explainRefusal(refusalOf(peer), where, wait))
    }
    default:
      return visitCheck(peer, findings)
  }
}

const visitCheck = (peer: Peer, findings: Findings): Check => {
  const check = 'peer'
  const subject = labelOf(peer)
  const visit = findings.visits.find((each) => each.peer.id === peer.id)
  if (peer.state === 'suspect' || visit?.status === undefined) {
    const why = peer.state === 'suspect' ? 'it does not answer pings' : (visit?.error ?? 'it was not asked')
    const text = `connected at ${peer.endpoints[0]}, but it does not answer: ${why}`
    return problem(check, subject, text, RESPONSIVE)
  }
  const back = dialBackOf(visit, findings)
  if (back !== undefined) return back
  const how = findings.self.address === null ? 'answers' : 'up both ways, answers'
  const text = `${how} in ${milliseconds(visit.roundTripMs)} at ${peer.endpoints[0]}, found by ${list(peer.foundBy)}`
  return { check, subject, verdict: 'ok', text }
}

/** How a peer sees this node: undefined where it has dialled it back. */
export const dialBackState = ({ status }: Visit, selfId: string): Peer | 'unknown' | undefined => {
  const us = status?.peers.find(({ id }) => id === selfId)
  if (us === undefined) return 'unknown'
  return isUp(us) ? undefined : us
}

const dialBackOf = (visit: Visit, { self, waitedMs }: Findings): Check | undefined => {
  const us = dialBackState(visit, self.id)
  // A node that only dials is dialled by nobody.
  if (us === undefined || self.address === null) return undefined
  const { hosts, control, feed, delivery } = self.address
  const at = list(hosts.map((host) => `${host}:${control}`))
  const reason =
    us !== 'unknown' && us.reason !== undefined && us.reason !== '' ? ` (it says: ${us.reason})` : ''
  const since = us !== 'unknown' && us.state === 'one-way' ? '' : ` within ${milliseconds(waitedMs)}`
  const text = `one-way: this node reaches it, but it has not reached this node back at ${at}${since}${reason}`
  const remedy = `let it connect to TCP ports ${control}, ${feed} and ${delivery} of this host (firewall; --port makes them fixed), or give this node --advertise with an address that it reaches`
  return problem('dial-back', labelOf(visit.peer), text, remedy)
}

/** States of a peer that was met, and is not as it should be. */
const LOST: readonly string[] = ['one-way', 'suspect', 'down'] satisfies PeerState[]

/** What peers say of others, of all or of some, that this node does not see itself. */
export const viewChecks = (
  { self, visits, peers }: Findings,
  concerns: (id: string) => boolean = () => true,
): Check[] => {
  const views = new Map<string, { about: Peer; by: string[] }>()
  const oneWay = new Set(peers.filter(({ state }) => state === 'one-way').map(({ id }) => id))
  const isNews = ({ id, state }: Peer): boolean =>
    id !== self.id && id !== '' && LOST.includes(state) && !(state === 'one-way' && oneWay.has(id))
  for (const { peer, status } of visits) {
    for (const about of status?.peers ?? []) {
      if (!isNews(about) || !concerns(about.id)) continue
      const key = `${about.state} ${about.id}`
      const view = views.get(key) ?? { about, by: [] }
      view.by.push(peer.name)
      views.set(key, view)
    }
  }
  return [...views.values()].map(({ about, by }): Check => {
    const subject = labelOf(about)
    const isHere = peers.some((peer) => peer.id === about.id && isUp(peer))
    const why = about.reason === undefined ? '' : `: ${about.reason}`
    if (about.state === 'one-way') {
      const text = `one-way for ${list(by)}, which it reaches but which cannot dial it${why}`
      return problem('view', subject, text, REACHABLE)
    }
    if (isHere) {
      const text = `up here, but ${about.state} for ${list(by)}${why}`
      const remedy = 'see that these hosts reach each other: addresses, routes, firewalls'
      return problem('view', subject, text, remedy)
    }
    return { check: 'view', subject, verdict: 'note', text: `${about.state} for ${list(by)}${why}` }
  })
}

/** Those whom a node does not reach itself: what they publish or ask may not arrive there. */
export const outlookChecks = ({ peer, status }: Visit): Check[] =>
  (status?.peers ?? [])
    .filter(({ id, state }) => id !== '' && LOST.includes(state))
    .map((other): Check => {
      const check = 'outlook'
      const subject = labelOf(peer)
      const why = other.reason === undefined ? '' : `: ${other.reason}`
      const text = `it sees ${labelOf(other)} as ${other.state}, so that what comes from there may not arrive${why}`
      const remedy = 'see that node, and whether a firewall or a wrong --advertise stands between the two'
      // Whoever has ended is down for a minute, and that is as it should be.
      if (other.state === 'down') return { check, subject, verdict: 'note', text }
      return { check, subject, verdict: 'problem', text, remedy }
    })

export const clockChecks = ({ visits }: Pick<Findings, 'visits'>): Check[] => {
  const check = 'clock'
  const answered = visits.filter(({ status }) => status !== undefined)
  const off = answered.flatMap((visit): Check[] => {
    const { aheadMs, roundTripMs, peer } = visit
    // Only what the time of the round trip cannot explain.
    const certainMs = Math.abs(aheadMs) - roundTripMs / 2
    if (certainMs <= NOTE_MS) return []
    const text = `its clock is ${milliseconds(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead of' : 'behind'} this host's`
    const remedy = 'set the clocks of both hosts by NTP: times in messages and logs cannot be compared'
    return [
      { check, subject: labelOf(peer), verdict: certainMs > PROBLEM_MS ? 'problem' : 'note', text, remedy },
    ]
  })
  if (off.length > 0 || answered.length === 0) return off
  return [{ check, verdict: 'ok', text: `all agree within ${NOTE_MS} ms` }]
}

/** An event loop that was held up lately. */
export const lagCheck = (subject: string, lagMs: number): Check[] => {
  if (lagMs <= NOTE_MS) return []
  const text = `it was held up for at least ${milliseconds(lagMs)} at a stretch, until less than ten seconds ago: messages and answers waited as long`
  const remedy =
    'find what keeps it busy (node --cpu-prof) and move it to a worker thread, or give the host more CPU; a process or machine that was paused shows like this, too'
  const verdict = lagMs > PROBLEM_MS ? 'problem' : 'note'
  return [{ check: 'event-loop', subject, verdict, text, remedy }]
}
