import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { version as libzmq } from 'zeromq'

export interface Machine {
  cpu: string
  cores: number
  memoryGiB: number
  os: string
  node: string
  packages: Record<string, string>
  commit: string
  at: string
}

const root = new URL('../', import.meta.url)

const versionOf = (path: string): string =>
  (JSON.parse(readFileSync(new URL(`${path}package.json`, root), 'utf8')) as { version: string }).version

const git = (...args: string[]): string =>
  execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()

const commit = (): string => {
  try {
    return (
      git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ' with changes')
    )
  } catch {
    return 'unknown'
  }
}

/** What a figure means nothing without. */
export const describeMachine = (): Machine => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: availableParallelism(),
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  os: `${process.platform} ${release()} ${process.arch}`,
  node: process.version,
  packages: {
    skein: versionOf(''),
    zeromq: versionOf('node_modules/zeromq/'),
    libzmq,
    msgpackr: versionOf('node_modules/msgpackr/'),
  },
  commit: commit(),
  at: new Date().toISOString(),
})
