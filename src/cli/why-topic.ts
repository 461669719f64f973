import { matches, type Peer, type SubscriptionStatus } from '../index.ts'
import type { Answer, Check } from './check.ts'
import type { Elsewhere, Search } from './elsewhere.ts'
import { holders, MAX_LENGTH, patternsOf, queuesOf } from './holders.ts'
import { othersNear, sameMesh, seedChecks, wrongMesh } from './mesh-checks.ts'
import { type Near, nearest } from './nearest.ts'
import {
  type Findings,
  labelOf,
  outlookChecks,
  peerCheck,
  problem,
  REACHABLE,
  RESPONSIVE,
  viewChecks,
} from './peer-checks.ts'
import type { Session } from './run.ts'
import { isWorker } from './status.ts'
import { subscriberChecks } from './subscriber-checks.ts'
import { isUp, type Visit } from './visit.ts'
import { count, list, quoted } from './wording.ts'

/** Few enough to be listed as a whole. */
const SHORT = 12

/** Whether what is published, pushed or asked under this name would arrive now, and if not why. */
export const explainTopic = async (
  { node, stop }: Session,
  topic: string,
  findings: Findings,
  findElsewhere: () => Promise<Search>,
): Promise<Answer> => {
  const { visits, self } = findings
  const isWanted = ({ pattern }: SubscriptionStatus): boolean => isMatch(pattern, topic)
  const takers = visits.filter(({ status }) => status?.subscriptions.some(isWanted))
  const isTaker = (visit: Visit, worker: boolean): boolean =>
    visit.status?.subscriptions.some((each) => isWanted(each) && isWorker(each) === worker) === true
  const subscribers = takers.filter((visit) => isTaker(visit, false))
  const workers = takers.filter((visit) => isTaker(visit, true))
  const responders = visits.filter(({ status }) => status?.responders.includes(topic))
  const near = [...new Set([...takers, ...responders])]
  const nearIds = new Set(near.map(({ peer }) => peer.id))
  const farIds = [self, ...visits.map(({ status }) => status)]
    .flatMap((status) => status?.wanting ?? [])
    .filter((id) => !nearIds.has(id))
  if (near.length + farIds.length === 0) return explainNobody(topic, findings, await findElsewhere())

  const checks = [
    ...(await subscriberChecks(node, takers, isWanted, stop)),
    ...responders.map(({ peer }) => responderCheck(peer, topic)),
    ...near.filter(({ peer }) => peer.state !== 'up').map(({ peer }) => peerCheck(peer, findings)),
    ...viewChecks(findings, (id) => nearIds.has(id)),
    ...near.flatMap((visit) => outlookChecks(visit)),
    ...[...new Set(farIds)].map((id) => farCheck(id, findings)),
    ...absentChecks(findings, farIds),
    ...(takers.length === 0 ? [] : otherRoads(topic, subscribers.length > 0, workers.length > 0)),
  ]
  const problems = checks.filter(({ verdict }) => verdict === 'problem').length
  const outcome = problems > 0 ? 'impaired' : 'fine'
  const conclusion = [
    ...(subscribers.length === 0
      ? []
      : [`${count(subscribers.length, 'node')} would get what is published: ${namesOf(subscribers)}`]),
    ...(workers.length === 0
      ? []
      : [`${count(workers.length, 'worker')} would get what is pushed: ${namesOf(workers)}`]),
    ...(responders.length === 0
      ? []
      : [`${count(responders.length, 'node')} would answer what is asked: ${namesOf(responders)}`]),
    ...(near.length === 0 ? ['nobody who wants it can be reached'] : []),
    ...(problems === 0 ? [] : [count(problems, 'problem')]),
  ].join('; ')
  return { about: 'topic', outcome, conclusion, reaches: near.map(({ peer }) => labelOf(peer)), checks }
}

const namesOf = (visits: readonly Visit[]): string => list(visits.map(({ peer }) => peer.name))

/** A peer may say anything of what it subscribes to. */
const isMatch = (pattern: string, topic: string): boolean =>
  pattern.length <= MAX_LENGTH && matches(pattern, topic)

/** A name is that of a topic and that of a queue, and what is sent to the one never comes to the other. */
const otherRoads = (topic: string, isSubscribed: boolean, isQueue: boolean): Check[] => [
  ...(isSubscribed
    ? []
    : [
        note(
          'subscriber',
          `nobody subscribes to it: what is published (skein pub ${quoted(topic)}) reaches nobody`,
        ),
      ]),
  ...(isQueue
    ? []
    : [
        note(
          'worker',
          `nobody works on a queue of this name: what is pushed (skein push ${quoted(topic)}) waits or is lost`,
        ),
      ]),
]

const note = (check: string, text: string): Check => ({ check, verdict: 'note', text })

const responderCheck = (peer: Peer, topic: string): Check => ({
  check: 'responder',
  subject: labelOf(peer),
  verdict: 'ok',
  text: `responds to "${topic}"`,
})

/** One that wants it, as others know, and cannot be reached: by them, or from here. */
const farCheck = (id: string, { visits, peers }: Findings): Check => {
  const views = [
    { by: 'this node', peers },
    ...visits.map(({ peer, status }) => ({ by: peer.name, peers: status?.peers ?? [] })),
  ]
  const told = views.flatMap(({ by, peers: all }) => {
    const peer = all.find((each) => each.id === id && each.state !== 'up')
    return peer === undefined ? [] : [{ by, peer }]
  })
  // Whoever has met it knows more of it.
  const peer = (told.find((each) => each.peer.state !== 'seen') ?? told[0])?.peer
  const by = list(told.filter((each) => each.peer.state === peer?.state).map((each) => each.by))
  const subject = peer === undefined ? id.slice(0, 8) : labelOf(peer)
  const state = peer?.state === 'one-way' ? 'cannot be dialled (one-way)' : `is ${peer?.state ?? 'not up'}`
  const why = peer?.reason === undefined ? '' : `: ${peer.reason}`
  // Whether as a subscriber or as a responder, those who are up do not say.
  const text = `it subscribes or responds to this, but ${state} for ${by}${why}`
  return problem('peer', subject, text, peer?.state === 'one-way' ? REACHABLE : RESPONSIVE)
}

/** Those of whom nobody knows what they want. */
const absentChecks = (findings: Findings, known: readonly string[]): Check[] =>
  findings.peers
    .filter((peer) => !isUp(peer) && peer.id !== '' && !known.includes(peer.id))
    .map((peer) => {
      const check = peerCheck(peer, findings)
      return { ...check, verdict: 'note', text: `${check.text}; what it wants is not known` }
    })

const explainNobody = (topic: string, findings: Findings, elsewhere: Search): Answer => {
  const { survey, peers } = findings
  const { mesh } = survey
  const up = peers.filter(isUp).length
  const isAbsent = (peer: Peer): boolean => !isUp(peer) && peer.id !== ''
  const rest = [
    ...peers.filter(isAbsent).map((peer) => peerCheck(peer, findings)),
    ...seedChecks(findings).filter(({ verdict }) => verdict === 'problem'),
    ...unaskedNote(elsewhere),
  ]
  const base = { about: 'topic', outcome: 'nobody', reaches: [] } as const
  const having = elsewhere.found
  const found = having.length === 0 ? '' : `, but mesh ${list(having.map((each) => `"${each.mesh}"`))} has it`
  const others = othersNear(findings)
  if (up > 0) {
    const conclusion = `nobody subscribes to it, responds to it or works on it, of ${count(up, 'node')} up in mesh "${mesh}"${found}`
    const near = having.length > 0 ? having.map((each) => hadCheck(each)) : othersNote(others)
    return { ...base, conclusion, checks: [...near, ...thereChecks(topic, findings), ...rest] }
  }
  if (others.size > 0) {
    const conclusion = `nobody is in mesh "${mesh}"${found === '' ? ': perhaps it is the wrong one' : found}`
    const wrong = having.length > 0 ? having.map((each) => hadCheck(each)) : [wrongMeshCheck(mesh, others)]
    return { ...base, conclusion, checks: [...wrong, ...rest] }
  }
  const beyond = survey.open ? '' : '; for nodes of other hosts give all of them --open'
  const remedy = `${startOne(topic)} in the same mesh${beyond}. skein doctor looks further`
  const conclusion = `nobody else is in mesh "${mesh}"`
  return { ...base, conclusion, checks: [problem('mesh', mesh, 'no other node is up', remedy), ...rest] }
}

const wrongMeshCheck = (mesh: string, others: ReadonlyMap<string, string>): Check =>
  problem('mesh', mesh, ...wrongMesh(mesh, others))

/** Another mesh of this host has what is sought. */
const hadCheck = ({ mesh, has }: Elsewhere): Check =>
  problem('mesh', mesh, `this other mesh of this host has it: ${list(has)}`, sameMesh(mesh))

const unaskedNote = ({ unasked }: Search): Check[] => {
  if (unasked === 0) return []
  const text = `${unasked} more ${unasked === 1 ? 'mesh of this host was' : 'meshes of this host were'} not asked`
  return [{ ...note('mesh', text), remedy: 'name the one that is meant with --mesh' }]
}

const othersNote = (others: ReadonlyMap<string, string>): Check[] => {
  const near = [...others].map(([name, who]) => `mesh "${name}" (${who})`)
  const text = `nodes of other meshes are never seen; near is ${list(near)}`
  return near.length === 0 ? [] : [{ check: 'mesh', verdict: 'note', text }]
}

const startOne = (topic: string): string =>
  `start a subscriber (skein sub ${topic}), a worker (skein pull ${topic}) or a responder (skein respond ${topic} --echo)`

/** What there is instead: what comes nearest, and all of it where that is short. */
const thereChecks = (topic: string, { visits, survey }: Findings): Check[] => {
  const patterns = holders(visits, (status) => patternsOf(status, false))
  const queues = queuesOf(visits)
  const names = holders(visits, ({ responders }) => responders)
  const near = [
    ...nearest(topic, patterns.keys()).map((each) => {
      const remedy = `if that one was meant, make topic and pattern agree: publish what "${each.text}" matches, or subscribe to "${topic}"`
      return nearCheck('subscription', each, patterns, remedy)
    }),
    ...nearest(topic, queues.keys()).map((each) =>
      nearCheck('queue', each, queues, `if that one was meant, push to "${each.text}"`),
    ),
    ...nearest(topic, names.keys()).map((each) =>
      nearCheck('responder', each, names, `if that one was meant, ask for "${each.text}"`),
    ),
  ]
  const far = problem(
    ...([
      'topic',
      topic,
      `nothing that is subscribed to, worked on or responded to comes near "${topic}"`,
    ] as const),
    `${startOne(topic)} in mesh "${survey.mesh}"`,
  )
  return [
    ...(near.length > 0 ? near : [far]),
    ...thereIs('subscriptions', [...patterns.keys()]),
    ...thereIs('queues', [...queues.keys()]),
    ...thereIs('responders', [...names.keys()]),
  ]
}

const nearCheck = (
  check: string,
  { text, difference }: Near,
  whose: ReadonlyMap<string, readonly string[]>,
  remedy: string,
): Check => {
  const what = `"${text}" of ${list(whose.get(text) ?? [])} comes near and does not match: ${difference}`
  return problem(check, text, what, remedy)
}

const thereIs = (check: string, what: readonly string[]): Check[] => {
  if (what.length > SHORT) return []
  const all = list(
    what.map((each) => `"${each}"`),
    SHORT,
  )
  const text = what.length === 0 ? 'there is none in the whole mesh' : `all that there are: ${all}`
  return [{ check, verdict: 'note', text }]
}
