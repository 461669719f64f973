import { setTimeout as sleep } from 'node:timers/promises'
import {
  createNode,
  type HostSurvey,
  isSkeinError,
  type Node,
  type NodeOptions,
  type NodeStatus,
  type SkeinError,
  surveyHost,
} from '../index.ts'
import { hasProblem } from './check.ts'
import { EXIT } from './exit.ts'
import { type Asked, hostChecks } from './host-checks.ts'
import { meshChecks, warningChecks } from './mesh-checks.ts'
import { dialBackState, type Findings } from './peer-checks.ts'
import { renderChecks, renderSummary } from './render-checks.ts'
import { type Globals, run, type Session } from './run.ts'
import { found, isUp, ownStatus, type Visit, visitAll } from './visit.ts'

export interface DoctorOptions extends Globals {
  json?: boolean
  timeoutMs?: number
}

/** A peer that is there gives up dialling back after five seconds, and then says so. */
const DIALLED_BACK_MS = 6000
const LOOK_AGAIN_MS = 200
/** For asking, after all have been found. */
const ASK_MS = 2000
/** Whoever is not reachable shall not hold up the end. */
const CLOSE_MS = 500

/** `skein doctor`: joins the mesh as any node would, and says what is wrong and what helps. */
export const doctor = (options: DoctorOptions): Promise<number> => {
  let survey: HostSurvey | undefined
  const open = async (wanted: NodeOptions): Promise<Node> => {
    survey = await surveyHost(wanted)
    return openAnyway({ ...wanted, closeTimeoutMs: CLOSE_MS }, survey)
  }
  // What the node warns of stands in the report.
  return run({ ...options, quiet: true }, { name: 'doctor', listen: true, open }, async (session) => {
    const warnings: SkeinError[] = []
    session.node.on('warning', (warning) => warnings.push(warning))
    const findings = await look(session, survey!, options, warnings)
    return report(session, findings, options)
  })
}

/** With the options that were asked for, as far as this host lets it: what it does not is told. */
const openAnyway = async (wanted: NodeOptions, { listening }: HostSurvey): Promise<Node> => {
  const options = listening?.fault === undefined ? wanted : { ...wanted, bind: undefined }
  if (listening?.ports.some(({ state }) => state !== 'free') === true)
    return createNode({ ...options, port: 0 })
  try {
    return await createNode(options)
  } catch (error) {
    // Taken since it was looked at.
    if (!isSkeinError(error, 'ADDRESS_IN_USE')) throw error
    return createNode({ ...options, port: 0 })
  }
}

const look = async (
  { node, stop }: Session,
  survey: HostSurvey,
  { timeoutMs }: DoctorOptions,
  warnings: SkeinError[],
): Promise<Findings> => {
  const startedAt = performance.now()
  const endAt = startedAt + (timeoutMs ?? DIALLED_BACK_MS)
  await found(node, timeoutMs, stop)
  const visiting = { stop, endAt: endAt + ASK_MS }
  let visits = await visitAll(node, node.peers.filter(isUp), visiting)
  // A peer that has not dialled back yet may be about to.
  for (;;) {
    const pending = visits.filter((each) => isPending(each, node.id)).map(({ peer }) => peer)
    if (pending.length === 0 || performance.now() >= endAt) break
    await sleep(LOOK_AGAIN_MS, undefined, { signal: stop })
    const again = await visitAll(node, pending, visiting)
    visits = visits.map((each) => again.find(({ peer }) => peer === each.peer) ?? each)
  }
  const self = (await ownStatus(node)) as NodeStatus
  const waitedMs = performance.now() - startedAt
  return { survey, self, peers: node.peers, visits, warnings, waitedMs }
}

/** It has neither dialled this node back, nor given up. */
const isPending = (each: Visit, selfId: string): boolean => {
  const us = dialBackState(each, selfId)
  return each.status !== undefined && us !== undefined && (us === 'unknown' || us.state !== 'one-way')
}

const askedBy = (options: DoctorOptions, { mesh, open }: HostSurvey): Asked => ({
  ...{ mesh, open },
  mdns: options.mdns,
  bind: options.bind,
  interface: options.interface,
  advertise: options.advertise,
})

const report = async ({ output }: Session, findings: Findings, options: DoctorOptions): Promise<number> => {
  const { survey, self } = findings
  const { address } = self
  const ports = address === null ? [] : [address.control, address.feed, address.delivery]
  const found = [...hostChecks(survey, askedBy(options, survey), ports), ...meshChecks(findings)]
  const checks = [...found, ...warningChecks(findings.warnings, found)]
  const ok = !hasProblem(checks)
  if (options.json === true || options.format === 'json') {
    const { id, name, mesh } = self
    await output.write(`${JSON.stringify({ ok, node: { id, name, mesh, ports }, checks })}\n`)
  } else {
    const style = { colour: process.stdout.isTTY && process.env.NO_COLOR === undefined }
    await output.write(`${renderChecks(checks, style)}\n${renderSummary(checks, style)}`)
  }
  return ok ? EXIT.ok : EXIT.error
}
