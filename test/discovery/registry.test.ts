import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Announcement, isEndpoint, type Sighting } from '../../src/discovery/discovery.ts'
import { parseEntry } from '../../src/discovery/entry.ts'
import { Registry } from '../../src/discovery/registry.ts'
import { defaultRegistryDirectory, encodeMesh } from '../../src/discovery/registry-directory.ts'
import type { SkeinError } from '../../src/errors.ts'

let directory: string
const open: Registry[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'skein-registry-'))
})

afterEach(async () => {
  await Promise.all(open.splice(0).map((registry) => registry.close()))
  rmSync(directory, { recursive: true, force: true })
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const hex = (): string => randomBytes(16).toString('hex')

let port = 20_000
/** A node of this host. */
interface One {
  id: string
  boot: string
  name: string
  endpoint: string
}

const sighting = (over: Partial<One> = {}): One => ({
  id: hex(),
  boot: hex(),
  name: 'kitchen',
  endpoint: `tcp://127.0.0.1:${port++}`,
  ...over,
})

const toldOf = ({ id, boot, name, endpoint }: One): Sighting => ({
  ...{ id, boot, name, endpoints: [endpoint], source: 'registry' },
})

const oneOf = ({ id, boot, name, endpoints, source }: Sighting): One => {
  expect([source, endpoints.length]).toEqual(['registry', 1])
  return { id: id!, boot: boot!, name, endpoint: endpoints[0]! }
}

const announcementOf = ({ id, boot, name, endpoint }: One): Announcement => ({
  ...{ id, boot, name, mesh: '', port: 1, hosts: [], localEndpoint: endpoint },
})

const refuse = (registry: Registry, one: One): void =>
  registry.tried(toldOf(one), one.endpoint, { kind: 'refused', reason: 'connection refused' })

interface Found {
  registry: Registry
  seen: One[]
  gone: string[]
  warnings: SkeinError[]
}

interface StartOptions {
  self?: One | null
  mesh?: string
  at?: string
  rescanMs?: number
}

const start = async ({
  self = null,
  mesh = 'default',
  at = directory,
  rescanMs,
}: StartOptions = {}): Promise<Found> => {
  const registry = new Registry({ directory: at, mesh, ...(rescanMs === undefined ? {} : { rescanMs }) })
  open.push(registry)
  const found: Found = { registry, seen: [], gone: [], warnings: [] }
  await registry.start(self === null ? null : announcementOf(self), {
    seen: (one) => found.seen.push(oneOf(one)),
    gone: (id, boot) => found.gone.push(`${id} ${boot}`),
    warning: (error) => found.warnings.push(error),
  })
  return found
}

const pathOf = (id: string, mesh = 'default'): string => join(directory, encodeMesh(mesh), `${id}.json`)

const netns = (() => {
  try {
    return readlinkSync('/proc/self/ns/net')
  } catch {
    return ''
  }
})()

const entryOf = (of: One, over: object = {}): object => ({
  v: 1,
  id: of.id,
  boot: of.boot,
  name: of.name,
  mesh: 'default',
  endpoint: of.endpoint,
  pid: process.pid,
  host: hostname(),
  netns,
  ...over,
})

const write = (of: One, over: object = {}): void => {
  mkdirSync(join(directory, 'default'), { recursive: true })
  const draft = join(directory, 'draft')
  writeFileSync(draft, JSON.stringify(entryOf(of, over)))
  renameSync(draft, pathOf(of.id))
}

/** Resolves when all that was asked of a registry before is done: it takes one step at a time. */
const settled = async (found: Found): Promise<void> => {
  const marker = sighting()
  write(marker)
  await vi.waitFor(() => expect(found.seen).toContainEqual(marker))
}

const deadPid = (): number => spawnSync(process.execPath, ['-e', '']).pid

test('registry - two nodes see each other at once, well before any rescan', async () => {
  const [a, b] = [sighting(), sighting()]
  const atA = await start({ self: a, rescanMs: 3_600_000 })
  const atB = await start({ self: b, rescanMs: 3_600_000 })
  expect(atB.seen).toEqual([a])
  await vi.waitFor(() => expect(atA.seen).toEqual([b]))
  expect([...atA.warnings, ...atB.warnings]).toEqual([])
})

test('registry - a node is never told of itself, and its file is readable by its user alone', async () => {
  const self = sighting()
  const found = await start({ self, rescanMs: 20 })
  await start({ self: sighting() })
  await vi.waitFor(() => expect(found.seen).toHaveLength(1))
  expect(found.seen[0]?.id).not.toBe(self.id)
  expect(statSync(pathOf(self.id)).mode & 0o777).toBe(0o600)
  expect(statSync(join(directory, 'default')).mode & 0o777).toBe(0o700)
})

test('registry - entries that are already there are reported before start resolves, to a node that only dials too', async () => {
  const there = [sighting(), sighting(), sighting()]
  for (const one of there) write(one)
  const found = await start()
  expect(found.seen).toHaveLength(3)
  expect(found.seen).toEqual(expect.arrayContaining(there))
  expect(readdirSync(join(directory, 'default'))).toHaveLength(3)
})

test('registry - a node of another mesh is not seen', async () => {
  const [own, other] = [sighting(), sighting()]
  const found = await start({ self: sighting(), mesh: 'blue', rescanMs: 20 })
  await start({ self: other, mesh: 'green' })
  await start({ self: own, mesh: 'blue' })
  await vi.waitFor(() => expect(found.seen).toEqual([own]))
})

test('registry - a mesh name with slashes, dots or unicode stays inside the directory and apart from others', async () => {
  const meshes = [
    '../../evil',
    '..',
    '.',
    'a/b',
    'a_b',
    'Default',
    'default',
    'küche\u0000',
    'x'.repeat(255),
    'blå/🧶',
  ]
  expect(new Set(meshes.map((mesh) => encodeMesh(mesh).toLowerCase())).size).toBe(meshes.length)
  for (const mesh of meshes) {
    const self = sighting()
    await start({ self, mesh })
    expect(existsSync(pathOf(self.id, mesh))).toBe(true)
    expect((await start({ mesh })).seen).toEqual([self])
  }
  expect(readdirSync(directory)).toHaveLength(meshes.length)
})

test('registry - every mesh name becomes one portable file name', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 255 }), fc.string()), (mesh) => {
      expect(encodeMesh(mesh)).toMatch(/^[A-Za-z0-9_~-]{1,80}$/)
    }),
  )
})

test('registry - a restarted node is reported again under its new boot, and its old file is replaced', async () => {
  const first = sighting()
  const second = { ...first, boot: hex(), endpoint: `tcp://127.0.0.1:${port++}` }
  write(first, { pid: deadPid() })
  const found = await start({ rescanMs: 3_600_000 })
  await start({ self: second })
  await vi.waitFor(() => expect(found.seen).toEqual([first, second]))
  expect(readdirSync(join(directory, 'default'))).toEqual([`${first.id}.json`])
})

test('registry - another live boot of the own id is reported and its file is left alone', async () => {
  const self = sighting()
  const twin = { ...self, boot: hex(), endpoint: `tcp://127.0.0.1:${port++}` }
  const found = await start({ self, rescanMs: 20 })
  write(twin)
  const other = sighting()
  await vi.waitFor(() => expect(found.seen).toEqual([twin]))
  write(other)
  await vi.waitFor(() => expect(found.seen).toEqual([twin, other]))
  expect(JSON.parse(readFileSync(pathOf(self.id), 'utf8')).boot).toBe(twin.boot)
  unlinkSync(pathOf(self.id))
  await vi.waitFor(() => expect(JSON.parse(readFileSync(pathOf(self.id), 'utf8')).boot).toBe(self.boot))
})

test('registry - an entry at the own endpoint, or of the own boot at another one, is not reported', async () => {
  const self = sighting()
  write({ ...self, endpoint: 'tcp://127.0.0.1:1' })
  write(sighting({ endpoint: self.endpoint }), { pid: deadPid() })
  expect((await start({ self })).seen).toEqual([])
})

test('registry - a node that closes is reported as gone', async () => {
  const self = sighting()
  const found = await start({ rescanMs: 3_600_000 })
  const other = await start({ self })
  await vi.waitFor(() => expect(found.seen).toEqual([self]))
  await other.registry.close()
  await vi.waitFor(() => expect(found.gone).toEqual([`${self.id} ${self.boot}`]))
})

test('registry - what the watch misses, the rescan finds', async () => {
  rmSync(directory, { recursive: true })
  const self = sighting()
  const found = await start({ self, rescanMs: 1000 })
  // The watch is on the directory that was; the next rescan makes a new one and watches that.
  rmSync(directory, { recursive: true })
  await vi.waitFor(() => expect(existsSync(pathOf(self.id))).toBe(true), 5000)
  const other = sighting()
  write(other)
  await vi.waitFor(() => expect(found.seen).toEqual([other]), 700)
  unlinkSync(pathOf(other.id))
  await vi.waitFor(() => expect(found.gone).toEqual([`${other.id} ${other.boot}`]))
})

test('registry - the file of a node that refuses connections and whose process is dead is swept', async () => {
  const dead = sighting()
  write(dead, { pid: deadPid() })
  const found = await start()
  refuse(found.registry, dead)
  await vi.waitFor(() => expect(existsSync(pathOf(dead.id))).toBe(false))
  expect(found.gone).toEqual([`${dead.id} ${dead.boot}`])
})

test('registry - a living process that refuses is swept only when it refuses again half a second later', async () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(1000)
  const slow = sighting()
  write(slow)
  const found = await start()
  refuse(found.registry, slow)
  await settled(found)
  now.mockReturnValue(1499)
  refuse(found.registry, slow)
  await settled(found)
  expect(existsSync(pathOf(slow.id))).toBe(true)
  now.mockReturnValue(1500)
  refuse(found.registry, slow)
  await vi.waitFor(() => expect(existsSync(pathOf(slow.id))).toBe(false))
})

test('registry - a file that names another boot by now is not swept', async () => {
  const old = sighting()
  const young = { ...old, boot: hex() }
  write(old, { pid: deadPid() })
  const found = await start()
  write(young, { pid: deadPid() })
  refuse(found.registry, old)
  await vi.waitFor(() => expect(found.seen).toEqual([old, young]))
  refuse(found.registry, { ...young, endpoint: 'tcp://127.0.0.1:1' })
  refuse(found.registry, { ...young, boot: old.boot })
  await settled(found)
  expect(existsSync(pathOf(old.id))).toBe(true)
})

test('registry - a live node whose file was swept by mistake writes it again', async () => {
  const self = sighting()
  await start({ self, rescanMs: 3_600_000 })
  const found = await start({ rescanMs: 3_600_000 })
  unlinkSync(pathOf(self.id))
  await vi.waitFor(() => expect(found.seen).toEqual([self, self]))
  expect(found.gone).toEqual([`${self.id} ${self.boot}`])
  writeFileSync(pathOf(self.id), 'spoilt')
  await vi.waitFor(() => expect(found.seen).toEqual([self, self, self]))
})

test('registry - malformed, oversized, foreign, linked and irregular files are counted and each reported once', async () => {
  const inside = join(directory, 'default')
  mkdirSync(inside)
  const target = sighting()
  writeFileSync(join(directory, 'elsewhere.json'), JSON.stringify(entryOf(target)))
  symlinkSync(join(directory, 'elsewhere.json'), pathOf(target.id))
  writeFileSync(pathOf(hex()), '{"v":1,')
  writeFileSync(pathOf(hex()), '')
  const huge = sighting()
  writeFileSync(pathOf(huge.id), JSON.stringify(entryOf(huge)).padEnd(4097))
  write(sighting(), { mesh: 'other' })
  write(sighting(), { v: 2 })
  writeFileSync(pathOf(hex()), JSON.stringify(entryOf(sighting())))
  writeFileSync(join(inside, 'notes.json'), '{}')
  mkdirSync(pathOf(hex()))
  expect(spawnSync('mkfifo', [pathOf(hex())]).status).toBe(0)
  writeFileSync(join(inside, '.hidden.json'), '')
  writeFileSync(join(inside, 'README'), '')
  const found = await start({ rescanMs: 10 })
  expect(found.registry.ignored).toBe(10)
  const good = sighting()
  write(good)
  await vi.waitFor(() => expect(found.seen).toEqual([good]))
  writeFileSync(join(inside, 'notes.json'), '{ }')
  unlinkSync(pathOf(good.id))
  await vi.waitFor(() => expect(found.gone).toHaveLength(1))
  expect(found.warnings.map((error) => error.code)).toEqual(Array(10).fill('MALFORMED'))
  expect(found.warnings.filter((error) => error.message.includes('not a regular file'))).toHaveLength(3)
  expect(found.warnings.map((error) => error.message)).toContainEqual(
    `ignored "notes.json" in the registry "${inside}", because it is of another version: remove it if nobody needs it`,
  )
})

test('registry - entries of another host or network namespace are neither reported nor swept nor complained of', async () => {
  const [far, apart] = [sighting(), sighting()]
  write(far, { host: 'another-host', pid: deadPid() })
  write(apart, { netns: 'net:[1]', pid: deadPid() })
  const found = await start()
  refuse(found.registry, far)
  refuse(found.registry, apart)
  expect(found.seen).toEqual([])
  await settled(found)
  expect([existsSync(pathOf(far.id)), existsSync(pathOf(apart.id))]).toEqual([true, true])
  expect([found.seen.length, found.warnings, found.registry.ignored]).toEqual([1, [], 0])
})

test('registry - at most 1,024 entries are taken, and the next ones as soon as there is room (G6)', async () => {
  const all = Array.from({ length: 1030 }, () => sighting())
  for (const one of all) write(one)
  const found = await start({ rescanMs: 20 })
  expect(found.seen).toHaveLength(1024)
  expect(found.warnings.map((error) => error.code)).toEqual(['REGISTRY_UNAVAILABLE'])
  for (const one of found.seen.slice(0, 6)) unlinkSync(pathOf(one.id))
  await vi.waitFor(() => expect(new Set(found.seen.map((one) => one.id)).size).toBe(1030))
})

test('registry - a directory that cannot be made is a warning with a remedy, not a failure to start', async () => {
  writeFileSync(join(directory, 'file'), '')
  const self = sighting()
  const found = await start({ self, at: join(directory, 'file', 'inside'), rescanMs: 5 })
  expect(found.warnings).toHaveLength(1)
  expect(found.warnings[0]?.code).toBe('REGISTRY_UNAVAILABLE')
  expect(found.warnings[0]?.message).toMatch(
    /could not use the registry ".*", so .*: make it a directory .*SKEIN_RUNTIME_DIR.*ENOTDIR/,
  )
  // It recovers by itself, and has not repeated the warning meanwhile.
  unlinkSync(join(directory, 'file'))
  await vi.waitFor(() => {
    expect(existsSync(join(directory, 'file', 'inside', 'default', `${self.id}.json`))).toBe(true)
  })
  expect(found.warnings).toHaveLength(1)
})

test.runIf(existsSync('/proc/sys/kernel'))(
  'registry - a directory that can be read but not written is still read',
  async () => {
    // Not even root can create files there.
    const found = await start({ self: sighting(), at: '/proc/sys', mesh: 'kernel' })
    expect(found.warnings.map((error) => error.code)).toEqual(['REGISTRY_UNAVAILABLE'])
    expect(found.warnings[0]?.message).toMatch(
      /^could not announce node "kitchen" in the registry "\/proc\/sys\/kernel"/,
    )
  },
)

test.each([
  ['open to others', () => spawnSync('chmod', ['777', join(directory, 'default')])],
  ['of another user', () => spawnSync('chown', ['12345', join(directory, 'default')])],
  [
    'reached through a link',
    () => {
      rmSync(join(directory, 'default'), { recursive: true })
      mkdirSync(join(directory, 'target'))
      symlinkSync(join(directory, 'target'), join(directory, 'default'))
    },
  ],
])(
  'registry - a directory below /tmp that is %s is refused, neither read nor written',
  async (_what, spoil) => {
    write(sighting())
    spoil()
    const before = readdirSync(join(directory, 'default'))
    const found = await start({ self: sighting() })
    expect(found.seen).toEqual([])
    expect(found.warnings.map((error) => error.code)).toEqual(['REGISTRY_UNAVAILABLE'])
    expect(readdirSync(join(directory, 'default'))).toEqual(before)
  },
)

test('registry - close removes the own file, twice as well as once, and reports nothing any more', async () => {
  const self = sighting()
  const found = await start({ self, rescanMs: 5 })
  await Promise.all([found.registry.close(), found.registry.close()])
  await found.registry.close()
  expect(readdirSync(join(directory, 'default'))).toEqual([])
  const other = await start({ self: sighting(), rescanMs: 5 })
  const third = await start({ self: sighting() })
  await vi.waitFor(() => expect(other.seen).toHaveLength(1))
  await third.registry.close()
  expect([found.seen, found.gone]).toEqual([[], []])
})

test('registry - close leaves a file that names another boot', async () => {
  const self = sighting()
  const found = await start({ self })
  const twin = { ...self, boot: hex() }
  write(twin)
  await found.registry.close()
  expect(JSON.parse(readFileSync(pathOf(self.id), 'utf8')).boot).toBe(twin.boot)
})

test('registry - close while starting leaves nothing behind', async () => {
  const registry = new Registry({ directory, mesh: 'default' })
  const starting = registry.start(announcementOf(sighting()), {
    seen: () => {},
    gone: () => {},
    warning: () => {},
  })
  await registry.close()
  await starting
  expect(existsSync(join(directory, 'default')) ? readdirSync(join(directory, 'default')) : []).toEqual([])
})

test('registry - once close is called nothing is reported, even of what was just being read', async () => {
  for (let count = 0; count < 3; count += 1) write(sighting())
  const registry = new Registry({ directory, mesh: 'default' })
  const seen: Sighting[] = []
  await registry.start(null, {
    seen: (one) => {
      seen.push(one)
      void registry.close()
    },
    gone: () => {},
    warning: () => {},
  })
  await registry.close()
  expect(seen).toHaveLength(1)
})

test('registry - a started registry does not keep its process alive', async () => {
  const source = `
    import { Registry } from '${new URL('../../src/discovery/registry.ts', import.meta.url).pathname}'
    const registry = new Registry({ directory: process.env.SKEIN_RUNTIME_DIR, mesh: 'default' })
    await registry.start(${JSON.stringify(announcementOf(sighting()))}, { seen() {}, gone() {}, warning(error) { throw error } })
    console.log('started')`
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', source], {
    env: { ...process.env, SKEIN_RUNTIME_DIR: directory },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (bytes) => {
    said += bytes
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  expect([code, said]).toEqual([0, 'started\n'])
})

test('registry - the default directory follows the environment', () => {
  vi.stubEnv('SKEIN_RUNTIME_DIR', '/run/mine')
  vi.stubEnv('XDG_RUNTIME_DIR', '/run/user/7')
  expect(defaultRegistryDirectory()).toBe('/run/mine')
  vi.stubEnv('SKEIN_RUNTIME_DIR', '')
  expect(defaultRegistryDirectory()).toBe('/run/user/7/skein')
  vi.stubEnv('XDG_RUNTIME_DIR', '')
  expect(defaultRegistryDirectory()).toBe(join(tmpdir(), `skein-${process.getuid?.()}`))
})

test('registry - whatever a file holds is an entry that upholds every rule, or a reason (G8)', () => {
  const sound = { ...entryOf(sighting()), v: 1 }
  const field = fc.constantFrom(...Object.keys(sound))
  const nearly = fc
    .array(fc.tuple(field, fc.oneof(fc.jsonValue(), fc.string({ unit: 'binary' }), fc.integer())), {
      maxLength: 2,
    })
    .map((changes) => new TextEncoder().encode(JSON.stringify({ ...sound, ...Object.fromEntries(changes) })))
  let accepted = 0
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 5000 }),
        fc.json().map((text) => Buffer.from(text)),
        nearly,
      ),
      (bytes) => {
        const entry = parseEntry(bytes, 'default')
        if (typeof entry === 'string') {
          expect(entry).toMatch(/^it/)
          return
        }
        accepted += 1
        expect(bytes.byteLength).toBeLessThanOrEqual(4096)
        expect(entry.id + entry.boot).toMatch(/^[0-9a-f]{64}$/)
        expect(Buffer.byteLength(entry.name)).toBeLessThanOrEqual(255)
        expect(isEndpoint(entry.endpoint)).toBe(true)
        expect([entry.v, entry.mesh]).toEqual([1, 'default'])
        expect(entry.pid).toBeGreaterThan(0)
      },
    ),
    { numRuns: 2000 },
  )
  expect(accepted).toBeGreaterThan(0)
})

test.each([
  ['tcp://127.0.0.1:5000', true],
  ['tcp://kitchen.local:65535', true],
  ['tcp://[::1]:1', true],
  ['tcp://127.0.0.1:0', false],
  ['tcp://127.0.0.1:65536', false],
  ['tcp://127.0.0.1', false],
  ['tcp://*:5000', false],
  ['tcp://10.0.0.1:0;10.0.0.2:5000', false],
  ['ipc:///tmp/x', false],
  ['tcp://a b:5000', false],
  ['tcp://host:5000\n', false],
])('registry - %j as an endpoint: %s', (text, sound) => {
  expect(isEndpoint(text)).toBe(sound)
})
