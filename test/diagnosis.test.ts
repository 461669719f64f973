import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { whereabouts } from '../src/discovery/registry-directory.ts'
import { type HostSurvey, type NodeOptions, surveyHost } from '../src/index.ts'
import { listenersIn } from '../src/transport/port-holder.ts'
import { errorOf, meshName, start } from './support/mesh.ts'
import { loopbackFault } from './support/multicast.ts'
import { threeFreePorts } from './support/ports.ts'
import { startProgram } from './support/skein-cli.ts'

/** Its label is too long: no resolver has to be asked to know that it has no address. */
const NO_NAME = `${'x'.repeat(70)}.invalid`

const isRoot = process.getuid?.() === 0
const multicastFault = await loopbackFault()

let directory = ''
beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'skein-diagnosis-')), 'registry')
  onTestFinished(() => rmSync(join(directory, '..'), { recursive: true, force: true }))
})

const survey = (options: NodeOptions = {}): Promise<HostSurvey> =>
  surveyHost({ ...options, discovery: { registry: directory, ...options.discovery } })

const registryOf = async (options: NodeOptions = {}) => (await survey(options)).registry!

/** Writes the file of a node as the node itself would, but for these fields. */
const writeEntry = (mesh: string, digit: string, fields: object): void => {
  const id = digit.repeat(32)
  mkdirSync(join(directory, mesh), { recursive: true, mode: 0o700 })
  const entry = {
    v: 1,
    id,
    boot: id,
    name: `n${digit}`,
    mesh,
    endpoint: 'tcp://127.0.0.1:1',
    pid: process.pid,
  }
  writeFileSync(
    join(directory, mesh, `${id}.json`),
    JSON.stringify({ ...entry, host: 'h', netns: 'n', ...fields }),
  )
}

describe('survey of the registry', () => {
  test('a directory that is not there is made, as a node would, and nothing is left in it', async () => {
    const registry = await registryOf({ mesh: 'shop' })
    expect(registry).toMatchObject({ directory, meshes: [], malformed: 0, owner: process.getuid?.() })
    expect(registry.flaw).toBeUndefined()
    expect(readdirSync(join(directory, 'shop'))).toEqual([])
  })

  test('nodes are told by mesh, and whether they are there', async () => {
    // A node in the same mesh would sweep what is dead.
    const mesh = meshName()
    const other = meshName()
    const { id } = await start({ name: 'theirs', mesh: other, discovery: { registry: directory } })
    const here = await whereabouts()
    const endpoint = JSON.parse(readFileSync(join(directory, other, `${id}.json`), 'utf8')).endpoint
    writeEntry(mesh, '1', { ...here, endpoint })
    // As high as none is given out.
    writeEntry(mesh, '2', { ...here, endpoint, pid: 2 ** 30 })
    writeEntry(mesh, '3', here)
    writeEntry(mesh, '4', {})
    writeEntry(mesh, '5', { mesh: 'another' })
    const { meshes, malformed } = await registryOf({ mesh })
    const states = meshes[0]!.nodes.map(({ name, state }) => `${name} ${state}`)
    expect(meshes[0]!.mesh).toBe(mesh)
    expect(states.sort()).toEqual(['n1 alive', 'n2 dead', 'n3 unreachable', 'n4 elsewhere'])
    expect(malformed).toBe(1)
    expect(meshes[1]).toMatchObject({ mesh: other, nodes: [{ id, name: 'theirs', state: 'alive' }] })
  })

  test('of very many meshes the newest are looked at, empty ones cost nothing, and the rest are counted (G6)', async () => {
    for (let n = 0; n < 100; n++) mkdirSync(join(directory, `empty-${n}`), { recursive: true, mode: 0o700 })
    for (let n = 0; n < 70; n++) {
      const mesh = `shop-${n}`
      writeEntry(mesh, '1', {})
      utimesSync(join(directory, mesh), n, n)
    }
    const { meshes, unread } = await registryOf({ mesh: 'shop-3' })
    const newest = Array.from({ length: 64 }, (_, n) => `shop-${69 - n}`)
    expect(meshes.map(({ mesh }) => mesh)).toEqual(['shop-3', ...newest])
    expect(unread).toBe(5)
  })

  test('a file where the directory should be is in the way', async () => {
    writeFileSync(directory, '')
    expect((await registryOf()).flaw).toMatchObject({ kind: 'in-the-way' })
  })

  test.skipIf(process.getuid === undefined)('a directory that others may write to is exposed', async () => {
    mkdirSync(directory, { mode: 0o700 })
    chmodSync(directory, 0o777)
    expect((await registryOf()).flaw).toMatchObject({
      kind: 'exposed',
      text: expect.stringContaining(directory),
    })
  })

  test.skipIf(!isRoot)('a directory of another user is exposed, and its owner is told', async () => {
    mkdirSync(directory, { mode: 0o755 })
    chownSync(directory, 12_345, 12_345)
    expect(await registryOf()).toMatchObject({ owner: 12_345, flaw: { kind: 'exposed' } })
  })

  test.skipIf(process.platform !== 'linux')(
    'where no directory can be made it says so and ends',
    async () => {
      const { registry } = await surveyHost({ discovery: { registry: '/proc/skein' } })
      expect(registry?.flaw?.kind).toBe('other')
    },
  )

  test('a registry that is switched off is none', async () => {
    expect((await survey({ discovery: { registry: false } })).registry).toBeNull()
  })
})

describe('survey of ports', () => {
  test('any free ones need no look', async () => {
    expect((await survey()).listening).toEqual({ bind: '127.0.0.1', told: ['127.0.0.1'], ports: [] })
  })

  test('free ports are free afterwards, too', async () => {
    const port = await threeFreePorts(['127.0.0.1'])
    const { ports } = (await survey({ port })).listening!
    expect(ports.map((each) => `${each.port} ${each.role} ${each.state}`)).toEqual([
      `${port} control free`,
      `${port + 1} feed free`,
      `${port + 2} delivery free`,
    ])
    const node = await start({ port, mesh: meshName() })
    expect(node.peers).toEqual([])
  })

  test('a taken port is told with the process that has it', async () => {
    const port = await threeFreePorts(['127.0.0.1'])
    const program = startProgram('-e', [
      `require('node:net').createServer().listen(${port + 1}, '127.0.0.1', () => console.log('listening'))`,
    ])
    await program.prints('listening')
    const { ports } = (await survey({ port })).listening!
    expect(ports.map(({ state }) => state)).toEqual(['free', 'taken', 'free'])
    expect(ports[1]).toMatchObject({ code: 'EADDRINUSE' })
    if (process.platform !== 'linux') return
    expect(ports[1]!.holder).toMatchObject({
      pid: program.process.pid,
      command: expect.stringContaining('createServer'),
    })
  })

  test('an address that is not of this host is told, before any port is', async () => {
    const { listening } = await survey({
      open: true,
      bind: '198.51.100.7',
      port: 7400,
      discovery: { mdns: false },
    })
    expect(listening).toMatchObject({ bind: '198.51.100.7', fault: 'EADDRNOTAVAIL', ports: [] })
  })

  test('a node that only dials listens nowhere', async () => {
    const { listening, interfaces } = await survey({ listen: false })
    expect(listening).toBeNull()
    expect(interfaces.every(({ listens, told }) => listens.length + told.length === 0)).toBe(true)
  })

  test('the table of sockets is read by port and state', () => {
    const table = [
      '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
      '   0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0',
      '   1: 0100007F:1CE8 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0',
      '   2: 00000000000000000000000000000000:1CE8 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 13 1 0',
      '   3: 0100007F:1CE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0',
    ].join('\n')
    expect(listenersIn(table, 7400)).toEqual(['11', '13'])
    expect(listenersIn('', 7400)).toEqual([])
  })
})

describe('survey of interfaces', () => {
  test('all are told, and where a node would listen', async () => {
    const { interfaces } = await survey()
    expect(interfaces.map(({ name }) => name).sort()).toEqual(Object.keys(networkInterfaces()).sort())
    const loopback = interfaces.find(({ addresses }) => addresses.includes('127.0.0.1'))
    expect(loopback).toMatchObject({ internal: true, listens: ['127.0.0.1'], told: ['127.0.0.1'] })
    for (const each of interfaces) if (each !== loopback) expect(each.listens).toEqual([])
  })

  test('an open node listens on all of them, and tells others those that lead outward', async () => {
    const { interfaces } = await survey({ open: true, discovery: { mdns: false } })
    for (const { internal, listens, told } of interfaces) {
      expect(listens.length).toBeGreaterThan(0)
      if (internal && interfaces.some((other) => !other.internal)) expect(told).toEqual([])
    }
  })

  test('an interface that is not there is refused, as by a node', async () => {
    const error = await errorOf(() => survey({ interface: 'nope0' }))
    expect(error).toMatchObject({
      code: 'OPTION_INVALID',
      message: expect.stringContaining("'nope0' is not there"),
    })
  })
})

describe('survey of multicast', () => {
  const onLoopback = { interface: '127.0.0.1', discovery: { mdns: true } }

  test('where a node would not use it, none is sent', async () => {
    expect((await survey()).multicast).toBeNull()
    expect((await survey({ open: true, discovery: { mdns: false } })).multicast).toBeNull()
  })

  test.skipIf(multicastFault !== undefined)('on the chosen interface a packet comes back', async () => {
    const { multicast } = await survey(onLoopback)
    expect(multicast!.probes).toMatchObject([{ address: '127.0.0.1', outcome: 'heard' }])
  })

  test.skipIf(multicastFault !== undefined)('nodes of other meshes are heard', async () => {
    const mesh = meshName()
    await start({ name: 'stranger', mesh, ...onLoopback })
    const { multicast } = await survey({ mesh: meshName(), ...onLoopback })
    expect(multicast!.strangers).toMatchObject([{ mesh, name: 'stranger' }])
  })
})

describe('survey of seeds', () => {
  test('each is told with the addresses behind its name, or why there is none', async () => {
    const seeds = ['127.0.0.1:7400', 'localhost:7401', `${NO_NAME}:7402`]
    const { seeds: found } = await survey({ open: true, discovery: { mdns: false, seeds } })
    expect(found[0]).toEqual({ seed: 'tcp://127.0.0.1:7400', endpoints: ['tcp://127.0.0.1:7400'] })
    expect(found[1]!.endpoints).toContain('tcp://127.0.0.1:7401')
    expect(found[2]).toMatchObject({ endpoints: [], fault: expect.stringMatching(/\S/) })
  })

  test('what a node would refuse is refused', async () => {
    const error = await errorOf(() => survey({ discovery: { seeds: ['10.0.0.5:7400'] } }))
    expect(error.code).toBe('OPTION_INVALID')
    expect((await errorOf(() => surveyHost({ nonsense: 1 } as never))).code).toBe('OPTION_INVALID')
  })
})
