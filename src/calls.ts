import type { PublishOptions } from './delivery/publisher.ts'
import type { RequestManyOptions, RequestOptions } from './delivery/requests.ts'
import type { RespondOptions } from './delivery/responders.ts'
import type { SubscribeOptions } from './delivery/subscriptions.ts'
import { SkeinError } from './errors.ts'
import { boolean, count, duration, unsupported } from './options.ts'

/** Refuses options that a call does not know. */
const checkKeys = (call: string, options: object, known: readonly string[]): void => {
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new SkeinError(
        'OPTION_INVALID',
        `option '${key}' of ${call} is not an option; known are ${known.join(', ')}`,
      )
    }
  }
}

export const checkPublishOptions = (options: PublishOptions): void => {
  if (options.delivery !== undefined && options.delivery !== 'at-most-once') {
    throw unsupported(
      'delivery',
      `'${String(options.delivery)}' needs the journal; leave it out for at most once`,
    )
  }
  checkKeys('publish', options, ['headers', 'lend', 'delivery'])
}

export const checkSubscribeOptions = (options: SubscribeOptions): void => {
  if ('group' in options) throw unsupported('group', 'every subscription gets its own copy')
  checkKeys('subscribe', options, ['concurrency', 'queue', 'onOverflow', 'echo'])
  if (options.concurrency !== undefined) count('concurrency', options.concurrency)
  if (options.queue !== undefined) count('queue', options.queue)
  if (options.echo !== undefined) boolean('echo', options.echo)
  if (
    options.onOverflow !== undefined &&
    options.onOverflow !== 'drop-oldest' &&
    options.onOverflow !== 'drop-newest'
  ) {
    throw new SkeinError(
      'OPTION_INVALID',
      `option 'onOverflow': '${String(options.onOverflow)}' is no policy; 'drop-oldest' and 'drop-newest' are`,
    )
  }
}

export const checkRequestOptions = (options: RequestOptions): void => {
  checkKeys('request', options, ['timeoutMs', 'signal', 'to', 'headers', 'waitMs'])
  if (options.timeoutMs !== undefined) duration('timeoutMs', options.timeoutMs)
  if (options.waitMs !== undefined) duration('waitMs', options.waitMs)
}

export const checkRequestManyOptions = (options: RequestManyOptions): void => {
  checkKeys('requestMany', options, ['timeoutMs', 'max', 'signal', 'headers'])
  if (options.timeoutMs !== undefined) duration('timeoutMs', options.timeoutMs)
  if (options.max !== undefined) count('max', options.max)
}

export const checkRespondOptions = (options: RespondOptions): void => {
  checkKeys('respond', options, ['concurrency', 'queue'])
  if (options.concurrency !== undefined) count('concurrency', options.concurrency)
  if (options.queue !== undefined) count('queue', options.queue, 0)
}
