import { availableParallelism } from 'node:os'
import { type Message, SkeinError } from '../index.ts'
import { execute } from './exec.ts'
import { CliError, EXIT } from './exit.ts'
import { parseBytes } from './input.ts'
import { jsonOf } from './render.ts'
import { type Globals, run } from './run.ts'
import { until } from './until.ts'

export interface RespondOptions extends Globals {
  echo?: boolean
  exec?: string
  raw?: boolean
  concurrency?: number
  count?: number
  timeoutMs?: number
}

/** A payload as a command reads it: text and bytes as they are, no value as nothing, the rest as JSON. */
export const stdinOf = (value: unknown): string | Uint8Array => {
  if (value === undefined) return ''
  if (typeof value === 'string' || value instanceof Uint8Array) return value
  return jsonOf(value)
}

/** What a command learns about the request: the topic, the asker, and each header under its own name and all as JSON. */
export const environmentOf = (
  mesh: string,
  { topic, from, headers }: Pick<Message, 'topic' | 'from' | 'headers'>,
): Record<string, string> => {
  const each = Object.entries(headers ?? {}).map(
    ([key, value]) =>
      [`SKEIN_HEADER_${key.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`, String(value)] as const,
  )
  return {
    ...Object.fromEntries(each),
    SKEIN_MESH: mesh,
    SKEIN_TOPIC: topic,
    SKEIN_FROM: from,
    SKEIN_HEADERS: JSON.stringify(headers ?? {}),
  }
}

/** `skein respond`: answers requests with their own payload, or with what a command prints. */
export const respond = async (name: string, options: RespondOptions): Promise<number> => {
  const { echo, exec: command } = options
  // Each request of --exec is a process.
  const concurrency = options.concurrency ?? (command === undefined ? undefined : availableParallelism())
  if ((echo === true) === (command !== undefined)) {
    throw new CliError(EXIT.usage, 'say how to answer: either --echo or --exec COMMAND')
  }
  return run(options, { name: 'respond', listen: true }, async ({ node, stop, note }) => {
    const limit = until(options, stop)
    const answer = async (query: unknown, message: Message): Promise<unknown> => {
      if (command === undefined) return query
      const printed = await execute({
        command,
        stdin: stdinOf(query),
        env: environmentOf(node.mesh, message),
        signal: message.signal,
      })
      return parseBytes(printed, options.raw)
    }
    const underWay = new Set<Promise<unknown>>()
    const respondOnce = async (query: unknown, message: Message): Promise<unknown> => {
      // What comes now is offered to another responder.
      if (!limit.take()) throw new SkeinError('BUSY', `this responder answers no more requests for "${name}"`)
      if (limit.isFull) void responder.close()
      const answering = answer(query, message)
      underWay.add(answering)
      try {
        return await answering
      } finally {
        underWay.delete(answering)
        limit.done()
      }
    }
    const responder = node.respond(name, respondOnce, concurrency === undefined ? {} : { concurrency })
    const onReady = (): void => note(`answering "${name}" in mesh "${node.mesh}"`)
    responder.ready.then(onReady, () => {})

    const ending = await limit.ended
    await responder.close()
    await Promise.allSettled(underWay)
    return ending === 'timeout' ? EXIT.timeout : EXIT.ok
  })
}
