import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chanceOf } from './chance.ts'
import { type Happened, judge, parseHistory } from './checker.ts'

const CHILDREN = fileURLToPath(new URL('./children', import.meta.url))
const IMAGE_BYTES = 128 * 1024 * 1024
const JOURNAL_BYTES = 80 * 1024 * 1024

export interface PowerCuts {
  readonly cuts: number
  /** Sends that had resolved before the power was cut. */
  readonly accepted: number
  /** Of those, what was not there any more. */
  readonly lost: number
  /** Other things that are wrong. */
  readonly violations: readonly string[]
}

/** Why no disk can be taken away here; undefined if one can. */
export const noPowerCuts = (): string | undefined => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return 'power cuts need loop devices of Linux, and root to mount them'
  const directory = mkdtempSync(join(tmpdir(), 'skein-power-cut-'))
  try {
    const mount = makeDisk(directory)
    unmount(mount)
    return undefined
  } catch (error) {
    return `no file system can be mounted: ${(error as Error).message.split('\n').slice(0, 2).join(' ')}`
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/**
 * A sender writes to an ext4 of its own. It is frozen, and the image of its disk copied: what was never synced is missing
 * from the copy, as after a power cut. A new node opens the copy, and must hand over all that was accepted.
 */
export const powerCuts = async (plan: {
  readonly seed: number
  readonly cuts: number
  readonly durability: 'disk' | 'os'
}): Promise<PowerCuts> => {
  const { seed, cuts, durability } = plan
  const chance = chanceOf(seed)
  let accepted = 0
  let lost = 0
  const violations: string[] = []
  for (let at = 0; at < cuts; at++) {
    const fillBytes = chance.one(2) ? 200 : 30_000
    const verdict = await cut(`${seed}-${at}`, durability, fillBytes, chance.between(20, 400))
    accepted += verdict.accepted
    lost += verdict.lost
    violations.push(...verdict.violations)
  }
  return { cuts, accepted, lost, violations }
}

const cut = async (
  name: string,
  durability: 'disk' | 'os',
  fillBytes: number,
  afterMs: number,
): Promise<PowerCuts> => {
  const directory = mkdtempSync(join(tmpdir(), 'skein-power-cut-'))
  const mounts: string[] = []
  const children: ChildProcess[] = []
  const start = (program: string, given: object): ChildProcess => {
    const history = join(directory, `${program}.jsonl`)
    const mesh = `power-cut-${process.pid}-${name}-${program}`
    const child = fork(join(CHILDREN, program), [JSON.stringify({ mesh, history, ...given })], {
      execArgv: [],
      env: { ...process.env, SKEIN_RUNTIME_DIR: directory },
    })
    children.push(child)
    return child
  }
  const history = (): Happened[] =>
    parseHistory(['sender.js', 'worker.js'].map((each) => readOr(join(directory, `${each}.jsonl`))))
  try {
    const disk = makeDisk(directory)
    mounts.push(disk)
    const limits = { journalBytes: JOURNAL_BYTES }
    const sender = start('sender.js', {
      ...{ dataDir: join(disk, 'data'), from: 0, perSecond: 1e6, sends: true, fillBytes, durability },
      options: { limits },
    })
    await once(sender, 'message')
    await pause(afterMs)
    sender.kill('SIGSTOP')
    await stopped(sender)
    const image = join(directory, 'copy.img')
    execFileSync('cp', ['--sparse=always', join(directory, 'disk.img'), image])
    const ended = once(sender, 'exit')
    sender.kill('SIGKILL')
    await ended
    unmount(mounts.pop()!)
    const copy = mountImage(image, join(directory, 'copy'))
    mounts.push(copy)
    start('worker.js', {
      ...{ watches: false, handlerMs: 0, leaseMs: 60_000, dataDir: join(copy, 'data') },
    })
    return await rest(history)
  } finally {
    await Promise.all(
      children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      }),
    )
    for (const each of mounts) unmount(each)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Waits until everything is there, or nothing comes any more. */
const rest = async (history: () => Happened[]): Promise<PowerCuts> => {
  let handled = -1
  let changedAt = performance.now()
  for (;;) {
    const verdict = judge(history())
    if (verdict.handled !== handled) {
      handled = verdict.handled
      changedAt = performance.now()
    }
    if (verdict.lost === 0 || performance.now() > changedAt + 3000) {
      const { accepted, lost, violations } = verdict
      return { cuts: 1, accepted, lost, violations: violations.filter((each) => !each.startsWith('G2 lost')) }
    }
    await pause(50)
  }
}

const makeDisk = (directory: string): string => {
  const image = join(directory, 'disk.img')
  writeFileSync(image, '')
  truncateSync(image, IMAGE_BYTES)
  execFileSync('mkfs.ext4', ['-q', '-F', image], { stdio: 'pipe' })
  return mountImage(image, join(directory, 'disk'))
}

/** The file system writes of itself only once a minute: what was not synced is not there. */
const mountImage = (image: string, at: string): string => {
  mkdirSync(at)
  execFileSync('mount', ['-o', 'loop,commit=60', image, at], { stdio: 'pipe' })
  return at
}

const unmount = (at: string): void => {
  execFileSync('umount', [at], { stdio: 'pipe' })
}

const stopped = async ({ pid }: ChildProcess): Promise<void> => {
  while (!/\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) await pause(1)
}

const readOr = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
