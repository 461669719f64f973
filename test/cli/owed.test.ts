import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { isAlive, type Program, runSkein, type StartOptions, startSkein } from '../support/skein-cli.ts'

let mesh = ''
beforeEach(() => {
  mesh = `test-${randomBytes(4).toString('hex')}`
})

const run = (args: readonly string[], options?: StartOptions) => runSkein([...args, '--mesh', mesh], options)
const start = (args: readonly string[], options?: StartOptions) =>
  startSkein([...args, '--mesh', mesh], options)

const directory = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'skein-cli-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

const startPull = async (args: readonly string[], options?: StartOptions): Promise<Program> => {
  const program = start(['pull', ...args], options)
  await program.prints('working on')
  return program
}

const startSub = async (args: readonly string[], options?: StartOptions): Promise<Program> => {
  const program = start(['sub', ...args], options)
  await program.prints('listening on')
  return program
}

const records = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as Record<string, unknown>)
const values = (lines: readonly string[]): unknown[] => records(lines).map(({ value }) => value)

describe('cli push and pull', () => {
  test('push - work is done by a worker, the receipt says so on -v, and both exit 0', async () => {
    const pull = await startPull(['resize', '--count', '1'])
    const push = await run(['push', 'resize', '{"image":1}', '-v', '--key', 'cat', '-H', 'trace=x'])
    expect(push.exitCode).toBe(0)
    const [receipt, settled] = records(push.lines)
    expect(receipt).toMatchObject({
      kind: 'receipt',
      addressees: [{ kind: 'queue', name: 'resize' }],
      durability: 'memory',
    })
    expect(settled).toMatchObject({ kind: 'settled', id: receipt!.id, outcomes: [{ outcome: 'handled' }] })
    const ended = await pull.ended
    expect(ended.exitCode).toBe(0)
    expect(records(ended.lines)).toMatchObject([
      { topic: 'resize', value: { image: 1 }, id: receipt!.id, key: 'cat', headers: { trace: 'x' } },
    ])
  })

  test('push - without -v stdout stays empty, and each line of stdin is work, each done once (G1)', async () => {
    const pulls = await Promise.all([startPull(['jobs']), startPull(['jobs'])])
    const input = Array.from({ length: 500 }, (_, n) => `${n}\n`).join('')
    expect(await run(['push', 'jobs'], { input })).toMatchObject({ exitCode: 0, stdout: '' })
    for (const pull of pulls) pull.kill('SIGINT')
    const ended = await Promise.all(pulls.map((pull) => pull.ended))
    expect(ended.map(({ exitCode }) => exitCode)).toEqual([130, 130])
    const done = ended.flatMap(({ lines }) => values(lines) as number[])
    expect(done.sort((one, other) => one - other)).toEqual(Array.from({ length: 500 }, (_, n) => n))
  })

  test('push - nobody works: it ends with 3 and says that the work is lost without a data directory', async () => {
    const push = await run(['push', 'jobs', '1', '--timeout', '200ms'])
    expect(push.exitCode).toBe(3)
    expect(push.stderr).toMatch(
      /1 message was not handled within 200 ms and is lost.*skein pull jobs.*--data-dir; skein why jobs --mesh .* says why/,
    )
    expect(push.stderr.trim().split('\n')).toHaveLength(1)
  })

  test('push - nobody works: what a data directory holds is handed over by the next that opens it (G2)', async () => {
    const dataDir = directory()
    const push = await run(['push', 'jobs', '--data-dir', dataDir, '--timeout', '100ms'], {
      input: '1\n2\n3\n',
    })
    expect(push.exitCode).toBe(3)
    expect(push.stderr).toContain(`3 messages were not handled within 100 ms and are held in "${dataDir}"`)
    const pull = await startPull(['jobs', '--count', '3'])
    expect(await run(['push', '--held', '--data-dir', dataDir])).toMatchObject({ exitCode: 0, stdout: '' })
    expect(values((await pull.ended).lines)).toEqual([1, 2, 3])
  })

  test('push - --held of a directory that is none is refused, and makes none; neither is a file taken for one', async () => {
    const dataDir = join(directory(), 'mistyped')
    const held = await run(['push', '--held', '--data-dir', dataDir])
    expect(held).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('there is no such directory') })
    expect(existsSync(dataDir)).toBe(false)
    writeFileSync(dataDir, '')
    const push = await run(['push', 'jobs', '1', '--data-dir', dataDir])
    expect(push).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('it is a file') })
  })

  test('push - with --timeout 0 it is enough that the work is held, wherever SKEIN_DATA_DIR says', async () => {
    const dataDir = directory()
    const env = { SKEIN_DATA_DIR: dataDir }
    const push = await run(['push', 'jobs', '1', '-v', '--timeout', '0'], { env })
    expect(push).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(`held in "${dataDir}"`) })
    expect(records(push.lines)).toMatchObject([{ kind: 'receipt', durability: 'disk' }])
    expect((await run(['push', '--held', '--timeout', '100ms'], { env })).exitCode).toBe(3)
  })

  test('push - a directory that another node has open is refused, and says by whom', async () => {
    const dataDir = directory()
    const first = start(['push', 'jobs', '1', '-v', '--data-dir', dataDir, '--timeout', '30s'])
    await first.prints('receipt')
    const second = await run(['push', 'jobs', '2', '--data-dir', dataDir])
    expect(second.exitCode).toBe(1)
    expect(second.stderr).toMatch(new RegExp(`process ${first.process.pid}.*JOURNAL_LOCKED`))
    first.kill('SIGINT')
    const ended = await first.ended
    expect(ended.exitCode).toBe(130)
    expect(ended.stderr).toContain(
      `1 message was not handled when this was interrupted and is held in "${dataDir}"`,
    )
  })

  test('push - what cannot work is a wrong usage: no queue, --held without a directory, a delay that nobody keeps, a time that is none', async () => {
    const wrong = [
      ['push'],
      ['push', '--held'],
      ['push', 'jobs', '1', '--delay', '1h'],
      ['push', 'a..b', '1'],
      ['push', 'jobs', '1', '--timeout', '0'],
      ['pub', 'order.created', '1', '--at-least-once', '--timeout', '0'],
      ['push', 'jobs', '1', '--ttl', '0'],
      ['pull', 'jobs', '--handler-timeout', '1s'],
      ['pull', 'jobs', '--exec', 'true', '--handler-timeout', '0'],
    ]
    for (const args of wrong) expect((await run(args)).exitCode).toBe(2)
  })

  test('push - what is sent again with the same id is done once', async () => {
    const pull = await startPull(['jobs'])
    const push = await run(['push', 'jobs', '1', '--count', '5', '--dedupe-id', 'order-7', '-v'])
    expect(push).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('known to this call only') })
    pull.kill('SIGINT')
    expect((await pull.ended).lines).toHaveLength(1)
  })

  test('push - an id is known to a later call as long as the data directory holds its message', async () => {
    const dataDir = ['--data-dir', directory()]
    const kept = ['push', 'jobs', '2', '--dedupe-id', 'order-8', '--timeout', '0', ...dataDir]
    for (let times = 0; times < 2; times++)
      expect(await run(kept)).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining('dedupe') })
    const ls = await run(['journal', 'ls', ...dataDir])
    expect(ls.lines).toHaveLength(1)
  })

  test('push --json - what is no JSON is refused, a line of it alone', async () => {
    const refused = await run(['push', 'jobs', '{bad json', '--json'])
    expect(refused).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('the payload is no JSON') })
    const pull = await startPull(['jobs'])
    const lines = await run(['push', 'jobs', '--json'], { input: '{"a":1}\nbad\n"text"\n' })
    expect(lines).toMatchObject({ exitCode: 7, stderr: expect.stringContaining('1 of 3 messages failed') })
    pull.kill('SIGINT')
    expect(values((await pull.ended).lines)).toEqual([{ a: 1 }, 'text'])
    expect((await run(['push', 'jobs', '1', '--json', '--raw'])).exitCode).toBe(2)
    expect((await run(['request', 'price.get', '{bad', '--json'])).exitCode).toBe(2)
  })

  test('pull --exec - a command gets the value on stdin and learns about the job; what it prints is printed', async () => {
    const exec =
      'cat; echo " $SKEIN_TOPIC $SKEIN_KEY $SKEIN_ATTEMPT $SKEIN_REDELIVERED $SKEIN_HEADER_TRACE $SKEIN_ID"'
    const pull = await startPull(['jobs', '--exec', exec, '--count', '1'])
    const push = await run(['push', 'jobs', '{"a":1}', '--key', 'k', '-H', 'trace=x', '-v'])
    const id = String(records(push.lines)[0]!.id)
    expect(await pull.ended).toMatchObject({ exitCode: 0, stdout: `{"a":1} jobs k 1 0 x ${id}\n` })
  })

  test('pull --exec - a command that fails gets its job again, with its code and last words as the reason', async () => {
    const marker = join(directory(), 'tried')
    const exec = `if [ -e ${marker} ]; then echo "done $SKEIN_ATTEMPT $SKEIN_REDELIVERED"; else touch ${marker}; echo "no disk" >&2; exit 3; fi`
    const pull = await startPull(['jobs', '--exec', exec])
    expect((await run(['push', 'jobs', '1'])).exitCode).toBe(0)
    expect(pull.stdout).toBe('done 2 1\n')
    // Its stderr stands there already.
    expect(pull.stderr.match(/no disk/g)).toHaveLength(1)
    expect(pull.stderr).toMatch(/attempt 1 at message \S+ of "jobs" failed: exited with 3/)
  })

  test('pull --exec - a command that takes too long is ended, and its job has failed', async () => {
    const pidFile = join(directory(), 'pid')
    const exec = `echo $$ > ${pidFile}; sleep 60`
    const pull = await startPull(['jobs', '--exec', exec, '--handler-timeout', '300ms'])
    expect((await run(['push', 'jobs', '1', '--timeout', '600ms'])).exitCode).toBe(3)
    await pull.prints('longer than 300 ms')
    const pid = Number(readFileSync(pidFile, 'utf8'))
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false))
  })

  test('pull --exec - Ctrl-C lets the running command finish and hands back what it had not begun', async () => {
    const marks = directory()
    const exec = `cat > ${marks}/began; sleep 0.5; touch ${marks}/ended`
    const pull = await startPull(['jobs', '--exec', exec])
    const push = start(['push', 'jobs', '-v'], { input: '1\n2\n3\n' })
    await vi.waitFor(() => expect(existsSync(`${marks}/began`)).toBe(true))
    pull.kill('SIGINT')
    expect((await pull.ended).exitCode).toBe(130)
    expect(existsSync(`${marks}/ended`)).toBe(true)
    const other = await startPull(['jobs'])
    expect((await push.ended).exitCode).toBe(0)
    expect(values(other.lines)).toEqual([2, 3])
  })

  test('pull --exec - a second Ctrl-C takes the command with it', async () => {
    const pidFile = join(directory(), 'pid')
    const pull = await startPull(['jobs', '--exec', `echo $$ > ${pidFile}; exec sleep 60`])
    start(['push', 'jobs', '1'])
    const pid = await vi.waitFor(() => {
      const found = Number(readFileSync(pidFile, 'utf8'))
      expect(found).toBeGreaterThan(0)
      return found
    })
    pull.kill('SIGINT')
    await pull.prints('press Ctrl-C again')
    await new Promise((resolve) => setTimeout(resolve, 150))
    pull.kill('SIGINT')
    expect((await pull.ended).exitCode).toBe(130)
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false))
  })

  test('pull --exec --concurrency - a worker that is killed loses nothing: another does its jobs, flagged (G1)', async () => {
    const marks = directory()
    const exec = `echo "$(cat)" >> ${marks}/done; sleep 0.1`
    const slow = await startPull(['jobs', '--exec', `touch ${marks}/began; sleep 60`, '--concurrency', '2'])
    const input = Array.from({ length: 10 }, (_, n) => `${n}\n`).join('')
    const push = start(['push', 'jobs', '--timeout', '15s'], { input })
    await vi.waitFor(() => expect(existsSync(`${marks}/began`)).toBe(true))
    slow.kill('SIGKILL')
    await startPull(['jobs', '--exec', exec, '--concurrency', '4'])
    expect((await push.ended).exitCode).toBe(0)
    const done = readFileSync(`${marks}/done`, 'utf8').trim().split('\n').map(Number)
    expect([...new Set(done)].sort((one, other) => one - other)).toEqual(
      Array.from({ length: 10 }, (_, n) => n),
    )
  })
})

describe('cli sub --group', () => {
  test('sub --group - of two members each message is printed by one', async () => {
    const subs = await Promise.all([
      startSub(['order.*', '--group', 'billing']),
      startSub(['order.*', '--group', 'billing']),
    ])
    const input = Array.from({ length: 40 }, (_, n) => `${n}\n`).join('')
    const pub = await run(['pub', 'order.created', '--at-least-once'], { input })
    expect(pub).toMatchObject({ exitCode: 0, stdout: '' })
    const got = subs.flatMap(({ lines }) => values(lines) as number[])
    expect(got.sort((one, other) => one - other)).toEqual(Array.from({ length: 40 }, (_, n) => n))
  })

  test('sub --group --remember - what is published while all are away is held, and comes when one returns (G2)', async () => {
    const dataDir = directory()
    const pub = (value: string, ...more: string[]) =>
      run(['pub', 'order.created', value, '--at-least-once', '--data-dir', dataDir, ...more])
    const first = await startSub(['order.*', '--group', 'billing', '--remember', '--count', '1'])
    expect((await pub('1')).exitCode).toBe(0)
    expect((await first.ended).exitCode).toBe(0)
    const held = await pub('2', '--timeout', '100ms')
    expect(held.exitCode).toBe(3)
    expect(held.stderr).toContain(`held in "${dataDir}"`)
    const second = await startSub(['order.*', '--group', 'billing', '--count', '1'])
    expect((await run(['push', '--held', '--data-dir', dataDir])).exitCode).toBe(0)
    expect(values((await second.ended).lines)).toEqual([2])
  })

  test('sub --group - without --remember the group is withdrawn at exit, and nobody is owed anything', async () => {
    const dataDir = directory()
    const publisher = start(['pub', 'order.created', '-', '--at-least-once', '-v', '--data-dir', dataDir], {
      open: true,
    })
    const sub = await startSub(['order.*', '--group', 'billing', '--count', '1'])
    await vi.waitFor(() => {
      publisher.process.stdin?.write('1\n')
      expect(publisher.stdout).toContain('handled')
    })
    expect((await sub.ended).exitCode).toBe(0)
    publisher.process.stdin?.end()
    await publisher.ended
    const pub = await run(['pub', 'order.created', '2', '--at-least-once', '--data-dir', dataDir])
    expect(pub.exitCode).toBe(5)
  })

  test('sub - --remember without a group, and a group whose name is not valid, are a wrong usage', async () => {
    expect((await run(['sub', 'order.*', '--remember'])).exitCode).toBe(2)
    const group = await run(['sub', 'order.*', '--group', 'a b'])
    expect(group).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('the group "a b" is not valid'),
    })
  })
})

describe('cli pub --at-least-once', () => {
  test('pub --at-least-once - the receipt names every addressee, and what became of each', async () => {
    const subs = await Promise.all([
      startSub(['order.*', '--count', '1']),
      startSub(['order.*', '--count', '1', '--group', 'billing']),
    ])
    const pub = await run(['pub', 'order.created', '1', '--at-least-once', '-v'])
    expect(pub.exitCode).toBe(0)
    const [receipt, settled] = records(pub.lines)
    const addressees = receipt!.addressees as { kind: string }[]
    expect(addressees.map(({ kind }) => kind).sort()).toEqual(['group', 'node'])
    expect(settled!.outcomes).toMatchObject([{ outcome: 'handled' }, { outcome: 'handled' }])
    for (const sub of subs) expect(values((await sub.ended).lines)).toEqual([1])
  })

  test('pub --at-least-once - nobody there ends with 5; --owed-to owes it to a group that was never seen', async () => {
    const dataDir = directory()
    const nobody = await run(['pub', 'order.created', '1', '--at-least-once'])
    expect(nobody.exitCode).toBe(5)
    expect(nobody.stderr).toMatch(/nobody in mesh.*subscribes to "order.created" now.*nothing was published/)
    const owed = ['--at-least-once', '--owed-to', 'billing', '--data-dir', dataDir, '--timeout', '0']
    expect((await run(['pub', 'order.created', '1', ...owed])).exitCode).toBe(0)
    const sub = await startSub(['order.*', '--group', 'billing', '--count', '1'])
    expect((await run(['push', '--held', '--data-dir', dataDir])).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual([1])
  })

  test('pub - --timeout waits for somebody to owe it to', async () => {
    const pub = start(['pub', 'order.created', '1', '--at-least-once', '--timeout', '15s'])
    const sub = await startSub(['order.*', '--count', '1'])
    expect((await pub.ended).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual([1])
  })

  test('pub - what is for owed messages is refused without --at-least-once', async () => {
    const refused = await run(['pub', 'order.created', '1', '--ttl', '1h'])
    expect(refused.exitCode).toBe(2)
    expect(refused.stderr).toContain('--ttl is for what is owed: say --at-least-once, too')
  })

  test('--data-dir - a command that sends nothing at least once says that it has no effect', async () => {
    const dataDir = join(directory(), 'none')
    const peers = await run(['peers', '--data-dir', dataDir])
    expect(peers.stderr).toContain('--data-dir has no effect')
    expect(existsSync(dataDir)).toBe(false)
  })
})
