import type { SendOptions } from './delivery/admission.ts'
import type { PublishOptions, PublishOwedOptions, PushOptions } from './delivery/publisher.ts'
import type { RequestManyOptions, RequestOptions } from './delivery/requests.ts'
import type { RespondOptions } from './delivery/responders.ts'
import type { PullOptions, SubscribeOptions } from './delivery/subscription.ts'
import { SkeinError } from './errors.ts'
import { boolean, count, duration, invalid, shortText, span } from './options.ts'
import { validateGroup } from './protocol/topics.ts'

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

const SENDING = ['headers', 'lend', 'key', 'delayMs', 'ttlMs', 'dedupeId', 'roomTimeoutMs'] as const

const checkSending = (options: SendOptions): void => {
  if (options.key !== undefined) shortText('key', options.key)
  if (options.dedupeId !== undefined) shortText('dedupeId', options.dedupeId)
  if (options.delayMs !== undefined) span('delayMs', options.delayMs)
  if (options.ttlMs !== undefined) span('ttlMs', options.ttlMs)
  if (options.roomTimeoutMs !== undefined) duration('roomTimeoutMs', options.roomTimeoutMs)
}

export const checkPublishOptions = (options: PublishOptions | PublishOwedOptions): void => {
  const { delivery = 'at-most-once' } = options
  if (delivery === 'at-most-once') {
    for (const key of Object.keys(options))
      if (OWED_ONLY.has(key))
        throw invalid(key, 'is for what is owed', "set delivery: 'at-least-once' for it, or leave it out")
    return checkKeys('publish', options, ['headers', 'lend', 'delivery'])
  }
  if (delivery !== 'at-least-once')
    throw invalid('delivery', `'${String(delivery)}' is no level`, "'at-most-once' and 'at-least-once' are")
  const owed = options as PublishOwedOptions
  checkKeys('publish', owed, [...SENDING, 'delivery', 'allowNobody', 'owedTo'])
  checkSending(owed)
  if (owed.allowNobody !== undefined) boolean('allowNobody', owed.allowNobody)
  if (owed.owedTo === undefined) return
  if (!Array.isArray(owed.owedTo)) throw invalid('owedTo', `${String(owed.owedTo)} is no list`, 'an array is')
  for (const group of owed.owedTo) validateGroup(group)
}

const OWED_ONLY = new Set(['key', 'delayMs', 'ttlMs', 'dedupeId', 'roomTimeoutMs', 'allowNobody', 'owedTo'])

/** What is pushed without any. */
export const NO_OPTIONS: PushOptions = Object.freeze({})

export const checkPushOptions = (options: PushOptions): void => {
  if (options === NO_OPTIONS) return
  checkKeys('push', options, SENDING)
  checkSending(options)
}

export const checkPullOptions = (options: PullOptions): void => {
  checkKeys('pull', options, ['concurrency', 'leaseMs', 'handlerTimeoutMs'])
  checkWork(options)
}

const checkWork = (options: PullOptions): void => {
  if (options.concurrency !== undefined) count('concurrency', options.concurrency)
  if (options.leaseMs !== undefined) duration('leaseMs', options.leaseMs)
  if (options.handlerTimeoutMs !== undefined) duration('handlerTimeoutMs', options.handlerTimeoutMs)
}

export const checkSubscribeOptions = (options: SubscribeOptions): void => {
  checkKeys('subscribe', options, [
    ...['concurrency', 'queue', 'onOverflow', 'echo', 'group', 'leaseMs', 'handlerTimeoutMs'],
  ])
  if (options.group !== undefined) validateGroup(options.group)
  checkWork(options)
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
