import { createNode, type ErrorCode, type Logger, type Node, type NodeOptions } from '../index.ts'
import { EXIT } from './exit.ts'
import { exitCodeOf, sentenceOf } from './failure.ts'
import { Output } from './output.ts'
import { describeGap, type Format, printableLines } from './render.ts'

/** The options that every command takes. */
export interface Globals {
  mesh?: string
  name?: string
  open?: boolean
  port?: number
  seed?: string[]
  /** Undefined: where the node reaches beyond this host. */
  mdns?: boolean
  registry?: boolean
  interface?: string
  bind?: string
  advertise?: string
  format?: Format
  quiet?: boolean
  dataDir?: string
  /** Options that were typed and matter only to a command that listens. */
  listening?: readonly string[]
  /** Options that were typed and matter only to a command that sends at least once. */
  owing?: readonly string[]
}

export interface Command {
  /** How the node is called unless `--name` says otherwise. */
  name: string
  /** A one-shot command only dials; what is spoken to must listen. */
  listen: boolean
  /** It sends at least once, so that the data directory is of use to it; it says itself what was not handled. */
  owes?: boolean
  /** Warnings of the node that it says itself, and better. */
  says?: readonly ErrorCode[]
  /** Makes the node where that takes more than its options. Default: createNode. */
  open?: (options: NodeOptions) => Promise<Node>
}

/** What a command has while it runs, whether or not it needs a node. */
export interface Desk {
  output: Output
  format: Format
  /** Aborted by the first Ctrl-C, or when nobody reads the output any more: finish and leave. */
  stop: AbortSignal
  /** A line for people, on stderr. */
  note: (text: string) => void
}

export interface Session extends Desk {
  node: Node
}

const say = (text: string): void => void process.stderr.write(`skein: ${printableLines(text)}\n`)

const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.terminated } as const
type Signal = keyof typeof SIGNALS

/** `timeout` of GNU signals the process and then its group: what follows so soon nobody has typed. */
const SAME_SIGNAL_MS = 100

/** The first signal asks the command to finish, the second one leaves at once. */
const listenToSignals = (note: (text: string) => void, stop: (exitCode: number) => void): (() => void) => {
  let askedAt: number | undefined
  const onSignal = (signal: Signal): void => {
    const now = performance.now()
    if (askedAt !== undefined && now - askedAt < SAME_SIGNAL_MS) return
    if (askedAt !== undefined) process.exit(SIGNALS[signal])
    askedAt = now
    note('finishing what is under way; press Ctrl-C again to leave at once')
    stop(SIGNALS[signal])
  }
  const names = Object.keys(SIGNALS) as Signal[]
  for (const name of names) process.on(name, onSignal)
  return () => {
    for (const name of names) process.off(name, onSignal)
  }
}

/** What a node warns of, already while it starts. */
const loggerOf = (note: (text: string) => void, told: readonly string[]): Logger => ({
  debug: () => {},
  info: () => {},
  warn: (fields, text) => {
    const code = 'code' in fields ? String(fields.code) : ''
    if (!told.includes(code)) note(code === '' ? text : `${text} (${code})`)
  },
  error: (_fields, text) => note(text),
})

/** What the options that every command takes mean to a node. */
export const nodeOptionsOf = (globals: Globals, command: Command): NodeOptions => {
  const { mesh, open, port, seed, mdns, registry, bind, advertise } = globals
  return {
    name: globals.name ?? `${command.name}-${process.pid}`,
    listen: command.listen,
    ...(mesh !== undefined && { mesh }),
    ...(open === true && { open }),
    ...(globals.interface !== undefined && { interface: globals.interface }),
    // Of no use to a node that only dials, and checked nevertheless: what is wrong for one command is so for all.
    ...(port !== undefined && { port }),
    ...(bind !== undefined && { bind }),
    ...(advertise !== undefined && { advertise }),
    ...(command.owes === true && globals.dataDir && { dataDir: globals.dataDir }),
    discovery: {
      ...(seed !== undefined && { seeds: seed }),
      ...(mdns !== undefined && { mdns }),
      ...(registry !== undefined && { registry }),
    },
  }
}

const openNode = async (globals: Globals, command: Command, note: (text: string) => void): Promise<Node> => {
  const { open = createNode, listen, owes, name, says = [] } = command
  const told: string[] = [...says]
  if (owes === true) told.push('CLOSED')
  // The warning of the seed says the same, and what to do.
  if (globals.seed !== undefined) told.push('MESH_MISMATCH')
  const node = await open({ logger: loggerOf(note, told), ...nodeOptionsOf(globals, command) })
  node.on('gap', (gap) => note(describeGap(gap)))
  if (!listen)
    for (const flag of globals.listening ?? []) note(`${flag} has no effect: skein ${name} only dials`)
  if (owes !== true)
    for (const flag of globals.owing ?? [])
      note(`${flag} has no effect: skein ${name} sends nothing at least once`)
  return node
}

const HOLD_MS = 2 ** 30

/** What `waiting` resolves with, unless the command is told to stop before. */
export const unlessStopped = async <T>(stop: AbortSignal, waiting: Promise<T>): Promise<T> => {
  stop.throwIfAborted()
  let onStop = (): void => {}
  const stopped = new Promise<never>((_resolve, reject) => {
    onStop = () => reject(stop.reason as Error)
    stop.addEventListener('abort', onStop)
  })
  try {
    return await Promise.race([waiting, stopped])
  } finally {
    stop.removeEventListener('abort', onStop)
  }
}

type Undo = () => unknown

/**
 * The frame around every command: signals, output, and one place where an error becomes a sentence and a code.
 * Resolves with the exit code and never rejects. What the body opens it hands to `later`, to be undone at the end.
 */
const frame = async (
  globals: Globals,
  body: (desk: Desk, later: (undo: Undo) => void) => Promise<number>,
): Promise<number> => {
  const stopping = new AbortController()
  const note = globals.quiet === true ? () => {} : say
  const output = new Output(process.stdout)
  output.open()
  output.left.addEventListener('abort', () => stopping.abort())
  let interruptedWith: number | undefined
  const forgetSignals = listenToSignals(note, (exitCode) => {
    interruptedWith = exitCode
    stopping.abort()
  })
  const undo: Undo[] = [forgetSignals]
  try {
    const format = globals.format ?? (process.stdout.isTTY ? 'text' : 'json')
    const exitCode = await body({ output, format, stop: stopping.signal, note }, (each) => undo.push(each))
    await output.flush()
    return interruptedWith ?? exitCode
  } catch (error) {
    if (interruptedWith !== undefined) return interruptedWith
    if (output.left.aborted) return EXIT.ok
    say(sentenceOf(error))
    return exitCodeOf(error)
  } finally {
    for (const each of undo.reverse()) await each()
  }
}

/** Runs a command that needs no node. */
export const runAlone = (globals: Globals, body: (desk: Desk) => Promise<number>): Promise<number> =>
  frame(globals, (desk) => body(desk))

/** Runs a command with a node, which is always closed. */
export const run = (
  globals: Globals,
  command: Command,
  body: (session: Session) => Promise<number>,
): Promise<number> =>
  frame(globals, async (desk, later) => {
    // A node that only dials may hold nothing open while a command waits for somebody to come.
    const hold = setInterval(() => {}, HOLD_MS)
    later(() => clearInterval(hold))
    const node = await openNode(globals, command, desk.note)
    later(() => node.close())
    return body({ ...desk, node })
  })
