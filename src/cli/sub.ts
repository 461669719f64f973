import { type Message, RetryLater, type Subscription } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { renderMessage } from './render.ts'
import { type Globals, run } from './run.ts'
import { until } from './until.ts'

export interface SubOptions extends Globals {
  count?: number
  timeoutMs?: number
  group?: string
  remember?: boolean
}

// Longer than usual: a burst has to wait here until the output is read.
const QUEUE = 10_000

/** `skein sub`: prints what is published, one message a line. */
export const sub = async (patterns: readonly string[], options: SubOptions): Promise<number> => {
  if (options.remember === true && options.group === undefined)
    throw new CliError(EXIT.usage, '--remember is for a --group: only a group is owed what it missed')
  return run(options, { name: 'sub', listen: true }, async ({ node, output, format, stop, note }) => {
    const { group, remember } = options
    const limit = until(options, stop)
    // A group that outlives its command is owed messages that nobody may ever fetch.
    const withdraw = group !== undefined && remember !== true
    const unsubscribe = () =>
      Promise.all(subscriptions.map((subscription) => subscription.unsubscribe({ withdraw })))
    const print = (_value: unknown, message: Message): Promise<void> | undefined => {
      if (!limit.take()) {
        if (group === undefined) return undefined
        throw new RetryLater(0, 'this subscriber takes no more')
      }
      // At once, so that what comes now is not taken for handled.
      if (limit.isFull) void unsubscribe()
      const written = output.write(renderMessage(message, format))
      if (written === undefined) limit.done()
      return written?.then(limit.done)
    }
    const subscriptions: Subscription[] = patterns.map((pattern) =>
      node.subscribe(pattern, print, { queue: QUEUE, ...(group !== undefined && { group }) }),
    )
    const onReady = (): void => {
      const peers = node.peers.filter(({ state }) => state === 'up').length
      const count = peers === 1 ? '1 peer' : `${peers} peers`
      note(`listening on ${patterns.join(' ')} in mesh "${node.mesh}" with ${count}`)
    }
    Promise.all(subscriptions.map(({ ready }) => ready)).then(onReady, () => {})

    const ending = await limit.ended
    await unsubscribe()
    return ending === 'timeout' ? EXIT.timeout : EXIT.ok
  })
}
