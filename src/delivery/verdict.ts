import { isSkeinError, messageOf, SkeinError } from '../errors.ts'
import { MAX_TEXT, type Settlement } from '../protocol/settlement.ts'

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
    if (!(delayMs >= 0 && delayMs <= 2_147_483_647))
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
      const { cause } = error
      if (cause instanceof RetryLater)
        return {
          kind: 'later',
          number,
          delayMs: Math.ceil(cause.delayMs),
          text: cause.message.slice(0, MAX_TEXT),
        }
      const own = (cause as { code?: unknown } | null | undefined)?.code
      const isRejected = cause instanceof Reject
      const coded = typeof own === 'string' && own.length > 0 && own.length <= 64
      const code = coded ? own : isRejected ? 'REJECTED' : error.code
      const what = cause === undefined ? text : messageOf(cause).slice(0, MAX_TEXT)
      return { kind: isRejected ? 'rejected' : 'failed', number, code, text: what }
    }
  }
}

/** Whether nothing was tried: the message goes to another member, or waits. */
export const isHandedBack = (error: SkeinError): boolean =>
  isSkeinError(error, 'BUSY') || isSkeinError(error, 'NO_SUBSCRIBERS') || isSkeinError(error, 'CLOSED')
