import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Asks, Count } from './child.ts'
import { type ContenderName, type Question, SIDES, type SideName } from './question.ts'

export interface Timing {
  warmUpMs: number
  measureMs: number
}

/** What one contender did in one round. */
export interface Sample {
  contender: ContenderName
  /** Messages received, or requests answered, per second of the measured window. */
  perSecond: number
  p50Us?: number
  p99Us?: number
  /** The whole run of a stream, warm-up and tail included. */
  sent?: number
  received?: number
  reportedLost?: Record<string, number>
}

class Side {
  readonly process: ChildProcess
  readonly name: SideName

  constructor(process: ChildProcess, name: SideName) {
    this.process = process
    this.name = name
  }

  async ask<K extends keyof Asks>(name: K, ask: Asks[K]['ask']): Promise<Asks[K]['answer']> {
    const answer = this.hear(name)
    this.process.send({ name, ask })
    return (await answer) as Asks[K]['answer']
  }

  /** The next thing the process says; its end is an error. */
  async hear(about: string): Promise<unknown> {
    const aborted = new AbortController()
    const ended = once(this.process, 'exit', { signal: aborted.signal }).then(() => {
      throw new Error(`side "${this.name}" ended while it was asked to "${about}"`)
    })
    const said = once(this.process, 'message', { signal: aborted.signal })
    try {
      const [message] = (await Promise.race([said, ended])) as [{ answer: unknown } | { error: string }]
      if ('error' in message) throw new Error(`side "${this.name}" failed to "${about}": ${message.error}`)
      return message.answer
    } finally {
      aborted.abort()
      await Promise.allSettled([said, ended])
    }
  }
}

const startSide = (question: Question, contender: ContenderName, name: SideName): Side => {
  const path = fileURLToPath(new URL('./child.ts', import.meta.url))
  const process = fork(path, [question.name, contender, name], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  return new Side(process, name)
}

export const totalOf = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((total, count) => total + count, 0)

/** What all receivers have together. */
const countOf = async (receivers: readonly Side[]): Promise<Count> => {
  const counts = await Promise.all(receivers.map((receiver) => receiver.ask('count', {})))
  const reportedLost: Record<string, number> = {}
  let received = 0
  for (const count of counts) {
    received += count.received
    for (const [reason, lost] of Object.entries(count.reportedLost))
      reportedLost[reason] = (reportedLost[reason] ?? 0) + lost
  }
  return { received, reportedLost, at: counts[0]!.at }
}

/** The receivers' count once they have everything, or have had nothing new for a while. */
const finalCount = async (receivers: readonly Side[], sent: number): Promise<Count> => {
  for (let last = -1, since = performance.now(); ; ) {
    const count = await countOf(receivers)
    const accounted = count.received + totalOf(count.reportedLost)
    if (accounted === sent || performance.now() - since > 3000) return count
    if (accounted !== last) since = performance.now()
    last = accounted
    await sleep(20)
  }
}

const stream = async (
  binder: Side,
  receivers: readonly Side[],
  timing: Timing,
): Promise<Omit<Sample, 'contender'>> => {
  await binder.ask('ready', {})
  const sending = binder.ask('publish', { ms: timing.warmUpMs + timing.measureMs + 300 })
  sending.catch(() => {})
  await sleep(timing.warmUpMs)
  const before = await countOf(receivers)
  await sleep(timing.measureMs)
  const after = await countOf(receivers)
  const { sent } = await sending
  const { received, reportedLost } = await finalCount(receivers, sent)
  const perSecond = ((after.received - before.received) / (after.at - before.at)) * 1000
  return { perSecond, sent, received, reportedLost }
}

/** Fresh processes, one measurement, nothing left behind. */
export const takeSample = async (
  question: Question,
  contender: ContenderName,
  timing: Timing,
): Promise<Sample> => {
  const [binderName, diallerName] = SIDES[question.kind]
  const mesh = `bench-${randomBytes(6).toString('hex')}`
  const binder = startSide(question, contender, binderName)
  const diallers = Array.from({ length: question.receivers ?? 1 }, () =>
    startSide(question, contender, diallerName),
  )
  try {
    await Promise.all([binder, ...diallers].map((side) => side.hear('load')))
    const { address } = await binder.ask('start', { place: { mesh, address: '' } })
    await Promise.all(diallers.map((dialler) => dialler.ask('start', { place: { mesh, address } })))
    const result =
      question.kind === 'stream'
        ? await stream(binder, diallers, timing)
        : await diallers[0]!
            .ask('request', timing)
            .then(({ perSecond, p50Us, p99Us }) => ({ perSecond, p50Us, p99Us }))
    await Promise.all(diallers.map((dialler) => dialler.ask('close', {})))
    await binder.ask('close', {})
    return { contender, ...result }
  } finally {
    for (const side of [binder, ...diallers]) side.process.kill('SIGKILL')
  }
}
