import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'
import type { NodeOptions } from '../../src/index.ts'
import { Member } from '../support/processes.ts'

const PLAYER = fileURLToPath(new URL('./children/player.js', import.meta.url))

export interface Call {
  readonly n: number
  readonly to: string
  readonly id: string
  readonly attempt: number
  readonly redelivered: boolean
  readonly at: number
  readonly doneAt: number
}

export interface Sent {
  readonly n: number
  readonly id?: string
  readonly code?: string
  readonly message?: string
}

const players = new Set<Member>()
const directories: string[] = []
let runtime = ''
let meshes = 0

afterEach(async () => {
  await Promise.all(
    [...players].map(async (player) => {
      await player.kill('SIGCONT')
      await player.kill('SIGKILL')
    }),
  )
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
  runtime = ''
})

/** Removed after the test, if nobody else is told to do so. */
export const temporary = (what: string): string => {
  const directory = mkdtempSync(join(tmpdir(), `skein-${what}-`))
  directories.push(directory)
  return directory
}

export const meshName = (): string => `faults-${process.pid}-${++meshes}`

export interface PlayerOptions extends Omit<NodeOptions, 'logger'> {
  readonly env?: Readonly<Record<string, string>>
  /** How far the clock on its wall is off. */
  readonly wallByMs?: number
}

/** A node in a process of its own that does what it is asked; killed after the test. */
export const play = ({ env = {}, ...options }: PlayerOptions): Promise<Member> => {
  runtime ||= temporary('runtime')
  const child = spawn(process.execPath, [PLAYER], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, SKEIN_RUNTIME_DIR: runtime, ...env },
  })
  return new Member(child, players).start(options)
}

/** What its handlers were called with so far. */
export const callsOf = (player: Member): Promise<Call[]> => player.ask<Call[]>('calls')

/** The numbers that were handled here, in order of their beginning. */
export const doneBy = async (player: Member): Promise<number[]> =>
  (await callsOf(player)).filter(({ doneAt }) => doneAt > 0).map(({ n }) => n)

export const range = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, at) => from + at)
