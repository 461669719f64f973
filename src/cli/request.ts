import { isSkeinError, type Node, type Peer } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { sentenceOf } from './failure.ts'
import { type PayloadOptions, readPayload, sourceOf } from './input.ts'
import { renderReply, renderValue } from './render.ts'
import { type Globals, run, type Session } from './run.ts'
import { askWhy } from './wording.ts'

export interface RequestOptions extends Globals, PayloadOptions {
  header?: Record<string, string>
  timeoutMs?: number
  waitMs?: number
  to?: string
  many?: boolean
  max?: number
}

/** A peer by its name, its id or the beginning of its id. */
export const findPeer = ({ peers, mesh }: Pick<Node, 'peers' | 'mesh'>, wanted: string): Peer => {
  const known = peers.filter(({ id }) => id !== '')
  const exact = known.filter(({ id, name }) => id === wanted || name === wanted)
  const matches =
    exact.length > 0 ? exact : known.filter(({ id }) => wanted.length >= 4 && id.startsWith(wanted))
  if (matches.length === 1) return matches[0]!
  if (matches.length > 1) {
    throw new CliError(
      EXIT.usage,
      `${matches.length} peers are called "${wanted}": name one by its id (${matches[0]!.id}, …)`,
    )
  }
  throw new CliError(
    EXIT.nobody,
    `no peer is called "${wanted}": "skein peers" lists those that are there, ${askWhy(wanted, mesh)}`,
  )
}

const explainNobody = (error: unknown, name: string, node: Node): unknown =>
  isSkeinError(error, 'NO_RESPONDER')
    ? new CliError(
        EXIT.nobody,
        `nobody in mesh "${node.mesh}" responds to "${name}": start a responder ("skein respond ${name} --echo"), ` +
          `or wait for one with --wait 30s; ${askWhy(name, node.mesh)}`,
      )
    : error

const askOne = async (session: Session, name: string, value: unknown, options: RequestOptions) => {
  const { node, output, format, stop } = session
  try {
    const answer = await node.request(name, value, {
      signal: stop,
      ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
      ...(options.waitMs !== undefined && { waitMs: options.waitMs }),
      ...(options.to !== undefined && { to: findPeer(node, options.to).id }),
      ...(options.header !== undefined && { headers: options.header }),
    })
    await output.write(renderValue(answer, format))
    return EXIT.ok
  } catch (error) {
    throw explainNobody(error, name, node)
  }
}

const askMany = async (session: Session, name: string, value: unknown, options: RequestOptions) => {
  const { node, output, format, stop, note } = session
  let answers = 0
  let errors = 0
  const replies = node.requestMany(name, value, {
    signal: stop,
    ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
    ...(options.max !== undefined && { max: options.max }),
    ...(options.header !== undefined && { headers: options.header }),
  })
  try {
    for await (const reply of replies) {
      if (reply.error === undefined) answers++
      else {
        errors++
        note(`${reply.from}: ${sentenceOf(reply.error)}`)
      }
      await output.write(renderReply(reply, format))
    }
  } catch (error) {
    throw explainNobody(error, name, node)
  }
  if (answers > 0) return errors > 0 ? EXIT.partial : EXIT.ok
  if (errors > 0) return EXIT.remote
  throw new CliError(
    EXIT.nobody,
    `nobody in mesh "${node.mesh}" answered "${name}": is a responder running? ${askWhy(name, node.mesh)}`,
  )
}

/** `skein request`: asks one responder, or with `--many` all of them, and prints what they answer. */
export const request = async (
  name: string,
  payload: string | undefined,
  options: RequestOptions,
): Promise<number> => {
  const many = options.many === true || options.max !== undefined
  if (many && (options.to !== undefined || options.waitMs !== undefined)) {
    throw new CliError(EXIT.usage, '--many asks every responder: leave out --to and --wait')
  }
  const value = await readPayload(sourceOf(payload, options.file), options)
  return run(options, { name: 'request', listen: false }, (session) =>
    many ? askMany(session, name, value, options) : askOne(session, name, value, options),
  )
}
