import { randomBytes } from 'node:crypto'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { inspectOwed, type Node, Reject, readOwner } from '../../src/index.ts'
import { errorOf, eventually, start } from '../support/mesh.ts'
import { runSkein, startSkein } from '../support/skein-cli.ts'

let mesh = ''
let dataDir = ''
beforeEach(() => {
  mesh = `test-${randomBytes(4).toString('hex')}`
  dataDir = mkdtempSync(join(tmpdir(), 'skein-cli-'))
})

const run = (...args: string[]) => {
  const made = dataDir
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return runSkein([...args, '--mesh', mesh, '--data-dir', dataDir])
}

const records = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as Record<string, unknown>)

/** A sender with so many dead letters, that its worker has refused. */
const buried = async (count: number): Promise<Node> => {
  const sender = await start({ mesh, dataDir })
  const worker = await start({ mesh })
  worker.pull('jobs', () => {
    throw new Reject('not an image')
  })
  for (let n = 1; n <= count; n++) {
    const receipt = await sender.push('jobs', { n }, { key: 'k', headers: { trace: 'x' } })
    await receipt.settled
  }
  await worker.close()
  return sender
}

describe('cli dead-letters', () => {
  test('dead-letters ls and show - what the node itself lists, whether it runs or not', async () => {
    const sender = await buried(2)
    const listed = JSON.parse(JSON.stringify(await sender.deadLetters.list())) as { id: string }[]
    expect((await inspectOwed(dataDir)).deadLetters).toEqual(await sender.deadLetters.list())
    for (const runs of [true, false]) {
      if (!runs) await sender.close()
      const ls = await run('dead-letters', 'ls')
      expect(ls.exitCode).toBe(0)
      expect(records(ls.lines)).toEqual(listed)
      const show = await run('dead-letters', 'show', listed[1]!.id)
      expect(records(show.lines)).toEqual([listed[1]])
      const raw = await run('dead-letters', 'show', listed[1]!.id, '--format', 'raw')
      expect(raw.stdout).toBe('{"n":2}\n')
    }
    const text = await run('dead-letters', 'ls', '--format', 'text')
    expect(text.lines).toHaveLength(3)
    expect(text.lines[1]).toMatch(/^\d+ +jobs +queue jobs +1 +.*not an image$/)
  })

  test('dead-letters retry - of a node that does not run it is owed again, and waited for', async () => {
    await (await buried(2)).close()
    const pull = startSkein(['pull', 'jobs', '--count', '2', '--mesh', mesh])
    await pull.prints('working on')
    const retry = await run('dead-letters', 'retry', '--all', '-v')
    expect(retry.exitCode).toBe(0)
    expect(records(retry.lines).filter(({ kind }) => kind === 'settled')).toHaveLength(2)
    expect(records((await pull.ended).lines)).toMatchObject([{ value: { n: 1 } }, { value: { n: 2 } }])
    expect(await run('dead-letters', 'ls')).toMatchObject({ exitCode: 0, stdout: '' })
  })

  test('dead-letters retry - where nobody handles it, it ends with 3 and is owed on', async () => {
    await (await buried(1)).close()
    const retry = await run('dead-letters', 'retry', '--all', '--timeout', '100ms')
    expect(retry.exitCode).toBe(3)
    expect(retry.stderr).toContain(`held in "${dataDir}"`)
    const inspected = await inspectOwed(dataDir)
    expect([inspected.owed.length, inspected.deadLetters.length]).toEqual([1, 0])
  })

  test('dead-letters retry and drop - a node that runs does it when it is asked', async () => {
    const sender = await buried(3)
    const [first, second] = await sender.deadLetters.list()
    const retry = await run('dead-letters', 'retry', first!.id)
    expect(retry).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('1 dead letter owed again') })
    expect(sender.stats()).toMatchObject({ owed: 1, deadLetters: 2 })
    expect((await run('dead-letters', 'drop', second!.id)).exitCode).toBe(0)
    expect(sender.stats()).toMatchObject({ owed: 1, deadLetters: 1 })
    expect((await run('dead-letters', 'drop', '--all')).exitCode).toBe(0)
    expect(sender.stats()).toMatchObject({ owed: 1, deadLetters: 0 })
  })

  test('dead-letters drop - of a node that does not run', async () => {
    await (await buried(2)).close()
    expect((await run('dead-letters', 'drop', '--all')).exitCode).toBe(0)
    expect((await inspectOwed(dataDir)).deadLetters).toEqual([])
  })

  test('dead-letters - a node of another mesh is not found, and that is said', async () => {
    await buried(1)
    mesh = `${mesh}-other`
    const retry = await run('dead-letters', 'retry', '--all')
    expect(retry.exitCode).toBe(5)
    expect(retry.stderr).toMatch(/belongs to a node that runs.*--mesh/)
  })

  test('dead-letters - an id that is not there, no ids, no directory, and a directory that is none', async () => {
    await (await buried(1)).close()
    expect(await run('dead-letters', 'show', '999')).toMatchObject({ exitCode: 1, stdout: '' })
    expect((await run('dead-letters', 'retry', '999')).exitCode).toBe(1)
    expect((await run('dead-letters', 'drop')).exitCode).toBe(2)
    expect((await runSkein(['dead-letters', 'ls'])).exitCode).toBe(2)
    const none = await runSkein(['dead-letters', 'retry', '--all', '--data-dir', join(dataDir, 'none')])
    expect(none.exitCode).toBe(1)
    expect(readdirSync(dataDir)).not.toContain('none')
  })

  test('dead-letters - who cannot read the data directory can have nothing retried or dropped', async () => {
    const sender = await buried(1)
    const [letter] = await sender.deadLetters.list()
    const stranger = await start({ mesh })
    const ask = (query: unknown) =>
      errorOf(() => stranger.request('$skein.dead-letters', query, { to: sender.id, waitMs: 3000 }))
    for (const proof of ['', 'process 1\n', undefined])
      expect((await ask({ do: 'drop', ids: [letter!.id], proof })).code).toBe('REMOTE_ERROR')
    expect((await ask('drop all')).code).toBe('REMOTE_ERROR')
    expect(sender.stats().deadLetters).toBe(1)
    const proof = await readOwner(dataDir)
    const answer = await stranger.request(
      '$skein.dead-letters',
      { do: 'drop', ids: [letter!.id, '999'], proof },
      { to: sender.id },
    )
    expect(answer).toMatchObject({ done: [letter!.id], failed: [{ id: '999', code: 'DEAD_LETTER_UNKNOWN' }] })
  })
})

describe('cli journal', () => {
  const owing = async (): Promise<Node> => {
    const sender = await start({ mesh, dataDir })
    for (let n = 0; n < 3; n++) await sender.push('jobs', { n }, { key: 'k' })
    await sender.push('mail', 'hello', { ttlMs: 60_000 })
    return sender
  }

  test('journal ls and stats - what is owed, to whom, since when and until when, beside the owner that runs', async () => {
    const sender = await owing()
    const ls = await run('journal', 'ls')
    expect(ls.exitCode).toBe(0)
    expect(records(ls.lines)).toMatchObject([
      ...[0, 1, 2].map(() => ({
        topic: 'jobs',
        key: 'k',
        addressees: [{ kind: 'queue', name: 'jobs', failures: 0 }],
        ageMs: expect.any(Number),
      })),
      { topic: 'mail', expiresAt: expect.any(Number) },
    ])
    await sender.push('later', 1, { delayMs: 3 * 3_600_000, ttlMs: 4 * 3_600_000 })
    const text = await run('journal', 'ls', '--format', 'text')
    expect(text.lines[0]).toMatch(/ jobs {2}key k {2}to queue jobs {2}for \d+(\.\d)? (ms|s)$/)
    expect(text.lines[3]).toMatch(/ mail .* expires in (5\d|60)\.\d s$/)
    expect(text.lines[4]).toMatch(/ later .* {2}not before 3\.0 h from now {2}expires in 4\.0 h$/)
    const [stats] = records((await run('journal', 'stats')).lines)
    expect(stats).toMatchObject({
      nodeId: sender.id,
      owed: 5,
      deadLetters: 0,
      addressees: [
        { kind: 'queue', name: 'jobs', owed: 3, failing: 0 },
        { kind: 'queue', name: 'mail', owed: 1 },
        { kind: 'queue', name: 'later', owed: 1 },
      ],
    })
    expect((await run('journal', 'stats', '--format', 'text')).stdout).toContain('5 messages')
  })

  test('journal ls - failures and their reason are told, and parts that are settled are not', async () => {
    const sender = await owing()
    const [worker, other] = [await start({ mesh }), await start({ mesh })]
    await other.subscribe('order.*', () => {}).ready
    await worker.subscribe('order.*', () => Promise.reject(new Error('no disk')), { group: 'billing' }).ready
    await sender.publish('order.x', 1, { delivery: 'at-least-once' })
    const left = async () => (await inspectOwed(dataDir)).owed.at(-1)!.addressees
    await eventually(async () => {
      const [part, ...others] = await left()
      return others.length === 0 && part!.failures > 0
    })
    expect(await left()).toMatchObject([
      { kind: 'group', name: 'billing', lastError: 'HANDLER_FAILED: no disk' },
    ])
    expect((await inspectOwed(dataDir)).groups).toMatchObject([{ group: 'billing', patterns: ['order.*'] }])
  })

  test('journal verify - a sound journal exits 0, one that was damaged or cut 1, and nothing is changed', async () => {
    await (await owing()).close()
    expect(records((await run('journal', 'verify')).lines)).toMatchObject([{ ok: true, damage: [] }])
    const [name] = readdirSync(join(dataDir, 'journal')).filter((each) => each.endsWith('.segment'))
    const path = join(dataDir, 'journal', name!)
    const bytes = readFileSync(path)
    const hurt = Buffer.from(bytes)
    const at = bytes.indexOf('mail')
    hurt[at] = hurt[at]! ^ 1
    writeFileSync(path, hurt)
    const before = statSync(path).mtimeMs
    const verify = await run('journal', 'verify', '--format', 'text')
    expect(verify.exitCode).toBe(1)
    expect(verify.stdout).toMatch(/^damage .*segment/)
    expect(statSync(path).mtimeMs).toBe(before)
    writeFileSync(path, bytes)
    truncateSync(path, at)
    expect((await run('journal', 'verify')).exitCode).toBe(0)
  })

  test('journal - no directory is a wrong usage, and one that is none an error', async () => {
    expect((await runSkein(['journal', 'ls'])).exitCode).toBe(2)
    const none = await run('journal', 'verify')
    expect(none).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('it is no data directory') })
  })
})
