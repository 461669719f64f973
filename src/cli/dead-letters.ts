import {
  createNode,
  type DeadLetter,
  inspectOwed,
  isSkeinError,
  type Node,
  type NodeOptions,
  readOwner,
} from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { sendOwed, waitUntil } from './owed.ts'
import { HANDLED_MS } from './push.ts'
import { renderDeadLetter, renderDeadLetters } from './render-owed.ts'
import { type Command, type Globals, run, runAlone, type Session } from './run.ts'
import { count } from './wording.ts'

export interface DeadLettersOptions extends Globals {
  all?: boolean
  timeoutMs?: number
  verbose?: boolean
}

/** What every node with a data directory answers to. */
const DEAD_LETTERS = '$skein.dead-letters'

/** So many are asked for at a time. */
const AT_ONCE = 256
const FIND_MS = 3000
const ANSWER_MS = 15_000

/** `skein dead-letters ls`: what was given up. */
export const listDeadLetters = (options: DeadLettersOptions): Promise<number> =>
  runAlone(options, async ({ output, format, note }) => {
    const letters = await deadLettersIn(options)
    await output.write(renderDeadLetters(letters, format, Date.now()))
    if (letters.length === 0) note(`there are no dead letters in "${options.dataDir}"`)
    return EXIT.ok
  })

/** `skein dead-letters show`: one of them, with its value. */
export const showDeadLetter = (id: string, options: DeadLettersOptions): Promise<number> =>
  runAlone(options, async ({ output, format }) => {
    const letter = (await deadLettersIn(options)).find((each) => each.id === id)
    if (letter === undefined) throw unknown(id, directoryOf(options))
    await output.write(renderDeadLetter(letter, format))
    return EXIT.ok
  })

/** `skein dead-letters retry`: they are owed again, and handed over. */
export const retryDeadLetters = (ids: readonly string[], options: DeadLettersOptions): Promise<number> =>
  settle('retry', ids, options, (session, wanted, dataDir) => {
    const { node } = session
    const { timeoutMs = HANDLED_MS } = options
    const sending = { ...options, dataDir, timeoutMs, remedy: () => 'start who handles them' }
    return sendOwed(session, eachOf(wanted), (id) => node.deadLetters.retry(id), sending)
  })

/** `skein dead-letters drop`: they are forgotten. */
export const dropDeadLetters = (ids: readonly string[], options: DeadLettersOptions): Promise<number> =>
  settle('drop', ids, options, async ({ node, note }, wanted) => {
    for (const id of wanted) await node.deadLetters.drop(id)
    note(`${count(wanted.length, 'dead letter')} dropped`)
    return EXIT.ok
  })

const directoryOf = ({ dataDir }: Globals): string => {
  if (dataDir) return dataDir
  throw new CliError(
    EXIT.usage,
    'dead letters are in the data directory of their sender: name it with --data-dir',
  )
}

const deadLettersIn = async (options: Globals): Promise<readonly DeadLetter[]> =>
  (await inspectOwed(directoryOf(options))).deadLetters

const unknown = (id: string, dataDir: string): CliError =>
  new CliError(EXIT.error, `"${dataDir}" holds no dead letter ${id}: see skein dead-letters ls`)

async function* eachOf(ids: readonly string[]): AsyncGenerator<string> {
  yield* ids
}

/** Opens the data directory, or where a node has it open lets that node do it. */
const settle = async (
  action: 'retry' | 'drop',
  ids: readonly string[],
  options: DeadLettersOptions,
  ourselves: (session: Session, ids: readonly string[], dataDir: string) => Promise<number>,
): Promise<number> => {
  if ((ids.length === 0) === (options.all !== true))
    throw new CliError(EXIT.usage, `say which to ${action}: ids, or --all`)
  let isOwner = true
  const open = async (nodeOptions: NodeOptions): Promise<Node> => {
    // Looked at first: to open a directory that is none would make one.
    await inspectOwed(directoryOf(options))
    try {
      return await createNode(nodeOptions)
    } catch (error) {
      if (!isSkeinError(error, 'JOURNAL_LOCKED')) throw error
    }
    isOwner = false
    const { dataDir: _dataDir, ...without } = nodeOptions
    return createNode(without)
  }
  const command: Command = { name: 'dead-letters', listen: false, owes: true, open }
  return run(options, command, async (session) => {
    const dataDir = directoryOf(options)
    const { nodeId, deadLetters } = await inspectOwed(dataDir)
    const wanted = options.all === true ? deadLetters.map(({ id }) => id) : ids
    for (const id of ids) if (!deadLetters.some((letter) => letter.id === id)) throw unknown(id, dataDir)
    if (wanted.length === 0) {
      session.note(`there are no dead letters in "${dataDir}"`)
      return EXIT.ok
    }
    return isOwner ? ourselves(session, wanted, dataDir) : byOwner(session, action, wanted, nodeId, dataDir)
  })
}

const byOwner = async (
  { node, stop, note }: Session,
  action: 'retry' | 'drop',
  ids: readonly string[],
  owner: string,
  dataDir: string,
): Promise<number> => {
  const isThere = (): boolean => node.peers.some(({ id, state }) => id === owner && state === 'up')
  if (!(await waitUntil(isThere, FIND_MS, stop))) {
    throw new CliError(
      EXIT.nobody,
      `"${dataDir}" belongs to a node that runs, and that node (${owner}) was not found in mesh "${node.mesh}": ` +
        'name its mesh with --mesh, or stop it first',
    )
  }
  const proof = await readOwner(dataDir)
  let done = 0
  let failure: string | undefined
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    const query = { do: action, ids: ids.slice(from, from + AT_ONCE), proof }
    const answer = readAnswer(
      await node.request(DEAD_LETTERS, query, { to: owner, timeoutMs: ANSWER_MS, signal: stop }),
    )
    done += answer.done
    failure = answer.failure ?? failure
  }
  note(
    `${count(done, 'dead letter')} ${action === 'drop' ? 'dropped' : 'owed again'} by the node that runs (${owner})`,
  )
  if (failure === undefined) return EXIT.ok
  throw new CliError(done === 0 ? EXIT.error : EXIT.partial, `${ids.length - done} could not be: ${failure}`)
}

const readAnswer = (answer: unknown): { done: number; failure: string | undefined } => {
  const { done, failed } = (answer ?? {}) as { done?: unknown; failed?: unknown }
  if (!Array.isArray(done) || !Array.isArray(failed))
    throw new CliError(EXIT.error, 'the answer of the node that runs cannot be read')
  const last = failed.at(-1) as { message?: unknown } | undefined
  return { done: done.length, failure: last === undefined ? undefined : String(last.message) }
}
