import { createNode, inspectOwed, type Node, type NodeOptions } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { queuesOf } from './holders.ts'
import { type PayloadOptions, readPayloads, sourceOf } from './input.ts'
import { nearest } from './nearest.ts'
import { areHeld, sendOwed, waitUntil } from './owed.ts'
import { type Globals, run, type Session } from './run.ts'
import { isUp, visitAll } from './visit.ts'
import { askWhy, count, list, milliseconds, quoted } from './wording.ts'

export interface SendingOptions extends Globals, PayloadOptions {
  header?: Record<string, string>
  count?: number
  intervalMs?: number
  timeoutMs?: number
  key?: string
  delayMs?: number
  ttlMs?: number
  dedupeId?: string
  verbose?: boolean
}

export interface PushOptions extends SendingOptions {
  held?: boolean
}

export const HANDLED_MS = 10_000
/** For looking who works on what. */
const ASK_MS = 1000

/** How a message is to be sent. */
export const sendOptionsOf = ({ header, key, delayMs, ttlMs, dedupeId }: SendingOptions) => ({
  ...(header !== undefined && { headers: header }),
  ...(key !== undefined && { key }),
  ...(delayMs !== undefined && { delayMs }),
  ...(ttlMs !== undefined && { ttlMs }),
  ...(dedupeId !== undefined && { dedupeId }),
})

/** What nobody keeps has to be due, and handled, while this process is there. */
export const checkWaiting = ({ dataDir, delayMs = 0 }: SendingOptions, timeoutMs: number): void => {
  if (!dataDir && timeoutMs === 0)
    throw new CliError(
      EXIT.usage,
      '--timeout 0 is for what is kept: name a directory with --data-dir, or wait until it is handled',
    )
  if (dataDir || delayMs < timeoutMs || delayMs === 0) return
  throw new CliError(
    EXIT.usage,
    `a delay of ${milliseconds(delayMs)} is longer than this command waits (--timeout, ${milliseconds(timeoutMs)}), ` +
      'and it keeps nothing when it ends: name a directory with --data-dir',
  )
}

/** `skein push`: puts work into a queue, and ends when it is done. */
export const push = async (
  queue: string | undefined,
  payload: string | undefined,
  options: PushOptions,
): Promise<number> => {
  const { timeoutMs = HANDLED_MS } = options
  const dataDir = options.dataDir || undefined
  if (options.held === true) return pushHeld(queue, dataDir, timeoutMs, options)
  if (queue === undefined) throw new CliError(EXIT.usage, 'name the queue: skein push QUEUE [PAYLOAD]')
  checkWaiting(options, timeoutMs)
  const source = sourceOf(payload, options.file)
  return run(options, { name: 'push', listen: false, owes: true }, (session) =>
    sendOwed(
      session,
      readPayloads(source, { ...options, stop: session.stop }),
      async (read) => session.node.push(queue, read(), sendOptionsOf(options)),
      {
        ...{ ...options, dataDir, timeoutMs, askWhy: askWhy(queue, session.node.mesh) },
        remedy: () => whoWorks(session, queue),
      },
    ),
  )
}

/** What helps where nobody has handled it: somebody may work on a queue of nearly this name. */
const whoWorks = async ({ node, stop }: Session, queue: string): Promise<string> => {
  const endAt = performance.now() + ASK_MS
  const queues = queuesOf(await visitAll(node, node.peers.filter(isUp), { stop, endAt }))
  const workers = queues.get(queue)
  if (workers !== undefined) return `see what keeps its workers busy (${list(workers)})`
  const worker = `start a worker ("skein pull ${quoted(queue)}")`
  const [near] = nearest(queue, queues.keys(), 1)
  if (near === undefined) return worker
  return `push to "${near.text}" if that was meant, on which ${list(queues.get(near.text)!)} works, or ${worker}`
}

/** Hands over what a data directory holds. */
const pushHeld = (
  queue: string | undefined,
  dataDir: string | undefined,
  timeoutMs: number,
  options: PushOptions,
): Promise<number> => {
  if (queue !== undefined) throw new CliError(EXIT.usage, '--held pushes nothing new: leave the queue out')
  if (dataDir === undefined)
    throw new CliError(EXIT.usage, '--held needs the --data-dir that holds something')
  const open = async (nodeOptions: NodeOptions): Promise<Node> => {
    // Looked at first: to open a directory that is none would make one.
    await inspectOwed(dataDir)
    return createNode(nodeOptions)
  }
  return run(options, { name: 'push', listen: false, owes: true, open }, (session) =>
    handOver(session, dataDir, timeoutMs),
  )
}

const handOver = async (
  { node, stop, note }: Session,
  dataDir: string,
  timeoutMs: number,
): Promise<number> => {
  let dead = 0
  node.on('dead-letter', () => dead++)
  const held = node.stats().owed
  note(held === 0 ? `"${dataDir}" holds nothing` : `handing over ${count(held, 'message')}`)
  const isDone = await waitUntil(() => node.stats().owed === 0, timeoutMs, stop)
  const { owed } = node.stats()
  const rest = `${count(owed, 'message')} ${areHeld(owed, dataDir)}`
  if (stop.aborted && owed > 0) note(rest)
  else if (!isDone) throw new CliError(EXIT.timeout, `after ${milliseconds(timeoutMs)} ${rest}`)
  if (dead === 0) return EXIT.ok
  throw new CliError(
    dead === held ? EXIT.remote : EXIT.partial,
    `${count(dead, 'message')} became dead letters: skein dead-letters ls --data-dir ${quoted(dataDir)}`,
  )
}
