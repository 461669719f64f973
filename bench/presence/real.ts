import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CHILD = fileURLToPath(new URL('child.js', import.meta.url))

export interface Presence {
  readonly nodes: number
  readonly processes: number
  /** From the first spawn until every node has every other one up. */
  readonly meshedMs: number
  /** CPU that all of it took by then, in ms. */
  readonly joinCpuMs: number
  /** Of one core, while nothing is sent. */
  readonly idlePercent: number
}

const cpuMs = async (children: readonly ChildProcess[]): Promise<number> => {
  const used = await Promise.all(
    children.map(async (child) => {
      const answer = once(child, 'message') as Promise<[NodeJS.CpuUsage]>
      child.send('cpu')
      const [{ user, system }] = await answer
      return (user + system) / 1000
    }),
  )
  return used.reduce((sum, each) => sum + each, 0)
}

/** So many nodes of this host in so many processes: until they mesh, and what they cost when nothing happens. */
export const measureReal = async (nodes: number, processes: number, idleMs: number): Promise<Presence> => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-bench-'))
  const env = { ...process.env, SKEIN_RUNTIME_DIR: directory }
  const mesh = `presence-${process.pid}`
  const startedAt = performance.now()
  const children = Array.from({ length: processes }, () =>
    fork(CHILD, [mesh, String(nodes / processes), String(nodes)], { env, execArgv: [] }),
  )
  try {
    await Promise.all(children.map((child) => once(child, 'message')))
    const meshedMs = performance.now() - startedAt
    const joinCpuMs = await cpuMs(children)
    // The last hellos are answered and the starting costs (compilation, first collections) are over.
    await new Promise((resolve) => setTimeout(resolve, 5000))
    const [before, beganAt] = [await cpuMs(children), performance.now()]
    await new Promise((resolve) => setTimeout(resolve, idleMs))
    const idlePercent = (100 * ((await cpuMs(children)) - before)) / (performance.now() - beganAt)
    return { nodes, processes, meshedMs, joinCpuMs, idlePercent }
  } finally {
    const ended = children.filter(({ exitCode }) => exitCode === null).map((child) => once(child, 'exit'))
    for (const child of children) if (child.connected) child.send('end')
    await Promise.all(ended)
    rmSync(directory, { recursive: true, force: true })
  }
}
