import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'
import type { NodeOptions } from '../../src/index.ts'

/** The program of each process. */
export const MEMBER = fileURLToPath(new URL('./children/member.js', import.meta.url))

export type MemberOptions = Omit<NodeOptions, 'logger'>

export interface Tally {
  received: number
  /** Messages that were not above the one before in their topic: out of order, or repeated. */
  disorder: number
  missed: number
  uncounted: number
  reasons: Record<string, number>
  /** The last hundred topics that were new. */
  topics: string[]
}

export interface Published {
  durationMs: number
  grownBytes: number
  /** How long it was ready to run while other processes had the cores. */
  offCoreMs: number
  /** Share of the time in which the 10 ms ticks were not late by a fault of the process itself. */
  ticks: number
  /** How late ticks were; `lateOwn` leaves out what it waited for a core. */
  lateP99Ms: number
  lateOwnP99Ms: number
}

export interface Outcome {
  value?: unknown
  code?: string
  mayHaveRun?: boolean
  message?: string
  at: number
}

export interface PresenceEvent {
  type: 'peer-up' | 'peer-down'
  id: string
  reason: string
  at: number
}

interface Waiting {
  resolve(result: unknown): void
  reject(error: Error): void
}

const running = new Set<Member>()
let directory = ''

afterEach(async () => {
  await Promise.all([...running].map((member) => member.kill('SIGKILL')))
  if (directory !== '') rmSync(directory, { recursive: true, force: true })
  directory = ''
})

/** A node in a process of its own, asked through IPC; it ends with the test. */
export class Member {
  id = ''
  name = ''
  readonly ended: Promise<void>
  readonly #process: ChildProcess
  readonly #asks = new Map<number, Waiting>()
  readonly #notes = new Map<string, number>()
  readonly #among: Set<Member>
  #asked = 0
  #stderr = ''
  #noted: () => void = () => {}

  /** It leaves the set when it has ended. */
  constructor(process: ChildProcess, among: Set<Member>) {
    this.#process = process
    this.#among = among
    this.ended = new Promise((resolve) => {
      process.once('exit', () => {
        this.#among.delete(this)
        for (const { reject } of this.#asks.values()) reject(new Error(`the process ended: ${this.#stderr}`))
        resolve()
      })
    })
    process.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString()
    })
    process.on('message', (message) => this.#take(message as { ask?: number; note?: string }))
    among.add(this)
  }

  /** Asks for a command of test/support/children/member.js. */
  ask<T = unknown>(command: string, argument: object = {}): Promise<T> {
    if (!this.#process.connected)
      return Promise.reject(new Error(`${this.name} has ended: it cannot ${command}`))
    const ask = ++this.#asked
    return new Promise<T>((resolve, reject) => {
      this.#asks.set(ask, { resolve: resolve as (result: unknown) => void, reject })
      this.#process.send({ ask, command, argument })
    })
  }

  async start(options: MemberOptions = {}): Promise<this> {
    const started = await this.ask<{ id: string; name: string }>('start', options)
    this.id = started.id
    this.name = started.name
    return this
  }

  /** How often the process has said this so far. */
  notes(note: string): number {
    return this.#notes.get(note) ?? 0
  }

  /** Resolves when the process has said this so many times. */
  async noted(note: string, times = 1): Promise<void> {
    while (this.notes(note) < times) {
      await new Promise<void>((resolve) => {
        const before = this.#noted
        this.#noted = () => {
          before()
          resolve()
        }
      })
    }
  }

  /** Resolves for SIGKILL when the process has ended. */
  async kill(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    this.#process.kill(signal)
    if (signal === 'SIGKILL') await this.ended
  }

  #take(message: { ask?: number; note?: string; result?: unknown; failed?: string }): void {
    if (message.note !== undefined) {
      this.#notes.set(message.note, this.notes(message.note) + 1)
      const noted = this.#noted
      this.#noted = () => {}
      noted()
      return
    }
    const waiting = this.#asks.get(message.ask ?? 0)
    this.#asks.delete(message.ask ?? 0)
    if (message.failed === undefined) waiting?.resolve(message.result)
    else waiting?.reject(new Error(message.failed))
  }
}

/** A process whose node is not started yet. */
export const spawnMember = (): Member => {
  directory ||= mkdtempSync(join(tmpdir(), 'skein-processes-'))
  return new Member(
    spawn(process.execPath, [MEMBER], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, SKEIN_RUNTIME_DIR: directory },
    }),
    running,
  )
}

export const startMember = (options: MemberOptions = {}): Promise<Member> => spawnMember().start(options)

/** For what has to last: whatever can be waited for is waited for. */
export const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))

/** Asks again until the answer satisfies; the last answer is part of the error. */
export const until = async <T>(
  ask: () => Promise<T>,
  satisfies: (answer: T) => boolean,
  timeoutMs: number,
): Promise<T> => {
  const endAt = Date.now() + timeoutMs
  for (;;) {
    const answer = await ask()
    if (satisfies(answer)) return answer
    if (Date.now() >= endAt) throw new Error(`not within ${timeoutMs} ms; at last ${JSON.stringify(answer)}`)
    await pause(25)
  }
}
