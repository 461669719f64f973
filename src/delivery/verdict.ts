import { isSkeinError, messageOf, SkeinError } from '../errors.ts'
import type { Settlement } from '../protocol/settlement.ts'

const MAX_TEXT = 2048
const MAX_CODE_BYTES = 64
const MAX_DELAY_MS = 2_147_483_647

/** What happened to a message that its sender waits for; called once for each subscription it went to. */
export type Settle = (error?: SkeinError) => void

/**
 * Thrown by a handler: try this message again later. It is no failure, so it spends no attempt.
 *
 * @example
 * node.pull('mail', async (mail) => {
 *   if (!(await smtp.isUp())) throw new RetryLater(5000)
 *   await smtp.send(mail)
 * })
 */
export class RetryLater extends Error {
  override readonly name = 'RetryLater'
  /** In how many ms, at the earliest. */
  readonly delayMs: number

  constructor(delayMs: number, reason = 'the handler asked for a later time') {
    super(reason)
    if (!isDelay(delayMs))
      throw new SkeinError('OPTION_INVALID', `RetryLater: ${delayMs} is not a time in milliseconds`)
    this.delayMs = delayMs
  }
}

/**
 * Thrown by a handler: this message can never be handled. It becomes a dead letter at once.
 *
 * @example
 * node.pull('resize', (job) => {
 *   if (!isImage(job)) throw new Reject('not an image')
 * })
 */
export class Reject extends Error {
  override readonly name = 'Reject'
}

/** What a member says of a hand-over that did not succeed. */
export const verdictOn = (number: number, error: SkeinError): Settlement => {
  const text = messageOf(error).slice(0, MAX_TEXT)
  switch (error.code) {
    case 'BUSY':
      return { kind: 'handed-back', number, why: 'busy' }
    case 'NO_SUBSCRIBERS':
      return { kind: 'handed-back', number, why: 'no-handler' }
    case 'CLOSED':
      return { kind: 'handed-back', number, why: 'closing' }
    case 'MALFORMED':
      return { kind: 'rejected', number, code: error.code, text }
    default: {
      const { delayMs, code, isReject } = askedBy(error.cause)
      const what = (error.cause === undefined ? text : messageOf(error.cause)).slice(0, MAX_TEXT)
      if (delayMs !== undefined) return { kind: 'later', number, delayMs, text: what }
      if (isReject === true) return { kind: 'rejected', number, code: code ?? 'REJECTED', text: what }
      return { kind: 'failed', number, code: code ?? error.code, text: what }
    }
  }
}

interface Asked {
  readonly delayMs?: number
  readonly code?: string
  readonly isReject?: boolean
}

/** What a handler wants by what it threw. That may be anything: a Proxy or a getter that throws is a plain failure. */
const askedBy = (thrown: unknown): Asked => {
  try {
    if (thrown instanceof RetryLater && isDelay(thrown.delayMs)) return { delayMs: Math.ceil(thrown.delayMs) }
    const { code } = (thrown ?? {}) as { code?: unknown }
    const isShown = typeof code === 'string' && code.length > 0 && Buffer.byteLength(code) <= MAX_CODE_BYTES
    return { ...(isShown && { code }), isReject: thrown instanceof Reject }
  } catch {
    return {}
  }
}

const isDelay = (delayMs: unknown): boolean =>
  typeof delayMs === 'number' && delayMs >= 0 && delayMs <= MAX_DELAY_MS

/** Whether nothing was tried: the message goes to another member, or waits. */
export const isHandedBack = (error: SkeinError): boolean =>
  isSkeinError(error, 'BUSY') || isSkeinError(error, 'NO_SUBSCRIBERS') || isSkeinError(error, 'CLOSED')
