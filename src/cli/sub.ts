import type { Message, Subscription } from '../index.ts'
import { EXIT } from './exit.ts'
import { renderMessage } from './render.ts'
import { type Globals, run } from './run.ts'
import { until } from './until.ts'

export interface SubOptions extends Globals {
  count?: number
  timeoutMs?: number
}

/** `skein sub`: prints what is published, one message a line. */
export const sub = (patterns: readonly string[], options: SubOptions): Promise<number> =>
  run(options, { name: 'sub', listen: true }, async ({ node, output, format, stop, note }) => {
    const limit = until(options, stop)
    const print = async (_value: unknown, message: Message): Promise<void> => {
      if (!limit.take()) return
      await output.write(renderMessage(message, format))
      limit.done()
    }
    const subscriptions: Subscription[] = patterns.map((pattern) => node.subscribe(pattern, print))
    const onReady = (): void => {
      const peers = node.peers.filter(({ state }) => state === 'up').length
      const count = peers === 1 ? '1 peer' : `${peers} peers`
      note(`listening on ${patterns.join(' ')} in mesh "${node.mesh}" with ${count}`)
    }
    Promise.all(subscriptions.map(({ ready }) => ready)).then(onReady, () => {})

    const ending = await limit.ended
    await Promise.all(subscriptions.map((subscription) => subscription.unsubscribe()))
    const dropped = subscriptions.reduce((total, subscription) => total + subscription.dropped, 0)
    if (dropped > 0) note(`dropped ${dropped} messages, because the output was read too slowly`)
    return ending === 'timeout' ? EXIT.timeout : EXIT.ok
  })
