import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Chance, chanceOf } from './chance.ts'
import { type Happened, judge, parseHistory, type Verdict } from './checker.ts'

export interface KillLoopPlan {
  readonly seed: number
  readonly forMs: number
  readonly perSecond: number
  /** Most that is waited for all to be handled, when the faults are over. */
  readonly settleMs?: number
  readonly durability?: 'disk' | 'os'
  /** Receivers are stopped for longer than their lease, too. */
  readonly stops?: boolean
}

export interface KillLoopResult extends Verdict {
  readonly senderKills: number
  readonly workerKills: number
  readonly stops: number
  /** Most that can be in flight at a time: what each fault can make a repeat of. */
  readonly window: number
  /** From the last fault until everything was handled. */
  readonly restMs: number
  readonly segments: number
  readonly unsettled: number | undefined
  readonly warnings: Readonly<Record<string, number>>
  /** Kept where something is wrong. */
  readonly directory: string
}

const CHILDREN = fileURLToPath(new URL('./children', import.meta.url))
const WORKERS = 2
const HANDLER_MS = 1
const LEASE_MS = 1500
/** Of each of its three addressees a worker takes four, and ahead what they start in 50 ms. The watcher has 512. */
const WINDOW = WORKERS * 3 * (4 + (4 * 50) / HANDLER_MS) + 512

/** A sender with a data directory, two workers and a watcher; sender and workers die at random times under load. */
export const killLoop = async (plan: KillLoopPlan): Promise<KillLoopResult> => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-kill-loop-'))
  const run = new Run(directory, plan)
  let result: KillLoopResult | undefined
  try {
    result = await run.all()
    return result
  } finally {
    await run.end()
    if (result?.violations.length === 0 && process.env.SKEIN_FAULT_KEEP === undefined)
      rmSync(directory, { recursive: true, force: true })
  }
}

class Run {
  readonly #directory: string
  readonly #plan: KillLoopPlan
  readonly #chance: Chance
  readonly #mesh: string
  readonly #children = new Set<ChildProcess>()
  readonly #historyOf = new Map<ChildProcess, string>()
  #processes = 0
  #next = 0
  #kills = { sender: 0, worker: 0, stop: 0 }

  constructor(directory: string, plan: KillLoopPlan) {
    this.#directory = directory
    this.#plan = plan
    this.#chance = chanceOf(plan.seed)
    this.#mesh = `kill-loop-${process.pid}-${plan.seed}`
    mkdirSync(this.#at('runtime'))
    mkdirSync(this.#at('history'))
  }

  async all(): Promise<KillLoopResult> {
    const { forMs, settleMs = 60_000 } = this.#plan
    const watcher = this.#worker(true)
    await once(watcher, 'message')
    const workers = Array.from({ length: WORKERS }, () => this.#worker(false))
    let sender = this.#sender(true)
    const endAt = performance.now() + forMs
    while (performance.now() < endAt) {
      await pause(this.#chance.between(100, 900))
      // Now and then nothing happens for a while: always-on chaos hides what needs time to go wrong.
      if (this.#chance.one(6)) await pause(1000)
      if (this.#chance.one(2)) {
        this.#kills.sender++
        await this.#kill(sender, 'sender')
        sender = this.#sender(true)
        continue
      }
      const at = this.#chance.below(WORKERS)
      const worker = workers[at]!
      if (this.#plan.stops === true && this.#chance.one(4)) {
        this.#kills.stop++
        this.#fault(`worker ${worker.pid} stopped`)
        worker.kill('SIGSTOP')
        setTimeout(() => worker.kill('SIGCONT'), this.#chance.between(100, 2 * LEASE_MS))
      } else {
        this.#kills.worker++
        await this.#kill(worker, 'worker')
        workers[at] = this.#worker(false)
      }
    }
    await this.#kill(sender, 'sender')
    this.#kills.sender++
    // What is left is handed over in peace.
    sender = this.#sender(false)
    const told = messagesOf(sender)
    let verdict = judge(this.#history())
    const restAt = performance.now()
    const settledAt = performance.now() + settleMs
    while (verdict.lost > 0 && performance.now() < settledAt) {
      await pause(200)
      verdict = judge(this.#history())
    }
    const restMs = Math.round(performance.now() - restAt)
    const segments = await this.#segments(10_000)
    sender.send('close')
    if (sender.exitCode === null) await once(sender, 'exit', { signal: AbortSignal.timeout(10_000) })
    const unsettled = told.find((each): each is { unsettled: number } => 'unsettled' in each)?.unsettled
    const history = this.#history()
    return {
      ...judge(history),
      ...{ senderKills: this.#kills.sender, workerKills: this.#kills.worker, stops: this.#kills.stop },
      ...{
        window: WINDOW,
        restMs,
        segments,
        unsettled,
        directory: this.#directory,
        warnings: warningsIn(history),
      },
    }
  }

  async end(): Promise<void> {
    const ended = [...this.#children].map((child) => once(child, 'exit'))
    for (const child of this.#children) child.kill('SIGKILL')
    await Promise.all(ended)
  }

  #at(name: string): string {
    return join(this.#directory, name)
  }

  #history(): Happened[] {
    const folder = this.#at('history')
    return parseHistory(readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8')))
  }

  /** Waits until there are no more than two. */
  async #segments(timeoutMs: number): Promise<number> {
    const until = performance.now() + timeoutMs
    for (;;) {
      const names = readdirSync(this.#at('data/journal')).filter((name) => name.endsWith('.segment'))
      if (names.length <= 2 || performance.now() > until) return names.length
      await pause(100)
    }
  }

  #sender(sends: boolean): ChildProcess {
    const { perSecond, durability } = this.#plan
    const sender = this.#fork('sender.js', {
      ...{ dataDir: this.#at('data'), from: this.#next, perSecond, sends },
      ...(durability !== undefined && { durability }),
    })
    sender.on('message', (message) => {
      if ('next' in (message as object)) this.#next = (message as { next: number }).next
    })
    return sender
  }

  #worker(watches: boolean): ChildProcess {
    return this.#fork('worker.js', { watches, handlerMs: HANDLER_MS, leaseMs: LEASE_MS })
  }

  #fork(program: string, given: object): ChildProcess {
    const history = this.#at(`history/${++this.#processes}.jsonl`)
    const argument = JSON.stringify({ mesh: this.#mesh, history, ...given })
    const child = fork(join(CHILDREN, program), [argument], {
      execArgv: [],
      env: { ...process.env, SKEIN_RUNTIME_DIR: this.#at('runtime') },
    })
    this.#children.add(child)
    this.#historyOf.set(child, history)
    writeFileSync(history, '', { flag: 'a' })
    child.once('exit', (code) => {
      this.#children.delete(child)
      if (code !== null && code !== 0) this.#fault(`${program} ended with ${code}`)
    })
    return child
  }

  /** What it attempted at last may be read from its history only: the message may not have come. */
  async #kill(child: ChildProcess, what: string): Promise<void> {
    this.#fault(`${what} ${child.pid} killed`)
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    for (const each of parseHistory([readFileSync(this.#historyOf.get(child)!, 'utf8')]))
      if (each.kind === 'send') this.#next = Math.max(this.#next, each.n + 1)
  }

  #fault(what: string): void {
    const at = Number(process.hrtime.bigint()) / 1e6
    appendFileSync(this.#at('history/faults.jsonl'), `${JSON.stringify({ at, kind: 'fault', what })}\n`)
  }
}

const messagesOf = (child: ChildProcess): object[] => {
  const messages: object[] = []
  child.on('message', (message) => messages.push(message as object))
  return messages
}

const warningsIn = (history: readonly Happened[]): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const each of history as readonly { kind: string; code?: string }[])
    if (each.kind === 'warning') counts[each.code ?? ''] = (counts[each.code ?? ''] ?? 0) + 1
  return counts
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
