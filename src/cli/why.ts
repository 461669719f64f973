import { type NodeStatus, type Peer, surveyHost } from '../index.ts'
import type { Answer } from './check.ts'
import { findElsewhere } from './elsewhere.ts'
import { EXIT } from './exit.ts'
import type { Findings } from './peer-checks.ts'
import { printable } from './render.ts'
import { renderChecks } from './render-checks.ts'
import { type Globals, nodeOptionsOf, run, type Session } from './run.ts'
import { found, isUp, ownStatus, visitAll } from './visit.ts'
import { explainPeer } from './why-peer.ts'
import { explainTopic } from './why-topic.ts'

export interface WhyOptions extends Globals {
  json?: boolean
  timeoutMs?: number
}

const COMMAND = { name: 'why', listen: false }
/** For asking, after all have been found. */
const ASK_MS = 2000
const EXIT_OF = { fine: EXIT.ok, impaired: EXIT.error, nobody: EXIT.nobody } as const

/** `skein why`: why what is published or asked under a name does not arrive, or how a peer is doing. */
export const why = (subject: string, options: WhyOptions): Promise<number> =>
  // What the node warns of stands in the answer.
  run({ ...options, quiet: true }, COMMAND, async (session) => {
    const { node, stop } = session
    const startedAt = performance.now()
    const nodeOptions = nodeOptionsOf(options, COMMAND)
    const [survey] = await Promise.all([surveyHost(nodeOptions), found(node, options.timeoutMs, stop)])
    const { peers } = node
    const visits = await visitAll(node, peers.filter(isUp), {
      stop,
      endAt: performance.now() + ASK_MS,
      topic: subject,
    })
    const self = (await ownStatus(node, subject)) as NodeStatus
    const waitedMs = performance.now() - startedAt
    const findings: Findings = { survey, self, peers, visits, warnings: [], waitedMs }
    const called = peersCalled(subject, findings)
    // What no peer is called has to be a topic, or it is refused here.
    if (called.length === 0) await node.waitForSubscribers(subject, { count: 0, timeoutMs: 0 })
    const answer =
      called.length === 0
        ? await explainTopic(session, subject, findings, () =>
            findElsewhere(subject, survey, nodeOptions, stop),
          )
        : await explainPeer(session, called, findings)
    return report(session, subject, answer, options)
  })

const report = async (
  { output }: Session,
  subject: string,
  answer: Answer,
  options: WhyOptions,
): Promise<number> => {
  const { conclusion, checks } = answer
  if (options.json === true || options.format === 'json') {
    await output.write(`${JSON.stringify({ ok: answer.outcome === 'fine', subject, ...answer })}\n`)
  } else {
    const style = { colour: process.stdout.isTTY && process.env.NO_COLOR === undefined }
    await output.write(`${printable(`${subject}: ${conclusion}`)}\n\n${renderChecks(checks, style)}`)
  }
  return EXIT_OF[answer.outcome]
}

/** Peers of this name, id, beginning of an id, or address, and those that only others know. */
const peersCalled = (wanted: string, { peers, visits, self }: Findings): Peer[] => {
  const all = new Map<string, Peer>()
  for (const { status } of visits) {
    for (const peer of status?.peers ?? []) if (peer.id !== '' && peer.id !== self.id) all.set(peer.id, peer)
  }
  for (const peer of peers) all.set(peer.id === '' ? peer.name : peer.id, peer)
  const isCalled = ({ id, name, endpoints }: Peer): boolean =>
    id === wanted ||
    name === wanted ||
    [name, ...endpoints].includes(`tcp://${wanted.replace('tcp://', '')}`) ||
    (/^[0-9a-f]{4,32}$/.test(wanted) && id.startsWith(wanted))
  return [...all.values()].filter(isCalled)
}
