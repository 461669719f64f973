import { exec } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { isAlive, MAIN, type Program, runSkein, type StartOptions, startSkein } from '../support/skein-cli.ts'

let mesh = ''
beforeEach(() => {
  mesh = `test-${randomBytes(4).toString('hex')}`
})

const run = (args: readonly string[], options?: StartOptions) => runSkein([...args, '--mesh', mesh], options)
const start = (args: readonly string[], options?: StartOptions) =>
  startSkein([...args, '--mesh', mesh], options)

const startSub = async (args: readonly string[], options?: StartOptions): Promise<Program> => {
  const program = start(['sub', ...args], options)
  await program.prints('listening on')
  return program
}

const startRespond = async (args: readonly string[], options?: StartOptions): Promise<Program> => {
  const program = start(['respond', ...args], options)
  await program.prints('answering')
  return program
}

const values = (lines: readonly string[]): unknown[] =>
  lines.map((line) => (JSON.parse(line) as { value: unknown }).value)

test('help - a reader that has left, as head does, is no error', async () => {
  const { stderr } = await promisify(exec)(`'${process.execPath}' '${MAIN}' pull --help | true`)
  expect(stderr).toBe('')
})

describe('cli pub and sub', () => {
  test('pub - three one-shot commands reach a subscriber, one NDJSON line each, and both sides exit 0', async () => {
    const sub = await startSub(['sensors.>', '--count', '3'])
    for (const c of [21, 22, 23]) {
      expect(await run(['pub', 'sensors.kitchen', `{"c":${c}}`])).toMatchObject({ exitCode: 0, stdout: '' })
    }
    const ended = await sub.ended
    expect(ended.exitCode).toBe(0)
    expect(ended.lines.map((line) => JSON.parse(line))).toEqual(
      [21, 22, 23].map((c) => ({
        topic: 'sensors.kitchen',
        value: { c },
        from: expect.stringMatching(/^[0-9a-f]{32}$/),
        id: expect.any(String),
      })),
    )
  })

  test('pub - two subscribers both get everything, because a one-shot command knows who is there', async () => {
    const subs = await Promise.all([startSub(['a.*', '--count', '2']), startSub(['a.b', '--count', '2'])])
    await run(['pub', 'a.b', 'one'])
    await run(['pub', 'a.b', 'two'])
    for (const sub of subs) expect(values((await sub.ended).lines)).toEqual(['one', 'two'])
  })

  test('pub - each line of stdin is a message, in order', async () => {
    const sub = await startSub(['lines', '--count', '1000'])
    const input = Array.from({ length: 1000 }, (_, n) => `${n}\n`).join('')
    expect((await run(['pub', 'lines'], { input })).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual(Array.from({ length: 1000 }, (_, n) => n))
  })

  test('pub - "-" is stdin, and --count bounds the lines', async () => {
    const sub = await startSub(['lines', '--timeout', '10s', '--count', '2'])
    const pub = start(['pub', 'lines', '-', '--raw', '--count', '2'], { open: true })
    pub.process.stdin?.write('1\ntwo words\nthree\n')
    expect((await pub.ended).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual(['1', 'two words'])
  })

  test('pub - headers travel, a repeated payload is counted, and a rate is kept', async () => {
    const sub = await startSub(['tick', '--count', '5'])
    const pub = await run(['pub', 'tick', '1', '-H', 'a=1', '-H', 'b=x=y', '--count', '5', '--rate', '20/s'])
    expect(pub.exitCode).toBe(0)
    expect(pub.durationMs).toBeGreaterThan(200)
    const { lines } = await sub.ended
    expect(lines.map((line) => JSON.parse(line).headers)).toEqual(Array(5).fill({ a: '1', b: 'x=y' }))
  })

  test('pub - a file goes over byte by byte with --raw, and comes out so with --format raw', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'skein-cli-')), 'payload')
    const bytes = randomBytes(5000)
    writeFileSync(path, bytes)
    const sub = await startSub(['file', '--count', '1', '--format', 'raw'])
    expect((await run(['pub', 'file', '--raw', '--file', path])).exitCode).toBe(0)
    await sub.ended
    expect(sub.stdoutBytes.equals(bytes)).toBe(true)
  })

  test('pub - with nobody there it exits 5 at once and says what to do', async () => {
    const pub = await run(['pub', 'nobody.here', '1'])
    expect(pub).toMatchObject({ exitCode: 5, stdout: '' })
    expect(pub.stderr).toContain('skein sub nobody.here')
    expect(pub.stderr).toContain(`skein why nobody.here --mesh ${mesh}`)
    expect(pub.durationMs).toBeLessThan(2000)
  })

  test('pub - with --timeout it waits for a subscriber that comes later', async () => {
    const pub = start(['pub', 'late', '7', '--timeout', '10s'])
    const sub = start(['sub', 'late', '--count', '1'])
    expect((await pub.ended).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual([7])
  })

  test('pub - Ctrl-C ends it while it waits for a subscriber, or for stdin', async () => {
    const waiting = start(['pub', 'late', '7', '--timeout', '1h'])
    const reader = await startSub(['lines', '--name', 'reader'])
    const reading = start(['pub', 'lines'], { open: true })
    reading.process.stdin?.write('1\n')
    // It was handled, so this one listens to signals by now, and the one started before it does.
    await reader.prints('"lines"')
    for (const pub of [waiting, reading]) {
      pub.kill('SIGINT')
      expect((await pub.ended).exitCode).toBe(130)
    }
  })

  test('pub - a line that is too large is said, the others arrive: 7', async () => {
    const sub = await startSub(['lines', '--count', '2'])
    const input = `1\n${'x'.repeat(17 * 2 ** 20)}\n3\n`
    const pub = await run(['pub', 'lines'], { input })
    expect(pub.exitCode).toBe(7)
    expect(pub.stderr).toContain('1 of 3 messages failed')
    expect(values((await sub.ended).lines)).toEqual([1, 3])
  })

  test('pub - a negative number is a payload, not an option', async () => {
    const sub = await startSub(['t', '--count', '1'])
    expect((await run(['pub', 't', '-5'])).exitCode).toBe(0)
    expect(values((await sub.ended).lines)).toEqual([-5])
  })

  test('sub - text on demand: one line a message, the topic and the value', async () => {
    const sub = await startSub(['t', '--count', '1', '--format', 'text'])
    await run(['pub', 't', 'hello world'])
    expect((await sub.ended).stdout).toBe('t  hello world\n')
  })

  test('sub - it exits 3 when its time is over', async () => {
    const sub = await run(['sub', 'quiet', '--count', '1', '--timeout', '300ms'])
    expect(sub).toMatchObject({ exitCode: 3, stdout: '' })
  })

  test('sub - Ctrl-C ends it cleanly with 130, and what it printed is complete', async () => {
    const sub = await startSub(['c'])
    await run(['pub', 'c', '1'])
    await sub.prints('"value":1')
    sub.kill('SIGINT')
    const ended = await sub.ended
    expect(ended).toMatchObject({ exitCode: 130, signal: null })
    expect(ended.lines).toHaveLength(1)
  })

  test('sub - SIGTERM ends it as cleanly, with 143', async () => {
    const sub = await startSub(['c'])
    sub.kill('SIGTERM')
    expect(await sub.ended).toMatchObject({ exitCode: 143, signal: null })
  })

  test('sub - a reader that leaves, as head does, ends it quietly with 0', async () => {
    const sub = await startSub(['c'])
    sub.process.stdout?.destroy()
    // The first write after the reader left finds out.
    await run(['pub', 'c', '1'])
    await run(['pub', 'c', '2', '--timeout', '0'])
    const ended = await sub.ended
    expect(ended.exitCode).toBe(0)
    expect(ended.stderr).not.toContain('EPIPE')
  })
})

describe('cli request and respond', () => {
  test('request - a command answers with its stdin: the payload comes back as it went', async () => {
    await startRespond(['price.get', '--exec', 'cat'])
    for (const payload of ['{"sku":"a1"}', '[1,2.5,null]', '"text"', 'true']) {
      expect(await run(['request', 'price.get', payload])).toMatchObject({
        exitCode: 0,
        stdout: `${payload}\n`,
      })
    }
  })

  test('request - all of stdin is one payload, and bytes stay bytes', async () => {
    await startRespond(['echo', '--echo'])
    const text = await run(['request', 'echo', '--format', 'text'], { input: 'two\nlines\n' })
    expect(text).toMatchObject({ exitCode: 0, stdout: 'two\nlines\n' })
    const bytes = start(['request', 'echo', '-', '--raw', '--format', 'raw'], {
      input: Uint8Array.of(0, 255, 10),
    })
    await bytes.ended
    expect([...bytes.stdoutBytes]).toEqual([0, 255, 10])
  })

  test('request - nobody there: 5 at once, with what to do', async () => {
    const request = await run(['request', 'nobody', '1'])
    expect(request).toMatchObject({ exitCode: 5, stdout: '' })
    expect(request.stderr).toContain('skein respond nobody')
    expect(request.stderr).toContain(`skein why nobody --mesh ${mesh}`)
    expect(request.durationMs).toBeLessThan(2000)
  })

  test('request - with --wait it waits for a responder that comes later', async () => {
    const request = start(['request', 'late', '1', '--wait', '10s'])
    start(['respond', 'late', '--echo'])
    expect(await request.ended).toMatchObject({ exitCode: 0, stdout: '1\n' })
  })

  test('request - a command that fails is a remote error: 6, with the last line of its stderr', async () => {
    await startRespond(['fail', '--exec', 'echo the disk is full >&2; exit 9'])
    const request = await run(['request', 'fail'])
    expect(request.exitCode).toBe(6)
    expect(request.stderr).toContain('the disk is full')
    expect(request.stderr).toContain('EXIT_9')
  })

  test('request - a timeout is 3, and the command that worked for it is ended', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo began >&2; sleep 30; echo too late'])
    const request = start(['request', 'slow', '--timeout', '2s'])
    await responder.prints('began')
    expect((await request.ended).exitCode).toBe(3)
    responder.kill('SIGINT')
    // It drains: were the command still running, this would take 30 s.
    expect((await responder.ended).exitCode).toBe(130)
  })

  test('request - a responder that is killed mid-request is known at once, not at the timeout (G7)', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo began >&2; sleep 30'])
    const request = start(['request', 'slow', '--timeout', '30s'])
    await responder.prints('began')
    const killedAt = performance.now()
    responder.kill('SIGKILL')
    const ended = await request.ended
    expect(performance.now() - killedAt).toBeLessThan(1000)
    expect(ended.exitCode).toBe(1)
    expect(ended.stderr).toContain('PEER_LOST')
  })

  test('request - Ctrl-C while it waits is 130', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo began >&2; sleep 30'])
    const request = start(['request', 'slow', '--timeout', '30s'])
    await responder.prints('began')
    request.kill('SIGINT')
    expect(await request.ended).toMatchObject({ exitCode: 130, stdout: '' })
  })

  test('request - --to asks that peer, by its name', async () => {
    await startRespond(['who', '--exec', 'echo first', '--name', 'r1'])
    await startRespond(['who', '--exec', 'echo second', '--name', 'r2'])
    expect((await run(['request', 'who', '--to', 'r2'])).stdout).toBe('"second"\n')
    expect((await run(['request', 'who', '--to', 'r1'])).stdout).toBe('"first"\n')
    const nobody = await run(['request', 'who', '--to', 'r3'])
    expect(nobody.exitCode).toBe(5)
    expect(nobody.stderr).toContain('no peer is called "r3"')
    expect(nobody.stderr).toContain(`skein why r3 --mesh ${mesh}`)
  })

  test('request - --many prints every answer, and 7 says that some failed', async () => {
    await startRespond(['count', '--exec', 'echo 3'])
    await startRespond(['count', '--exec', 'echo 4'])
    const both = await run(['request', 'count', '--many'])
    expect(both.exitCode).toBe(0)
    expect(new Set(values(both.lines))).toEqual(new Set([3, 4]))
    expect((await run(['request', 'count', '--many', '--max', '1'])).lines).toHaveLength(1)
    await startRespond(['count', '--exec', 'exit 1'])
    const some = await run(['request', 'count', '--many'])
    expect(some.exitCode).toBe(7)
    expect(some.lines).toHaveLength(3)
  })

  test('request - --many with nobody there is 5, and with errors only 6', async () => {
    const nobody = await run(['request', 'count', '--many'])
    expect(nobody.exitCode).toBe(5)
    expect(nobody.stderr).toContain(`skein why count --mesh ${mesh}`)
    await startRespond(['count', '--exec', 'exit 1'])
    expect((await run(['request', 'count', '--many'])).exitCode).toBe(6)
  })

  test('respond - the command knows who asks for what, and the headers', async () => {
    await startRespond([
      'env',
      '--exec',
      'echo "$SKEIN_TOPIC $SKEIN_MESH $SKEIN_HEADER_TRACE_ID"; printf %s "$SKEIN_FROM" | wc -c',
    ])
    const { stdout } = await run(['request', 'env', '-H', 'trace-id=42'])
    expect(stdout).toBe(`"env ${mesh} 42\\n32"\n`)
  })

  test('respond - Ctrl-C lets what is under way be answered', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo began >&2; sleep 0.5; echo done'])
    const request = start(['request', 'slow'])
    await responder.prints('began')
    responder.kill('SIGINT')
    expect(await request.ended).toMatchObject({ exitCode: 0, stdout: '"done"\n' })
    expect((await responder.ended).exitCode).toBe(130)
  })

  test('respond - a second Ctrl-C leaves at once, and takes the command with it', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo pid $$ >&2; exec sleep 30'])
    start(['request', 'slow', '--timeout', '30s'])
    await responder.prints(/pid \d+/)
    const pid = Number(/pid (\d+)/.exec(responder.stderr)?.[1])
    responder.kill('SIGINT')
    await responder.prints('press Ctrl-C again')
    await vi.waitFor(() => {
      responder.kill('SIGINT')
      expect(responder.process.exitCode).toBe(130)
    })
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false))
  })

  test('respond - a signal that comes twice at once, as from GNU timeout, is one: what is under way is answered', async () => {
    const responder = await startRespond(['slow', '--exec', 'echo began >&2; sleep 0.5; echo done'])
    const request = start(['request', 'slow'])
    await responder.prints('began')
    // Of two that are alike the system may deliver one only.
    responder.kill('SIGTERM')
    responder.kill('SIGINT')
    expect(await request.ended).toMatchObject({ exitCode: 0, stdout: '"done"\n' })
    expect([130, 143]).toContain((await responder.ended).exitCode)
  })

  test('respond - --exec runs as many at a time as it is told to', async () => {
    await startRespond(['slow', '--exec', 'sleep 0.5; echo 1', '--concurrency', '1'])
    const [first, second] = [start(['request', 'slow']), start(['request', 'slow'])]
    const ended = await Promise.all([first.ended, second.ended])
    expect(ended.map(({ exitCode }) => exitCode)).toEqual([0, 0])
    expect(Math.max(...ended.map(({ durationMs }) => durationMs))).toBeGreaterThan(1000)
  })

  test('respond - --count ends it after so many, and the last answer still arrives', async () => {
    const responder = await startRespond(['echo', '--echo', '--count', '2'])
    expect((await run(['request', 'echo', '1'])).stdout).toBe('1\n')
    expect((await run(['request', 'echo', '2'])).stdout).toBe('2\n')
    expect((await responder.ended).exitCode).toBe(0)
  })
})

describe('cli usage', () => {
  test.each([
    [['subb', 'x'], 'Did you mean sub?'],
    [['sub'], "missing required argument 'pattern'"],
    [['sub', 'x', '--timeout', '5'], 'write 5s or 5ms'],
    [['sub', 'a..b'], 'a..b'],
    [['sub', 'a.>.b'], 'a.>.b'],
    [['pub', 'a.*', '1', '--timeout', '1s'], 'a.*'],
    [['pub', 't', 'x', '--file', 'y'], 'both a payload and --file'],
    [['respond', 'x'], '--echo or --exec'],
    [['request', 'x', '--many', '--to', 'y'], '--many asks every responder'],
    [['peers', '--format', 'xml'], 'Allowed choices are text, json, raw'],
    [['peers', '--nonsense'], "unknown option '--nonsense'"],
  ])('usage - %j is refused with 2 and says why', async (args, why) => {
    const ended = await runSkein(args)
    expect(ended.stderr).toContain(why)
    expect(ended).toMatchObject({ exitCode: 2, stdout: '' })
  })

  test.each(['pub x 1', 'request x 1', 'peers', 'why x', 'sub x'])(
    'usage - %s: what reaches beyond this host needs --open, whether the command listens or only dials (G8)',
    async (command) => {
      for (const option of ['--seed 10.0.0.5:7400', '--bind 10.0.0.5']) {
        const ended = await runSkein([...command.split(' '), ...option.split(' ')])
        expect(ended).toMatchObject({ exitCode: 2, stdout: '' })
        expect(ended.stderr).toMatch(/10\.0\.0\.5.* is beyond this host; .*'--open'/)
      }
      const ended = await runSkein([...command.split(' '), '--advertise', '0.0.0.0'])
      expect(ended).toMatchObject({ exitCode: 2, stdout: '' })
      expect(ended.stderr).toContain("'0.0.0.0' cannot be dialled")
    },
  )

  test('usage - a command that only dials says that what it was told of listening has no effect', async () => {
    const typed = await run(['peers', '--port', '7400'], { env: { SKEIN_BIND: '127.0.0.1' } })
    expect(typed.exitCode).toBe(0)
    expect(typed.stderr).toContain('--port has no effect: skein peers only dials')
    expect(typed.stderr).not.toContain('--bind')
  })

  test('usage - SKEIN_OPEN with a word that is neither yes nor no is refused', async () => {
    const ended = await runSkein(['peers'], { env: { SKEIN_OPEN: 'maybe' } })
    expect(ended.exitCode).toBe(2)
    expect(ended.stderr).toContain('SKEIN_OPEN=maybe')
  })

  test('usage - a payload file that is not there is an error that names it', async () => {
    const ended = await runSkein(['request', 'x', '--file', '/no/such/file'])
    expect(ended.exitCode).toBe(1)
    expect(ended.stderr).toContain('/no/such/file')
  })

  test.each([
    [['--help']],
    [['pub', '--help']],
    [['sub', '--help']],
    [['request', '--help']],
    [['respond', '--help']],
    [['peers', '--help']],
  ])('help - %j goes to stdout and exits 0', async (args) => {
    const ended = await runSkein(args)
    expect(ended.exitCode).toBe(0)
    expect(ended.stdout).toContain('Usage: skein')
  })

  test('help - a command lists the global options that matter to it, and skein all of them', async () => {
    const optionsOf = async (...args: string[]) => {
      const { stdout } = await runSkein([...args, '--help'])
      return stdout
        .split('Global Options')[1]
        ?.match(/^ +(?:-\w, )?--[\w-]+/gm)
        ?.map((each) => each.trim())
    }
    expect(await optionsOf('demo')).toBeUndefined()
    expect(await optionsOf('journal', 'ls')).toEqual(['--data-dir', '--format'])
    expect(await optionsOf('dead-letters', 'ls')).toEqual(['--data-dir', '--format'])
    expect(await optionsOf('dead-letters', 'drop')).toContain('--mesh')
    expect(await optionsOf('push')).toEqual(['--mesh', '--open', '--seed', '--data-dir'])
    expect(await optionsOf('why')).toEqual(['--mesh', '--open', '--seed', '--format'])
    const all = (await runSkein(['--help'])).stdout
    for (const option of ['--mesh', '--bind', '--data-dir', '--quiet']) expect(all).toContain(option)
  })

  test('help - a description is wrapped as wide as the terminal is, not where its source is', async () => {
    for (const command of ['push', 'dead-letters', 'doctor', 'demo']) {
      const { stdout } = await runSkein([command, '--help'])
      const [, description = ''] = stdout.split('\n\n')
      const lines = description.split('\n')
      for (const [index, line] of lines.slice(0, -1).entries())
        expect(line.length + lines[index + 1]!.split(' ')[0]!.length).toBeGreaterThan(70)
    }
  })

  test('version - it is that of the package', async () => {
    expect(await runSkein(['--version'])).toMatchObject({ exitCode: 0, stdout: '0.1.0\n' })
  })

  test('environment - SKEIN_MESH and SKEIN_NAME stand in for the options', async () => {
    const sub = startSkein(['sub', 'x'], { env: { SKEIN_MESH: mesh, SKEIN_NAME: 'from-env' } })
    await sub.prints(`in mesh "${mesh}"`)
    expect(JSON.parse((await run(['peers', '--wait', '1'])).stdout).name).toBe('from-env')
  })
})
