import { setTimeout as sleep } from 'node:timers/promises'
import { isSkeinError, type Receipt } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { sentenceOf } from './failure.ts'
import { readPayloads, type Source, sourceOf } from './input.ts'
import { sendOwed } from './owed.ts'
import { checkWaiting, HANDLED_MS, type SendingOptions, sendOptionsOf } from './push.ts'
import { run, type Session, unlessStopped } from './run.ts'
import { askWhy, quoted } from './wording.ts'

export interface PubOptions extends SendingOptions {
  atLeastOnce?: boolean
  owedTo?: string[]
}

// Enough to hide a round trip, and little enough to lose nothing that a subscriber was not ready for.
const IN_FLIGHT = 256

const waitForSomebody = async ({ node, stop }: Session, topic: string, timeoutMs: number): Promise<void> => {
  try {
    await unlessStopped(stop, node.waitForSubscribers(topic, { timeoutMs }))
  } catch (error) {
    if (!isSkeinError(error, 'WAIT_TIMEOUT')) throw error
    const tried = timeoutMs === 0 ? 'now' : `within ${timeoutMs} ms`
    throw new CliError(EXIT.nobody, nobodySubscribes(node.mesh, topic, tried))
  }
}

const nobodySubscribes = (mesh: string, topic: string, tried: string): string =>
  `nobody in mesh "${mesh}" subscribes to "${topic}" ${tried}, so nothing was published: ` +
  `start a subscriber ("skein sub ${topic}"), or wait longer for one with --timeout 30s; ${askWhy(topic, mesh)}`

/** Options that say nothing about a message that is not owed. */
const OWED_ONLY = [
  ['key', '--key'],
  ['delayMs', '--delay'],
  ['ttlMs', '--ttl'],
  ['dedupeId', '--dedupe-id'],
  ['owedTo', '--owed-to'],
  ['verbose', '--verbose'],
] as const

const LOOK_MS = 50

/** Publishes at least once, as soon as there is anybody to owe it to. */
const pubOwed = async (topic: string, source: Source, options: PubOptions): Promise<number> => {
  const { timeoutMs = HANDLED_MS, owedTo } = options
  const dataDir = options.dataDir || undefined
  checkWaiting(options, timeoutMs)
  return run(options, { name: 'pub', listen: false, owes: true }, (session) => {
    const { node, stop } = session
    const waitsUntil = performance.now() + (options.timeoutMs ?? 0)
    const publish = async (read: () => unknown): Promise<Receipt> => {
      const value = read()
      for (;;) {
        try {
          return await node.publish(topic, value, {
            delivery: 'at-least-once',
            ...sendOptionsOf(options),
            ...(owedTo !== undefined && { owedTo }),
          })
        } catch (error) {
          if (!isSkeinError(error, 'NO_SUBSCRIBERS')) throw error
          if (stop.aborted || performance.now() >= waitsUntil) {
            const tried = options.timeoutMs === undefined ? 'now' : `within ${options.timeoutMs} ms`
            throw new CliError(EXIT.nobody, nobodySubscribes(node.mesh, topic, tried))
          }
          await sleep(LOOK_MS, undefined, { signal: stop }).catch(() => {})
        }
      }
    }
    const payloads = readPayloads(source, { ...options, stop })
    const remedy = (): string => `start its subscribers ("skein sub ${quoted(topic)}")`
    const owed = { ...options, dataDir, timeoutMs, remedy, askWhy: askWhy(topic, node.mesh) }
    return sendOwed(session, payloads, publish, owed)
  })
}

/** `skein pub`: publishes, and ends when every subscriber has handled it. */
export const pub = async (
  topic: string,
  payload: string | undefined,
  options: PubOptions,
): Promise<number> => {
  const source = sourceOf(payload, options.file)
  if (options.atLeastOnce === true) return pubOwed(topic, source, options)
  for (const [name, flag] of OWED_ONLY)
    if (options[name] !== undefined)
      throw new CliError(EXIT.usage, `${flag} is for what is owed: say --at-least-once, too`)
  return run(options, { name: 'pub', listen: false }, async (session) => {
    const { node, stop, note } = session
    const { header: headers, intervalMs = 0, timeoutMs = 0 } = options
    await waitForSomebody(session, topic, timeoutMs)

    const startedAt = performance.now()
    const inFlight: Promise<void>[] = []
    let published = 0
    let failed = 0
    let lastError: unknown
    const publish = async (read: () => unknown): Promise<void> => {
      await node.publish(topic, read(), headers === undefined ? {} : { headers })
    }
    for await (const read of readPayloads(source, { ...options, stop })) {
      if (stop.aborted) break
      const counted = publish(read).catch((error: unknown) => {
        failed++
        lastError = error
      })
      inFlight.push(counted)
      published++
      const dueInMs = startedAt + published * intervalMs - performance.now()
      if (intervalMs > 0 && dueInMs > 0) await sleep(dueInMs, undefined, { signal: stop }).catch(() => {})
      if (inFlight.length >= IN_FLIGHT) await inFlight.shift()
    }
    await Promise.all(inFlight)

    if (published === 0 && !stop.aborted) note('stdin was empty, so nothing was published')
    if (failed === 0) return EXIT.ok
    if (failed === published) throw lastError
    throw new CliError(
      EXIT.partial,
      `${failed} of ${published} messages failed; the last: ${sentenceOf(lastError)}`,
    )
  })
}
