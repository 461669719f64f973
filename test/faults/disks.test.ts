import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type Member, until } from '../support/processes.ts'
import { callsOf, doneBy, meshName, play, type Sent, temporary } from './player.ts'

const MOUNTS: string[] = []

afterEach(() => {
  for (const at of MOUNTS.splice(0)) execFileSync('umount', ['-l', at], { stdio: 'pipe' })
})

/** A disk of so many bytes; undefined where none can be mounted. */
const smallDisk = (sizeBytes: number): string | undefined => {
  const at = join(temporary('disk'), 'small')
  mkdirSync(at)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', at], { stdio: 'pipe' })
    MOUNTS.push(at)
    return at
  } catch {
    return undefined
  }
}

const canMount = process.platform === 'linux' && process.getuid?.() === 0
if (!canMount) console.info('skipped: small disks need root to mount them')

const pushUntilFull = async (sender: Member, from: number): Promise<number[]> => {
  const accepted: number[] = []
  for (let n = from; n < from + 2000; n += 10) {
    const sent = await sender.ask<Sent[]>('push', { queue: 'jobs', from: n, count: 10, fillBytes: 20_000 })
    accepted.push(...sent.filter(({ code }) => code === undefined).map((each) => each.n))
    const refused = sent.find(({ code }) => code !== undefined)
    if (refused === undefined) continue
    expect(refused.code).toBe('JOURNAL_FULL')
    return accepted
  }
  throw new Error('the disk did not become full')
}

/** The second is smaller than a segment, and so than the whole reserve. */
const DISKS = [48, 4]

test.skipIf(!canMount).each(DISKS)(
  'disks - %d MiB become full: sends at least once are refused by name, the rest goes on; with room again they are taken, without a restart, and nothing accepted is lost (G1, G6)',
  async (megabytes) => {
    const at = smallDisk(megabytes * 1024 * 1024)!
    const mesh = meshName()
    const ballast = join(at, 'ballast')
    writeFileSync(ballast, Buffer.alloc(megabytes * 256 * 1024))
    let sender = await play({ mesh, dataDir: join(at, 'data') })
    const worker = await play({ mesh })
    await worker.ask('respond', { name: 'echo' })
    await sender.ask('waitForPeers', { count: 1 })
    const accepted = await pushUntilFull(sender, 0)
    expect(accepted.length).toBeGreaterThan(10)
    expect(await sender.ask('request', { name: 'echo', value: 7 })).toBe(7)
    rmSync(ballast)
    const more = await until(
      () => sender.ask<Sent[]>('push', { queue: 'jobs', from: 10_000 + accepted.length, fillBytes: 10 }),
      ([sent]) => sent!.code === undefined,
      10_000,
    )
    accepted.push(more[0]!.n)
    accepted.push(...(await pushUntilFull(sender, 20_000)))
    // Full again: what is settled makes room all the same, and a crash in this state loses nothing.
    await sender.kill('SIGKILL')
    sender = await play({ mesh, dataDir: join(at, 'data') })
    await worker.ask('pull', { queue: 'jobs', concurrency: 4 })
    await until(
      () => doneBy(worker),
      (done) => new Set(done).size >= accepted.length,
      20_000,
    )
    const done = new Set(await doneBy(worker))
    expect(accepted.filter((n) => !done.has(n))).toEqual([])
    expect((await callsOf(worker)).filter(({ redelivered }) => !redelivered)).toEqual([])
    await until(
      () => sender.ask<Sent[]>('push', { queue: 'jobs', from: 30_000, fillBytes: 20_000 }),
      ([sent]) => sent!.code === undefined,
      15_000,
    )
  },
  60_000,
)
