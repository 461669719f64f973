import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { BROKERS, type BrokerName, type ContenderName, importQuestion } from '../question.ts'
import { median } from '../report.ts'
import { takeSample } from '../sample.ts'
import { isInstalled } from './clients.ts'

/**
 * At least once beside brokers: `npm run bench:brokers -- --rounds 5`. Each needs its server (nats-server, redis-server) and
 * its client (`npm install --no-save nats ioredis`); whoever is not there is left out, and said.
 */
const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } })
const rounds = Number(values.rounds)
const TIMING = { warmUpMs: 2000, measureMs: 2000 }

const SERVERS: Record<
  BrokerName,
  { command: string; client: 'nats' | 'ioredis'; args: (port: number, dir: string) => string[] }
> = {
  jetstream: {
    command: 'nats-server',
    client: 'nats',
    args: (port, dir) => ['-js', '-sd', dir, '-a', '127.0.0.1', '-p', `${port}`],
  },
  redis: {
    command: 'redis-server',
    client: 'ioredis',
    args: (port, dir) => [
      ...['--bind', '127.0.0.1', '--port', `${port}`, '--dir', dir],
      ...['--save', '', '--appendonly', 'yes', '--appendfsync', 'everysec'],
    ],
  },
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })

const question = await importQuestion('owed')

const sampleBeside = async (broker: BrokerName): Promise<number> => {
  const { command, args } = SERVERS[broker]
  const port = await freePort()
  const directory = mkdtempSync(join(process.env.BENCH_DIR ?? tmpdir(), 'skein-broker-'))
  const server = spawn(command, args(port, directory), { stdio: 'ignore' })
  process.env.BROKER_PORT = `${port}`
  try {
    await sleep(1000)
    return (await takeSample(question, broker, TIMING)).perSecond
  } finally {
    server.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
}

const isThere = async (broker: BrokerName): Promise<boolean> => {
  const { command, client } = SERVERS[broker]
  const hasServer = spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined
  if (hasServer && (await isInstalled(client))) return true
  console.log(
    `${broker} is left out: ${hasServer ? `npm install --no-save ${client}` : `${command} is not installed`}`,
  )
  return false
}

const contenders: ContenderName[] = ['skein']
for (const broker of BROKERS) if (await isThere(broker)) contenders.push(broker)
process.env.SKEIN_RUNTIME_DIR = mkdtempSync(join(tmpdir(), 'skein-bench-'))
const taken = new Map<ContenderName, number[]>(contenders.map((name) => [name, []]))
for (let round = 0; round < rounds; round++) {
  for (const name of round % 2 === 0 ? contenders : contenders.toReversed()) {
    const perSecond =
      name === 'jetstream' || name === 'redis'
        ? await sampleBeside(name)
        : (await takeSample(question, name, TIMING)).perSecond
    taken.get(name)!.push(perSecond)
  }
}
rmSync(process.env.SKEIN_RUNTIME_DIR, { recursive: true, force: true })

const skein = median(taken.get('skein')!)
console.log(`at least once, 100 B, 1 to 1, handled and acked, medians of ${rounds} rounds`)
for (const [name, figures] of taken) {
  const mid = median(figures)
  const range = [Math.min(...figures), Math.max(...figures)].map((each) =>
    Math.round(each).toLocaleString('en-US'),
  )
  const ratio = name === 'skein' ? '' : `   skein is ${(skein / mid).toFixed(1)}x`
  console.log(
    `${name.padEnd(10)} ${Math.round(mid).toLocaleString('en-US').padStart(9)} msg/s (${range.join(' to ')})${ratio}`,
  )
}
