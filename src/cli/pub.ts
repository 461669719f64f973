import { setTimeout as sleep } from 'node:timers/promises'
import { isSkeinError } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { sentenceOf } from './failure.ts'
import { type PayloadOptions, readPayloads, sourceOf } from './input.ts'
import { type Globals, run, type Session, unlessStopped } from './run.ts'
import { askWhy } from './wording.ts'

export interface PubOptions extends Globals, PayloadOptions {
  header?: Record<string, string>
  count?: number
  intervalMs?: number
  timeoutMs?: number
}

// Enough to hide a round trip, and little enough to lose nothing that a subscriber was not ready for.
const IN_FLIGHT = 256

const waitForSomebody = async ({ node, stop }: Session, topic: string, timeoutMs: number): Promise<void> => {
  try {
    await unlessStopped(stop, node.waitForSubscribers(topic, { timeoutMs }))
  } catch (error) {
    if (!isSkeinError(error, 'WAIT_TIMEOUT')) throw error
    const tried = timeoutMs === 0 ? 'now' : `within ${timeoutMs} ms`
    throw new CliError(
      EXIT.nobody,
      `nobody in mesh "${node.mesh}" subscribes to "${topic}" ${tried}, so nothing was published: ` +
        `start a subscriber ("skein sub ${topic}"), or wait longer for one with --timeout 30s; ${askWhy(topic, node.mesh)}`,
    )
  }
}

/** `skein pub`: publishes, and ends when every subscriber has handled it. */
export const pub = async (
  topic: string,
  payload: string | undefined,
  options: PubOptions,
): Promise<number> => {
  const source = sourceOf(payload, options.file)
  return run(options, { name: 'pub', listen: false }, async (session) => {
    const { node, stop, note } = session
    const { header: headers, intervalMs = 0, timeoutMs = 0 } = options
    await waitForSomebody(session, topic, timeoutMs)

    const startedAt = performance.now()
    const inFlight: Promise<void>[] = []
    let published = 0
    let failed = 0
    let lastError: unknown
    for await (const value of readPayloads(source, { ...options, stop })) {
      if (stop.aborted) break
      const publishing = node.publish(topic, value, headers === undefined ? {} : { headers })
      const counted = publishing.catch((error: unknown) => {
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
