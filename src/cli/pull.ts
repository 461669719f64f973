import { type Message, RetryLater } from '../index.ts'
import { CommandFailed, execute } from './exec.ts'
import { CliError, EXIT } from './exit.ts'
import { sentenceOf } from './failure.ts'
import { renderMessage } from './render.ts'
import { environmentOf, stdinOf } from './respond.ts'
import { type Globals, run } from './run.ts'
import { until } from './until.ts'

export interface PullOptions extends Globals {
  exec?: string
  concurrency?: number
  handlerTimeoutMs?: number
  count?: number
  timeoutMs?: number
}

/** What a command learns about its job, beside what one learns about a request. */
export const jobEnvironmentOf = (mesh: string, message: Message): Record<string, string> => ({
  ...environmentOf(mesh, message),
  SKEIN_ID: message.id,
  SKEIN_ATTEMPT: String(message.attempt),
  SKEIN_REDELIVERED: message.redelivered ? '1' : '0',
  SKEIN_KEY: message.key ?? '',
})

/** `skein pull`: works off a queue by printing each message, or by a command that is run for it. */
export const pull = async (queue: string, options: PullOptions): Promise<number> => {
  const { exec: command, concurrency, handlerTimeoutMs } = options
  if (handlerTimeoutMs !== undefined && command === undefined)
    throw new CliError(EXIT.usage, '--handler-timeout is for the command of --exec: leave it out')
  const how = { name: 'pull', listen: true, says: ['HANDLER_FAILED'] } as const
  return run(options, how, async ({ node, output, format, stop, note }) => {
    const limit = until(options, stop)
    const work = async (value: unknown, message: Message): Promise<void> => {
      if (command === undefined) return output.write(renderMessage(message, format))
      const printed = await execute({
        command,
        stdin: stdinOf(value),
        env: jobEnvironmentOf(node.mesh, message),
        signal: message.signal,
      })
      await output.write(printed)
    }
    const underWay = new Set<Promise<void>>()
    const workOnce = async (value: unknown, message: Message): Promise<void> => {
      if (!limit.take()) throw new RetryLater(0, 'this worker takes no more')
      // At once, so that what waits here goes to another worker.
      if (limit.isFull) void subscription.unsubscribe()
      const working = work(value, message)
      underWay.add(working)
      try {
        await working
      } catch (error) {
        const why = error instanceof CommandFailed ? error.ending : sentenceOf(error)
        note(`attempt ${message.attempt} at message ${message.id} of "${queue}" failed: ${why}`)
        throw error
      } finally {
        underWay.delete(working)
        limit.done()
      }
    }
    const subscription = node.pull(queue, workOnce, {
      ...(concurrency !== undefined && { concurrency }),
      ...(handlerTimeoutMs !== undefined && { handlerTimeoutMs }),
    })
    subscription.ready.then(
      () => note(`working on "${queue}" in mesh "${node.mesh}"`),
      () => {},
    )

    const ending = await limit.ended
    await subscription.unsubscribe()
    await Promise.allSettled(underWay)
    return ending === 'timeout' ? EXIT.timeout : EXIT.ok
  })
}
