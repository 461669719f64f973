import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { Router } from 'zeromq'
import type { Check } from '../../src/cli/check.ts'
import { systemClock } from '../../src/clock.ts'
import { type Node, startNode } from '../../src/node.ts'
import { realSurroundings } from '../../src/surroundings.ts'
import { closeLater, eventually, meshName, start } from '../support/mesh.ts'
import { loopbackFault } from '../support/multicast.ts'
import { threeFreePorts } from '../support/ports.ts'
import { type Ended, MAIN, runSkein, type StartOptions, startSkein } from '../support/skein-cli.ts'

const run = promisify(execFile)
/** Its label is too long: no resolver has to be asked to know that it has no address. */
const NO_NAME = `${'x'.repeat(70)}.invalid`

const multicastFault = await loopbackFault()

/** Runs the rest with this directory read-only. */
const mounted = 'mount -t tmpfs -o ro,size=1M tmpfs "$0" && exec "$@"'
const mounting = ['-m', 'sh', '-c', mounted]
const mayMount = await run('unshare', [...mounting, tmpdir(), 'true']).then(
  () => true,
  () => false,
)

let mesh = ''
beforeEach(() => {
  mesh = meshName()
})

interface Report {
  ok: boolean
  node: { id: string; ports: number[] }
  checks: Check[]
}

interface Examined extends Report {
  ended: Ended
  /** The problems of one kind, or of all kinds. */
  problems(check?: string): Check[]
  one(check: string): Check
}

const read = (stdout: string): Omit<Examined, 'ended'> => {
  const report = JSON.parse(stdout) as Report
  return {
    ...report,
    problems: (kind) =>
      report.checks.filter(
        ({ check, verdict }) => verdict === 'problem' && (kind === undefined || check === kind),
      ),
    one: (kind) => report.checks.find(({ check }) => check === kind)!,
  }
}

const doctor = async (args: readonly string[] = [], options: StartOptions = {}): Promise<Examined> => {
  const ended = await runSkein(['doctor', '--json', '--mesh', mesh, ...args], options)
  expect(ended.stderr).toBe('')
  const examined = { ended, ...read(ended.stdout) }
  expect(ended.exitCode).toBe(examined.problems().length > 0 ? 1 : 0)
  expect(examined.ok).toBe(ended.exitCode === 0)
  // Whatever is wrong, it says what to do.
  for (const { remedy } of examined.problems()) expect(remedy).toMatch(/\S/)
  return examined
}

/** Its address for others to dial. */
const seedOf = (node: Node): Promise<string> =>
  node
    .request<{ address: { control: number } }>('$skein.status', undefined, { to: node.id })
    .then(({ address }) => `127.0.0.1:${address.control}`)

describe('doctor', () => {
  test('a sound mesh has no problem, every peer is up both ways, and it exits 0', async () => {
    await Promise.all([start({ name: 'orders', mesh }), start({ name: 'billing', mesh })])
    const { ended, checks, one } = await doctor()
    expect(ended.exitCode).toBe(0)
    const peers = checks.filter(({ check }) => check === 'peer')
    expect(peers.map(({ subject, verdict }) => `${subject!.split(' ')[0]} ${verdict}`).sort()).toEqual([
      'billing ok',
      'orders ok',
    ])
    for (const { text } of peers)
      expect(text).toMatch(/^up both ways, answers in \d.*tcp:\/\/127\.0\.0\.1:\d+, found by/)
    expect(one('registry')).toMatchObject({ verdict: 'ok' })
    expect(one('version')).toMatchObject({ verdict: 'ok' })
    expect(one('clock')).toMatchObject({ verdict: 'ok' })
    expect(one('multicast')).toMatchObject({ verdict: 'note', text: expect.stringMatching(/not used/) })
  })

  test('a person reads one line for each thing that is well, and a summary', async () => {
    const ended = await runSkein(['doctor', '--mesh', mesh])
    expect(ended).toMatchObject({ exitCode: 0, stderr: '' })
    expect(ended.stdout).toMatch(/^ok {7}registry: \S/)
    expect(ended.stdout).toMatch(/\nnote {5}mesh \S+: no other node was found/)
    expect(ended.lines.at(-1)).toMatch(/^no problem, 2 notes$/)
  })

  test('wrong mesh: it names the mesh that has nodes on this host, and how to say so', async () => {
    await start({ name: 'orders', mesh: `${mesh}x` })
    const [problem, ...others] = (await doctor()).problems()
    expect(others).toEqual([])
    expect(problem).toMatchObject({
      check: 'mesh',
      text: expect.stringContaining(`"${mesh}x" (1 node on this host: orders)`),
    })
    expect(problem!.remedy).toContain(`--mesh ${mesh}x`)
  })

  test('wrong mesh: a seed that is in another one is told as such', async () => {
    const node = await start({ name: 'orders', mesh: 'other', discovery: { registry: false } })
    const seed = await seedOf(node)
    const { problems } = await doctor(['--no-registry', '--seed', seed])
    expect(problems('seed')).toMatchObject([
      { subject: seed, text: expect.stringMatching(/it is in mesh "other" and this one is in mesh/) },
    ])
    expect(problems('mesh')).toMatchObject([{ text: expect.stringContaining('"other"') }])
  })

  test('taken port: it names the ports, the process and the node that have them, and goes on', async () => {
    const port = await threeFreePorts(['127.0.0.1'])
    await start({ name: 'orders', mesh, port })
    const { problems, one, node } = await doctor(['--port', String(port + 1)])
    const [problem, ...others] = problems()
    expect(others).toEqual([])
    expect(problem).toMatchObject({ check: 'ports', subject: `${port + 1}, ${port + 2}` })
    expect(problem!.text).toContain(`node "orders" of mesh "${mesh}"`)
    if (process.platform === 'linux') expect(problem!.text).toContain(`process ${process.pid}`)
    expect(problem!.remedy).toContain(`${port + 1}-${port + 3}`)
    expect(node.ports).not.toContain(port + 1)
    expect(one('peer')).toMatchObject({ verdict: 'ok' })
  })

  test('taken port: of a process that is no node it tells the command', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as { port: number }
    const { problems } = await doctor(['--port', String(Math.min(port, 65_533))])
    expect(problems('ports')[0]!.text).toMatch(/^taken by process \d+ \(.*node/)
  })

  test.skipIf(process.platform !== 'linux')(
    'an address of another host is told, and it goes on without',
    async () => {
      const { problems } = await doctor(['--open', '--no-mdns', '--bind', '198.51.100.7'])
      expect(problems('bind')).toMatchObject([
        { subject: '198.51.100.7', remedy: expect.stringContaining('127.0.0.1') },
      ])
    },
  )

  describe('runtime directory', () => {
    let directory = ''
    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), 'skein-doctor-'))
      onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    })

    const registryProblem = async (path: string): Promise<Check> => {
      const [problem, ...others] = (await doctor([], { env: { SKEIN_RUNTIME_DIR: path } })).problems()
      expect(others).toEqual([])
      expect(problem).toMatchObject({
        check: 'registry',
        remedy: expect.stringContaining('SKEIN_RUNTIME_DIR'),
      })
      expect(problem!.text).toContain(path)
      return problem!
    }

    test('a file in its place is named', async () => {
      const path = join(directory, 'file')
      writeFileSync(path, '')
      const { text, remedy } = await registryProblem(path)
      expect(text).toContain('a file stands where a directory should be')
      expect(remedy).toContain(path)
    })

    test.skipIf(process.getuid?.() !== 0)('one of another user is named', async () => {
      const { chownSync } = await import('node:fs')
      chownSync(directory, 12_345, 12_345)
      const { text } = await registryProblem(directory)
      expect(text).toMatch(/other users could.*uid 12345/)
    })

    test.skipIf(process.platform !== 'linux')('one that nobody can make is named', async () => {
      await registryProblem('/proc/skein')
    })

    test.skipIf(!mayMount)('one on a read-only file system is named', async () => {
      const command = [process.execPath, MAIN, 'doctor', '--json', '--mesh', mesh]
      const failure = await run('unshare', [...mounting, directory, ...command], {
        env: { ...process.env, SKEIN_RUNTIME_DIR: directory },
      }).catch((error: unknown) => error as { code: number; stdout: string })
      expect(failure).toMatchObject({ code: 1 })
      const { problems } = read(failure.stdout)
      expect(problems()).toMatchObject([
        { check: 'registry', text: expect.stringContaining('read-only file system') },
      ])
      expect(problems()[0]!.remedy).toContain('SKEIN_RUNTIME_DIR')
    })
  })

  test('one-way: a peer that tells an address where nobody listens is named with that address', async () => {
    await start({ name: 'orders', mesh })
    const hidden = await start({ name: 'hidden', mesh, advertise: '127.0.0.9' })
    await hidden.waitForPeers(1)
    const { problems } = await doctor()
    const [problem] = problems('peer')
    expect(problem).toMatchObject({ subject: expect.stringMatching(/^hidden /) })
    expect(problem!.text).toMatch(/one-way.*tcp:\/\/127\.0\.0\.9:\d+/)
    expect(problem!.remedy).toMatch(/firewall.*--advertise/)
  })

  test('one-way: a peer that cannot dial this host back is named with the address it tried', async () => {
    await start({ name: 'orders', mesh })
    const { problems, node } = await doctor(['--advertise', '127.0.0.9'])
    const [problem, ...others] = problems()
    expect(others).toEqual([])
    expect(problem).toMatchObject({ check: 'dial-back', subject: expect.stringMatching(/^orders /) })
    expect(problem!.text).toContain(`127.0.0.9:${node.ports[0]}`)
    expect(problem!.remedy).toContain(node.ports.join(', ').replace(/, (\d+)$/, ' and $1'))
  })

  test('one-way: what two others have with each other is told as they see it', async () => {
    await start({ name: 'orders', mesh })
    const hidden = await start({ name: 'hidden', mesh, advertise: '127.0.0.9' })
    await hidden.waitForPeers(1)
    // A node that only dials is not dialled by the hidden one, and sees it by the eyes of the other.
    const ended = await runSkein(['why', 'hidden', '--json', '--mesh', mesh])
    expect(ended.exitCode).toBe(1)
    expect(JSON.stringify(JSON.parse(ended.stdout))).toMatch(/one-way for orders/)
  })

  test('seeds: reached, refused and without an address are told apart', async () => {
    const node = await start({ name: 'orders', mesh, discovery: { registry: false } })
    const seed = await seedOf(node)
    const free = await threeFreePorts(['127.0.0.1'])
    const args = [
      '--open',
      '--bind',
      '127.0.0.1',
      '--no-mdns',
      '--no-registry',
      '--timeout',
      '1s',
      '--seed',
      seed,
    ]
    const { checks } = await doctor([...args, '--seed', `127.0.0.1:${free},${NO_NAME}:1`])
    const seeds = checks.filter(({ check }) => check === 'seed')
    expect(seeds).toMatchObject([
      { verdict: 'ok', text: expect.stringContaining('orders') },
      { verdict: 'problem', text: expect.stringContaining('connection refused') },
      { verdict: 'problem', text: expect.stringMatching(/no address/) },
    ])
  })

  test('seeds: the second and the third port of a node are not taken for addresses where nobody listens', async () => {
    const node = await start({ name: 'orders', mesh, discovery: { registry: false } })
    const { address } = await node.request('$skein.status', undefined, { to: node.id })
    for (const port of [address.feed, address.delivery]) {
      const seed = `127.0.0.1:${port}`
      const { problems } = await doctor(['--no-registry', '--seed', seed])
      expect(problems('seed')).toMatchObject([
        { subject: seed, text: expect.stringContaining('who does not answer as a node') },
      ])
      expect(problems('seed')[0]!.remedy).toContain('first of the three ports')
    }
    const seeded = ['--mesh', mesh, '--no-registry', '--seed', `127.0.0.1:${address.feed}`]
    const peers = await runSkein(['peers', ...seeded, '--wait', '1', '--timeout', '2s'])
    expect(JSON.parse(peers.stdout)).toMatchObject({
      code: 'NOT_A_NODE',
      reason: expect.stringMatching(/\S/),
    })
    expect(peers.stderr).not.toMatch(/nobody listens|connection refused/)
  })

  test('seeds: one that is silent is told with what was tried, and costs about two seconds (G7)', async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    onTestFinished(() => void silent.close())
    const { port } = silent.address() as { port: number }
    const seed = `127.0.0.1:${port}`
    const { problems, ended } = await doctor(['--no-registry', '--seed', seed])
    expect(problems('seed')).toMatchObject([
      { subject: seed, text: expect.stringMatching(`nobody has answered at tcp://${seed} within 2\\.\\d s`) },
    ])
    expect(problems('seed')[0]!.remedy).toContain('--timeout')
    const why = await runSkein(['why', 'x', '--mesh', mesh, '--no-registry', '--seed', seed])
    expect(why.stdout).toMatch(/nobody has answered at/)
    // Before, each took six and more.
    for (const { durationMs } of [ended, why]) expect(durationMs).toBeLessThan(5500)
  })

  test('seeds: one that is refused is not waited for, because its verdict is known', async () => {
    const free = await threeFreePorts(['127.0.0.1'])
    const args = [
      'doctor',
      '--mesh',
      mesh,
      '--no-registry',
      '--timeout',
      '20s',
      '--seed',
      `127.0.0.1:${free}`,
    ]
    const ended = await runSkein(args)
    expect(ended.stdout).toContain('connection refused')
    expect(ended.durationMs).toBeLessThan(10_000)
  })

  test('a node of another version is told as such', async () => {
    const router = new Router()
    onTestFinished(() => router.close())
    await router.bind('tcp://127.0.0.1:*')
    const answer = async (): Promise<void> => {
      for await (const [route] of router)
        await router.send([route!, Buffer.from([0x53, 0x4b, 9, 1, 0, 0, 0, 0])])
    }
    answer().catch(() => {})
    const seed = router.lastEndpoint!.replace('tcp://', '')
    const { problems } = await doctor(['--no-registry', '--timeout', '1s', '--seed', seed])
    expect(problems('version')).toMatchObject([
      { text: expect.stringContaining('version 9'), remedy: expect.stringContaining('update') },
    ])
  })

  test('a clock that is ahead is told with how far', async () => {
    const clock = { ...systemClock, wall: () => systemClock.wall() + 5000 }
    closeLater(await startNode({ name: 'orders', mesh }, { ...realSurroundings, clock }))
    const { problems } = await doctor()
    expect(problems()).toMatchObject([
      {
        check: 'clock',
        subject: expect.stringMatching(/^orders /),
        text: expect.stringMatching(/5\.0 s ahead/),
      },
    ])
  })

  test('an event loop that stood still lately is told', async () => {
    const node = await start({ name: 'orders', mesh })
    const late = async (leastMs: number): Promise<boolean> => {
      const { lagMs } = await node.request<{ lagMs: number }>('$skein.status', undefined, { to: node.id })
      return lagMs > leastMs
    }
    const block = (ms: number): void => {
      const blockedUntil = performance.now() + ms
      while (performance.now() < blockedUntil);
    }
    await eventually(async () => {
      block(400)
      return late(150)
    })
    const { checks } = await doctor()
    const short = checks.filter(({ check, verdict }) => check === 'event-loop' && verdict !== 'ok')
    expect(short).toMatchObject([{ subject: expect.stringMatching(/^orders /) }])
    block(2500)
    await eventually(() => late(1000))
    const { problems } = await doctor()
    expect(problems('event-loop')).toMatchObject([{ subject: expect.stringMatching(/^orders /) }])
  })

  test('a peer that is stopped is told, and does not hold it up', async () => {
    const stopped = startSkein(['sub', 'x', '--mesh', mesh, '--name', 'stopped'])
    await stopped.prints('listening on')
    stopped.kill('SIGSTOP')
    const { problems, ended } = await doctor(['--timeout', '1s'])
    expect(problems('peer')).toMatchObject([
      { subject: expect.stringMatching(/^stopped /), remedy: expect.stringMatching(/stopped/) },
    ])
    expect(ended.durationMs).toBeLessThan(8000)
  })

  test('a subscriber that loses messages is noted', async () => {
    const node = await start({ name: 'slow', mesh })
    node.subscribe('tick', () => new Promise(() => {}), { queue: 1 })
    for (let times = 0; times < 50; times++) await node.publish('tick', times)
    const { one } = await doctor()
    expect(one('loss')).toMatchObject({ verdict: 'note', text: expect.stringContaining('of "tick"') })
  })

  test.skipIf(multicastFault !== undefined)('multicast is tried on the chosen interface only', async () => {
    const env = { SKEIN_MDNS: '1' }
    const { checks } = await doctor(['--interface', '127.0.0.1', '--no-registry'], { env })
    expect(checks.filter(({ check }) => check === 'multicast')).toMatchObject([
      { verdict: 'ok', text: expect.stringContaining('127.0.0.1') },
    ])
  })

  test('options that cannot be are wrong usage: 2', async () => {
    const seed = await runSkein(['doctor', '--seed', '10.0.0.5:7400'])
    expect(seed).toMatchObject({ exitCode: 2, stdout: '' })
    expect(seed.stderr).toContain("'--open'")
    expect((await runSkein(['doctor', '--interface', 'nope0'])).exitCode).toBe(2)
  })

  test.each(['doctor', 'why'])('%s --help says what its exit codes mean', async (command) => {
    const ended = await runSkein([command, '--help'])
    expect(ended.exitCode).toBe(0)
    expect(ended.stdout).toMatch(/It ends with 0 /)
  })

  test('Ctrl-C ends it at once', async () => {
    const free = await threeFreePorts(['127.0.0.1'])
    const program = startSkein(['doctor', '--mesh', mesh, '--timeout', '1m', '--seed', `127.0.0.1:${free}`], {
      env: { NODE_OPTIONS: '' },
    })
    const other = await start({ mesh })
    await other.waitForPeers(1)
    program.kill('SIGINT')
    expect(await program.ended).toMatchObject({ exitCode: 130, stdout: '' })
  })
})
