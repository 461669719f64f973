import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createSocket, Socket } from 'node:dgram'
import { once } from 'node:events'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Clock, systemClock } from '../../src/clock.ts'
import { instanceOf } from '../../src/discovery/advert.ts'
import type { Announcement, Sighting } from '../../src/discovery/discovery.ts'
import { Mdns, type MdnsOptions } from '../../src/discovery/mdns.ts'
import { MAX_PER_SOURCE } from '../../src/discovery/neighbours.ts'
import { type MdnsInterface, SERVICE_NAME } from '../../src/discovery/station.ts'
import type { SkeinError } from '../../src/errors.ts'
import { FakeClock } from '../support/fake-clock.ts'
import {
  announce,
  goodbye,
  loopbackFault,
  privatePort,
  query,
  response,
  SERVICE,
  type Speaker,
  speaker,
} from '../support/multicast.ts'

const LOOPBACK: MdnsInterface = { interface: 'lo', address: '127.0.0.1', family: 'IPv4', internal: true }
/** An address of documentation, which no machine has. */
const ABSENT: MdnsInterface = { interface: 'tun9', address: '203.0.113.77', family: 'IPv4', internal: false }

const fault = await loopbackFault()
if (fault !== undefined) process.stderr.write(`skipped: ${fault}\n`)

/** Time that stands still unless a test moves it, and chance that is in the middle. */
const fakeClock = (random = (): number => 0.5): FakeClock & Clock =>
  Object.assign(new FakeClock(), { random, wall: () => 0 })

const open = new Set<{ close(): Promise<unknown> }>()

afterEach(async () => {
  vi.restoreAllMocks()
  const closing = [...open]
  open.clear()
  await Promise.all(closing.map((each) => each.close()))
})

/** Closes it after the test. */
const closeLater = <T extends { close(): Promise<unknown> }>(each: T): T => {
  open.add(each)
  return each
}

let meshes = 0
const meshName = (): string => `mdns-${process.pid}-${++meshes}`

const eventually = (holds: () => unknown): Promise<void> =>
  vi.waitFor(async () => expect(await holds(), holds.toString()).toBe(true), {
    timeout: 10_000,
    interval: 2,
  })

const hex = (): string => randomBytes(16).toString('hex')

const announcement = (mesh: string, over: Partial<Announcement> = {}): Announcement => ({
  ...{ id: hex(), boot: hex(), name: 'kitchen', mesh, port: 7400, hosts: ['10.9.8.7'] },
  localEndpoint: 'tcp://127.0.0.1:7400',
  ...over,
})

const instance = ({ id, boot }: { id: string; boot: string }): string => instanceOf(id, boot)

const txtOf = (of: Announcement, over: Record<string, string> = {}): string[] => {
  const { id, boot, name, mesh, port, hosts } = of
  const txt = { v: '1', id, boot, name, mesh, port: String(port), hosts: hosts.join(','), ...over }
  return Object.entries(txt).map(([key, value]) => `${key}=${value}`)
}

const advertOf = (of: Announcement, over: Record<string, string> = {}): Buffer =>
  announce(instance(of), txtOf(of, over), of.port)

interface Found {
  readonly mdns: Mdns
  readonly seen: Sighting[]
  readonly gone: string[]
  readonly warnings: SkeinError[]
}

type Options = Partial<MdnsOptions> & { self?: Announcement | null }

const make = ({ self = null, ...options }: Options): Found & { started: Promise<void> } => {
  const mdns = closeLater(
    new Mdns({ mesh: self?.mesh ?? 'none', clock: systemClock, addresses: () => [LOOPBACK], ...options }),
  )
  const found: Found = { mdns, seen: [], gone: [], warnings: [] }
  const started = mdns.start(self, {
    seen: (one) => found.seen.push(one),
    gone: (id, boot) => found.gone.push(`${id} ${boot}`),
    warning: (error) => found.warnings.push(error),
  })
  return { ...found, started }
}

const start = async (options: Options): Promise<Found> => {
  const { started, ...found } = make(options)
  await started
  return found
}

const speak = async (port: number, address?: string): Promise<Speaker> =>
  closeLater(await speaker(port, address))

/** Who was seen, each once. */
const ids = ({ seen }: Found): string[] => [...new Set(seen.map(({ id }) => id!))]

/** Resolves when all that was said to a node before has been heard by it. */
const heardOut = async (found: Found, other: Speaker, mesh: string): Promise<void> => {
  const marker = announcement(mesh)
  await eventually(async () => {
    await other.send(advertOf(marker))
    return ids(found).includes(marker.id)
  })
}

describe.skipIf(fault !== undefined)('mdns', () => {
  test('two nodes find each other: where the packets came from first, then the hosts they tell', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const one = announcement(mesh, { port: 7400, hosts: ['10.9.8.7', 'fd00::7', '127.0.0.1'] })
    const two = announcement(mesh, { name: 'cellar', port: 7500, hosts: [] })
    const first = await start({ mesh, port, self: one })
    const second = await start({ mesh, port, self: two })
    await eventually(() => first.seen.length > 0 && second.seen.length > 0)
    expect(second.seen[0]).toEqual({
      ...{ id: one.id, boot: one.boot, name: 'kitchen', source: 'mdns' },
      endpoints: ['tcp://127.0.0.1:7400', 'tcp://10.9.8.7:7400', 'tcp://[fd00::7]:7400'],
    })
    expect(first.seen[0]).toEqual({
      ...{ id: two.id, boot: two.boot, name: 'cellar', source: 'mdns' },
      endpoints: ['tcp://127.0.0.1:7500'],
    })
    expect([...first.warnings, ...second.warnings]).toEqual([])
  })

  test('on the usual port, too, whatever else is said there', async () => {
    const mesh = meshName()
    const one = announcement(mesh)
    const first = await start({ mesh, self: one })
    const second = await start({ mesh })
    await eventually(() => ids(second).includes(one.id))
    expect(ids(first)).toEqual([])
  })

  test('what is announced is one service of our type that other programs understand', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const self = announcement(mesh)
    await start({ mesh, port, self })
    await eventually(() => other.adverts.length > 0)
    const { records } = other.heard.find(({ records }) => records.length > 0)!
    const name = `${instance(self)}.${SERVICE}`
    expect(name).toBe(`${self.id}-${self.boot.slice(0, 8)}.${SERVICE_NAME}`)
    expect(records).toContainEqual({ name: SERVICE, type: 'PTR', ttl: 28_800, data: name })
    expect(records).toContainEqual({ name, type: 'SRV', ttl: 120, data: self.port })
    expect(records).toContainEqual({ name, type: 'TXT', ttl: 4500, data: txtOf(self) })
  })

  test('a node that does not listen finds others and announces nothing', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const self = announcement(mesh)
    await start({ mesh, port, self })
    const dialler = await start({ mesh, port, self: null })
    await eventually(() => ids(dialler).includes(self.id))
    await dialler.mdns.close()
    await other.send(query())
    await eventually(() => other.adverts.length >= 2)
    expect(other.adverts.every(({ txt }) => txt.includes(`id=${self.id}`))).toBe(true)
    expect(other.goodbyes).toEqual([])
  })

  test('a node that nobody can be told of is not announced, says so, and finds others', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const found = await start({ mesh, port, self: announcement(mesh, { port: 0 }) })
    await heardOut(found, other, mesh)
    expect(found.warnings).toMatchObject([
      { code: 'MDNS_UNAVAILABLE', message: expect.stringContaining('port') },
    ])
  })

  test('nodes of other meshes are not told, but listed, 64 of them at most', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const found = await start({ mesh, port, self: announcement(mesh) })
    const strangers = Array.from({ length: 100 }, (_, index) =>
      announcement(`other-${index}`, { name: `s${index}`, hosts: [] }),
    )
    for (const stranger of strangers) await other.send(advertOf(stranger))
    await heardOut(found, other, mesh)
    expect(ids(found)).toHaveLength(1)
    const listed = found.mdns.otherMeshes()
    expect(listed).toHaveLength(64)
    expect(listed.at(-1)).toEqual({ mesh: 'other-99', name: 's99', endpoints: ['tcp://127.0.0.1:7400'] })
    expect(found.mdns.strangers).toBeGreaterThanOrEqual(100)
    await other.send(goodbye(instance(strangers[99]!)))
    await eventually(() => found.mdns.otherMeshes().length === 63)
    expect(found.gone).toEqual([])
    expect(found.mdns.ignored).toBe(0)
  })

  test('its own advert is no news, another boot of its own id is', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const self = announcement(mesh)
    const found = await start({ mesh, port, self })
    await other.send(advertOf(self))
    await other.send(advertOf({ ...self, boot: hex(), port: 7999 }))
    await eventually(() => found.seen.length > 0)
    expect(found.seen).toMatchObject([
      { id: self.id, endpoints: ['tcp://127.0.0.1:7999', expect.anything()] },
    ])
  })

  test('a node that is heard through two interfaces is told once', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const addresses = (): MdnsInterface[] => [
      LOOPBACK,
      { ...LOOPBACK, interface: 'lo:2', address: '127.0.0.2' },
      { ...LOOPBACK, address: '127.0.0.3' },
      { ...LOOPBACK, interface: 'lo6', address: '::1', family: 'IPv6' },
    ]
    const clock = fakeClock()
    const found = await start({ mesh, port, addresses, clock, self: announcement(mesh) })
    await eventually(() => other.queries.length >= 2)
    expect(other.queries.map(({ from }) => from).sort()).toEqual(['127.0.0.1', '127.0.0.2'])
    const one = announcement(mesh)
    for (let times = 0; times < 5; times++) await other.send(advertOf(one))
    await heardOut(found, other, mesh)
    expect(found.seen.filter(({ id }) => id === one.id)).toHaveLength(1)
  })

  test('a node that leaves says goodbye, and closing twice is closing once', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const self = announcement(mesh)
    const leaving = await start({ mesh, port, self })
    const clock = fakeClock()
    const found = await start({ mesh, port, clock })
    await eventually(() => found.seen.length > 0)
    await clock.advance(20_000)
    await heardOut(found, other, mesh)
    const before = found.seen.length
    await Promise.all([leaving.mdns.close(), leaving.mdns.close()])
    await leaving.mdns.close()
    await eventually(() => found.gone.length > 0)
    await heardOut(found, other, mesh)
    expect(found.gone).toEqual([`${self.id} ${self.boot}`])
    expect(found.seen).toHaveLength(before + 1)
    expect(other.goodbyes).toEqual([instance(self)])
  })

  test('a goodbye that somebody else says for a living node is a hint: it is told again when it answers', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const self = announcement(mesh)
    await start({ mesh, port, self })
    const clock = fakeClock()
    const found = await start({ mesh, port, clock })
    await eventually(() => found.seen.length > 0)
    await other.send(goodbye(instance(self).toUpperCase()))
    await other.send(goodbye(instance(self)))
    await other.send(goodbye(instance(announcement(mesh))))
    await eventually(() => found.gone.length > 0)
    await clock.advance(1000)
    await other.send(query())
    await eventually(() => found.seen.length === 2)
    expect(found.seen[1]).toEqual(found.seen[0])
    expect(found.gone).toEqual([`${self.id} ${self.boot}`])
  })

  test('what has changed is told again: another port, other hosts, another name', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const clock = fakeClock()
    const found = await start({ mesh, port, clock })
    const one = announcement(mesh)
    const changes = [one, { ...one, port: 7401 }, { ...one, hosts: ['10.9.8.8'] }, { ...one, name: 'attic' }]
    for (const [index, changed] of changes.entries()) {
      await other.send(advertOf(changed))
      await eventually(() => found.seen.length === index + 1)
      await clock.advance(1000)
    }
    expect(found.seen.map(({ endpoints }) => endpoints.at(-1))).toEqual([
      'tcp://10.9.8.7:7400',
      'tcp://10.9.8.7:7401',
      'tcp://10.9.8.8:7400',
      'tcp://10.9.8.7:7400',
    ])
    expect(found.seen.at(-1)!.name).toBe('attic')
  })

  describe('hostile', () => {
    const one = announcement('any')
    test.each<[string, (mesh: string) => Buffer, string]>([
      ['a bad id', (mesh) => advertOf({ ...one, mesh }, { id: 'x'.repeat(32) }), 'its id is not'],
      ['another version', (mesh) => advertOf({ ...one, mesh }, { v: '2' }), 'another version'],
      ['the name of another', (mesh) => advertOf({ ...one, mesh }, { id: hex() }), 'not named after'],
      [
        'two endpoints in one',
        (mesh) => advertOf({ ...one, mesh }, { hosts: '10.0.0.1:1;tcp://x' }),
        'hosts',
      ],
      [
        'an endpoint for a host',
        (mesh) => advertOf({ ...one, mesh }, { hosts: 'tcp://10.0.0.1:1' }),
        'hosts',
      ],
      ['a port of none', (mesh) => advertOf({ ...one, mesh }, { port: '99999' }), 'port'],
      ['no text', () => announce('odd', [Buffer.from([0xff, 0xfe])]), 'not UTF-8'],
      [
        'a huge TXT record',
        () => announce('odd', Array(200).fill('x'.repeat(250))),
        'larger than 1200 bytes',
      ],
      ['an instance to spoil a terminal', () => announce('\u001b[2J\n'.repeat(5), []), '"\\u001b[2j\\n'],
      ['a truncated packet', (mesh) => advertOf({ ...one, mesh }).subarray(0, 150), 'cannot be read'],
      ['noise', () => randomBytes(8), 'cannot be read'],
      ['an empty packet', () => Buffer.alloc(0), 'cannot be read'],
      [
        'a name that refers to itself',
        () => Buffer.from('000084000000000100000000c00c', 'hex'),
        'cannot be read',
      ],
    ])('%s is counted, named and harmless', async (_, packet, named) => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const found = await start({ mesh, port, self: announcement(mesh) })
      for (let times = 1; times <= 20; times++) {
        await other.send(packet(mesh))
        await eventually(() => found.mdns.ignored === times)
      }
      expect(found.warnings).toMatchObject([
        { code: 'MALFORMED', message: expect.stringContaining(named), retryable: false },
      ])
      expect(found.seen).toEqual([])
      await heardOut(found, other, mesh)
    })

    test('each flaw is named again only when it was not seen for a minute', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      const found = await start({ mesh, port, clock })
      const send = async (over: Record<string, string>): Promise<void> => {
        const before = found.mdns.ignored
        await other.send(advertOf({ ...one, mesh }, over))
        await eventually(() => found.mdns.ignored === before + 1)
      }
      await send({ v: '2' })
      await send({ port: '0' })
      await clock.advance(59_000)
      await send({ v: '2' })
      expect(found.warnings).toHaveLength(2)
      await clock.advance(30_000)
      await send({ v: '2' })
      await send({ port: '0' })
      expect(found.warnings.map(({ message }) => /: (.*);/.exec(message)![1])).toEqual([
        'it is of another version',
        'its port is none',
        'its port is none',
      ])
    })

    test('records of other services, goodbyes for nobody and services without text are nothing of ours', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const found = await start({ mesh, port, self: announcement(mesh) })
      await other.send(response([{ name: 'tv._googlecast._tcp.local', type: 'TXT', data: ['id=1'] }]))
      await other.send(response([{ name: SERVICE, type: 'PTR', ttl: 0, data: 'x.local' }]))
      await other.send(response([{ name: SERVICE, type: 'PTR', data: `a.${SERVICE}` }]))
      await other.send(response([{ name: SERVICE, type: 'TXT', data: ['v=1'] }]))
      await other.send(response([]))
      await heardOut(found, other, mesh)
      expect(found.mdns.ignored).toBe(0)
      expect(found.warnings).toEqual([])
    })

    test('ten thousand fakes from one address are as nothing to a node elsewhere (G6)', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const fakes = await speak(port, '127.0.0.9')
      const found = await start({ mesh, port })
      const cpu = process.cpuUsage()
      const crowd = Array.from({ length: 10_000 }, (_, index) =>
        announcement(mesh, { name: `f${index}`, hosts: [] }),
      )
      for (let at = 0; at < crowd.length; at += 100) {
        const records = crowd.slice(at, at + 100).map((fake) => ({
          ...{ name: `${instance(fake)}.${SERVICE}`, type: 'TXT' as const, data: txtOf(fake) },
        }))
        await fakes.send(response(records))
        // Whatever came too fast for the socket would be missing in the count.
        await eventually(() => found.mdns.ignored + found.seen.length === at + 100)
      }
      expect(found.seen).toHaveLength(MAX_PER_SOURCE)
      expect(found.mdns.ignored).toBe(10_000 - MAX_PER_SOURCE)
      const { user } = process.cpuUsage(cpu)
      expect(user / 1000).toBeLessThan(5000)
      const real = announcement(mesh, { port: 7777 })
      await start({ mesh, port, self: real })
      await eventually(() => ids(found).includes(real.id))
      expect(found.warnings).toMatchObject([
        { code: 'MDNS_UNAVAILABLE', message: expect.stringContaining('127.0.0.9') },
      ])
    })

    test('many questions at once get one answer, and those that follow one in 150 ms', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      const self = announcement(mesh)
      const found = await start({ mesh, port, clock, self })
      await eventually(() => other.adverts.length === 1)
      const flood = Array(200).fill(SERVICE) as string[]
      for (let times = 0; times < 10; times++) await other.send(query(flood))
      const types = '_services._dns-sd._udp.local'
      const host = `${instance(self)}.${SERVICE}`
      for (let times = 0; times < 10; times++)
        await other.send(query(Array(50).fill([types, host.toUpperCase()]).flat() as string[]))
      await heardOut(found, other, mesh)
      const about = (name: string, type: string): number =>
        other.heard.filter(({ records }) => records[0]?.name === name && records[0].type === type).length
      await eventually(() => about(host, 'SRV') === 1 && about(types, 'PTR') === 1)
      const own = (): unknown[] =>
        other.heard.filter(
          ({ records }) => records[0]?.name === SERVICE && records.some(({ name }) => name === host),
        )
      await eventually(() => own().length === 2)
      await clock.advance(149)
      await heardOut(found, other, mesh)
      expect(own()).toHaveLength(2)
      await clock.advance(1)
      await eventually(() => own().length === 3)
      await other.send(query())
      await eventually(() => clock.pendingTimers === 2)
      await found.mdns.close()
      expect(clock.pendingTimers).toBe(0)
    })
  })

  describe('questions', () => {
    test('who is there is asked at 0, 1, 3 and 9 s and then between each one and two minutes', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      await start({ mesh, port, clock, self: announcement(mesh) })
      const asked = async (times: number): Promise<void> => {
        await eventually(() => other.queries.length >= times)
        expect(other.queries).toHaveLength(times)
      }
      await asked(1)
      for (const [times, ms] of [1000, 2000, 6000, 90_000, 90_000].entries()) {
        await clock.advance(ms - 1)
        await asked(times + 1)
        await clock.advance(1)
        await asked(times + 2)
      }
      // Its own questions come back to it, and are not answered.
      expect(other.adverts).toHaveLength(1)
    })

    test('the pauses differ from node to node', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock(() => 0.999)
      await start({ mesh, port, clock })
      await clock.advance(1245)
      expect(other.queries).toHaveLength(1)
      await clock.advance(5)
      await eventually(() => other.queries.length === 2)
      await clock.advance(2500 + 7500 + 119_000)
      await eventually(() => other.queries.length === 4)
      await clock.advance(1000)
      await eventually(() => other.queries.length === 5)
    })

    test('what somebody else has just asked is not asked again; what was asked long ago is', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      const found = await start({ mesh, port, clock })
      await clock.advance(9000)
      await eventually(() => other.queries.length === 4)
      const ownQueries = (): number => other.queries.length - foreign
      let foreign = 0
      const overhear = async (forHimself = false): Promise<void> => {
        await other.send(query([SERVICE], forHimself))
        foreign++
        await heardOut(found, other, mesh)
      }
      await clock.advance(44_000)
      await overhear()
      await clock.advance(46_000)
      await eventually(() => ownQueries() === 5)
      await clock.advance(46_000)
      await overhear()
      await clock.advance(45_000)
      await heardOut(found, other, mesh)
      expect(ownQueries()).toBe(5)
      await clock.advance(80_000)
      await overhear(true)
      await clock.advance(10_000)
      await eventually(() => ownQueries() === 6)
    })

    test('what is asked on one interface does not silence another', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const addresses = (): MdnsInterface[] => [
        LOOPBACK,
        { ...LOOPBACK, interface: 'lo:2', address: '127.77.0.2' },
      ]
      const neighbour = await speak(port, '127.77.0.9')
      const clock = fakeClock()
      const found = await start({ mesh, port, clock, addresses })
      const from = (address: string): number => other.queries.filter((heard) => heard.from === address).length
      await eventually(() => other.queries.length === 2)
      await clock.advance(900)
      await neighbour.send(query())
      await heardOut(found, neighbour, mesh)
      await clock.advance(100)
      await eventually(() => from('127.0.0.1') === 2)
      await heardOut(found, neighbour, mesh)
      expect(from('127.77.0.2')).toBe(1)
    })
  })

  describe('when addresses change', () => {
    test('it announces the new hosts, asks at once, and the old ones are never heard again', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const self = announcement(mesh)
      const moving = await start({ mesh, port, self })
      const found = await start({ mesh, port })
      await eventually(() => found.seen.length > 0)
      moving.mdns.moved({ ...self, hosts: ['10.1.1.1'] })
      const changed = (): { at: number }[] =>
        other.adverts.filter(({ txt }) => txt.includes('hosts=10.1.1.1'))
      await eventually(() => changed().length > 0)
      const since = changed()[0]!.at
      // The first announcement is repeated after 3 s, by the old service as well if it were still there.
      await eventually(() => changed().at(-1)!.at > since + 2900)
      expect(other.adverts.filter(({ at, txt }) => at > since && txt.includes('hosts=10.9.8.7'))).toEqual([])
      expect(found.seen.at(-1)!.endpoints).toEqual(['tcp://127.0.0.1:7400', 'tcp://10.1.1.1:7400'])
      expect(other.goodbyes).toEqual([])
      expect(found.gone).toEqual([])
    })

    test('after a move the questions begin anew, and who is there is told again', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      await start({ mesh, port, self: announcement(mesh) })
      const clock = fakeClock()
      const found = await start({ mesh, port, clock })
      await clock.advance(5000)
      await eventually(() => found.seen.length === 1 && other.queries.length === 4)
      found.mdns.moved(null)
      await eventually(() => other.queries.length === 5 && found.seen.length === 2)
      await clock.advance(1000)
      await eventually(() => other.queries.length === 6)
    })

    test('an interface that comes is used, one that goes is left', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      let addresses: MdnsInterface[] = []
      const self = announcement(mesh)
      const found = await start({ mesh, port, self, addresses: () => addresses })
      expect(found.mdns.isSettled).toBe(true)
      expect(found.warnings).toMatchObject([
        { code: 'MDNS_UNAVAILABLE', message: expect.stringContaining('no interface has an IPv4 address') },
      ])
      addresses = [LOOPBACK]
      found.mdns.moved(self)
      await heardOut(found, other, mesh)
      expect(other.adverts.length).toBeGreaterThan(0)
      addresses = []
      found.mdns.moved(self)
      const asked = other.queries.length
      await other.send(query())
      await other.send(advertOf(announcement(mesh)))
      await eventually(() => other.queries.length === asked + 1)
      expect(ids(found)).toHaveLength(1)
      expect(found.warnings).toHaveLength(1)
    })
  })

  describe('trouble', () => {
    const messages = ({ warnings }: Found): string[] =>
      warnings.map(({ code, message }) => `${code} ${message}`)

    test('a port that another process keeps is named once, and used when it is free', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const holder = createSocket('udp4')
      holder.bind(port, '0.0.0.0')
      await once(holder, 'listening')
      const bound = vi.spyOn(Socket.prototype, 'bind')
      const clock = fakeClock()
      const found = await start({ mesh, port, clock, self: announcement(mesh) })
      expect(found.mdns.isSettled).toBe(true)
      for (const [times, ms] of [5000, 10_000, 20_000].entries()) {
        expect(bound).toHaveBeenCalledTimes(times + 1)
        await clock.advance(ms - 1)
        expect(bound).toHaveBeenCalledTimes(times + 1)
        await clock.advance(1)
        expect(bound).toHaveBeenCalledTimes(times + 2)
        // The timer of the next attempt is set when this one has failed.
        await eventually(() => clock.pendingTimers === 1)
      }
      for (let times = 0; times < 10; times++) {
        await clock.advance(300_000)
        await eventually(() => clock.pendingTimers === 1)
      }
      expect(messages(found)).toEqual([
        `MDNS_UNAVAILABLE could not use mDNS on interface "lo" (127.0.0.1): another process keeps the UDP port of mDNS for itself (EADDRINUSE); stop it or let it share the port, name another with the option 'interface', or list seeds`,
      ])
      holder.close()
      await once(holder, 'close')
      const other = await speak(port)
      await clock.advance(300_000)
      await heardOut(found, other, mesh)
      expect(messages(found)).toHaveLength(1)
    })

    test('an interface that is gone costs the others nothing, and nothing leaves by another', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const sent = vi.spyOn(Socket.prototype, 'send')
      const clock = fakeClock()
      const alone = await start({ mesh, port, clock, addresses: () => [ABSENT], self: announcement(mesh) })
      await eventually(() => alone.warnings.length > 0)
      expect(alone.mdns.isSettled).toBe(true)
      expect(clock.pendingTimers).toBe(1)
      await clock.advance(5000)
      await eventually(() => clock.pendingTimers === 1)
      await alone.mdns.close()
      expect(clock.pendingTimers).toBe(0)
      expect(sent).not.toHaveBeenCalled()
      const other = await speak(port)
      const found = await start({ mesh, port, addresses: () => [ABSENT, LOOPBACK] })
      await heardOut(found, other, mesh)
      expect(messages(found)).toEqual([
        expect.stringMatching(
          /^MDNS_UNAVAILABLE could not use mDNS on interface "tun9" \(203\.0\.113\.77\): /,
        ),
      ])
    })

    test.each(['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EPERM', 'EADDRNOTAVAIL', 'EIO'])(
      'a packet that cannot be sent (%s) is named once and tried again',
      async (code) => {
        const [mesh, port] = [meshName(), await privatePort()]
        const send = vi.spyOn(Socket.prototype, 'send').mockImplementation(((...args: unknown[]) => {
          const error = Object.assign(new Error(`send ${code} 224.0.0.251`), { code, syscall: 'send' })
          queueMicrotask(() => (args.at(-1) as (error: Error) => void)(error))
        }) as Socket['send'])
        const closed = vi.spyOn(Socket.prototype, 'close')
        const clock = fakeClock()
        const found = await start({ mesh, port, clock, self: announcement(mesh) })
        await eventually(() => found.warnings.length > 0)
        const tries = send.mock.calls.length
        expect(closed).not.toHaveBeenCalled()
        await clock.advance(5000)
        expect(closed).toHaveBeenCalledTimes(1)
        await eventually(() => send.mock.calls.length > tries && clock.pendingTimers === 1)
        expect(messages(found)).toEqual([expect.stringContaining(`(${code})`)])
        expect(messages(found)[0]).toMatch(/"lo".*'interface'.*seeds$/)
        send.mockRestore()
        const other = await speak(port)
        await clock.advance(10_000)
        await heardOut(found, other, mesh)
        await eventually(() => other.adverts.length > 0)
      },
    )

    test('an answer that cannot be sent is named, and does not end the process', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      const found = await start({ mesh, port, clock, self: announcement(mesh) })
      await eventually(() => other.queries.length === 1)
      const asking = query()
      const real = Socket.prototype.send as (...args: unknown[]) => void
      vi.spyOn(Socket.prototype, 'send').mockImplementation(function (this: Socket, ...args: unknown[]) {
        if (args[0] === asking) return real.apply(this, args)
        const error = Object.assign(new Error('send EMSGSIZE'), { code: 'EMSGSIZE', syscall: 'send' })
        queueMicrotask(() => (args.at(-1) as (error: Error) => void)(error))
      } as Socket['send'])
      await other.send(asking)
      await eventually(() => found.warnings.length > 0)
      expect(messages(found)).toEqual([expect.stringContaining('EMSGSIZE')])
    })

    test('a goodbye that cannot be said holds nobody up for more than half a second', async () => {
      const [mesh, port] = [meshName(), await privatePort()]
      const other = await speak(port)
      const clock = fakeClock()
      const found = await start({ mesh, port, clock, self: announcement(mesh) })
      await eventually(() => other.queries.length === 1)
      vi.spyOn(Socket.prototype, 'send').mockImplementation(() => {})
      let closed = false
      const closing = found.mdns.close().then(() => {
        closed = true
      })
      await clock.advance(499)
      expect(closed).toBe(false)
      await clock.advance(1)
      await closing
      expect(clock.pendingTimers).toBe(0)
    })
  })

  test('it is settled when those who are there have had a quarter of a second to answer', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const other = await speak(port)
    const clock = fakeClock()
    const { mdns, started } = make({ mesh, port, clock })
    expect(mdns.isSettled).toBe(false)
    await started
    await eventually(() => other.queries.length === 1)
    // The query is counted when the socket says that it was sent.
    await clock.microtasks()
    await clock.advance(249)
    expect(mdns.isSettled).toBe(false)
    await clock.advance(1)
    expect(mdns.isSettled).toBe(true)
    mdns.moved(null)
    expect(mdns.isSettled).toBe(true)
  })

  test('closing while it starts or moves leaves nothing behind', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const clock = fakeClock()
    const self = announcement(mesh)
    const early = make({ mesh, port, clock, self })
    await early.mdns.close()
    await early.started
    const later = await start({ mesh, port, clock, self })
    later.mdns.moved(self)
    later.mdns.moved(self)
    await later.mdns.close()
    later.mdns.moved(self)
    expect(clock.pendingTimers).toBe(0)
    const bound = vi.spyOn(Socket.prototype, 'bind').mockReturnThis()
    const opening = make({ mesh, port, clock, self })
    await eventually(() => bound.mock.calls.length === 1)
    await opening.mdns.close()
    await opening.started
    expect(clock.pendingTimers).toBe(0)
    const unstarted = new Mdns({ mesh, port, clock, addresses: () => [LOOPBACK] })
    unstarted.moved(self)
    await unstarted.close()
  })

  test('nothing is ever printed', async () => {
    const [mesh, port] = [meshName(), await privatePort()]
    const printed = [
      ...(['log', 'info', 'warn', 'error', 'debug', 'trace'] as const).map((how) => vi.spyOn(console, how)),
      vi.spyOn(process.stdout, 'write'),
      vi.spyOn(process.stderr, 'write'),
      vi.spyOn(process, 'emitWarning'),
    ]
    const other = await speak(port)
    const self = announcement(mesh)
    const found = await start({ mesh, port, self, addresses: () => [ABSENT, LOOPBACK] })
    // The same name from elsewhere: what bonjour-service calls a conflict.
    await other.send(announce(instance(self), ['v=9'], 1))
    await other.send(Buffer.from('noise'))
    await eventually(() => found.mdns.ignored === 2)
    found.mdns.moved({ ...self, hosts: [] })
    await heardOut(found, other, mesh)
    await found.mdns.close()
    for (const each of printed) expect(each).not.toHaveBeenCalled()
  })

  test('a process that has closed it ends by itself (G10)', async () => {
    const port = await privatePort()
    const [module, clock] = ['discovery/mdns.ts', 'clock.ts'].map(
      (file) => new URL(`../../src/${file}`, import.meta.url).href,
    )
    const source = `
      const { Mdns } = await import(${JSON.stringify(module)})
      const { systemClock } = await import(${JSON.stringify(clock)})
      const self = ${JSON.stringify(announcement('ending', { port }))}
      const open = async () => {
        const mdns = new Mdns({ mesh: 'ending', clock: systemClock, port: ${port}, addresses: () => ${JSON.stringify([LOOPBACK, ABSENT])} })
        await mdns.start(self, { seen() {}, gone() {}, warning() {} })
        return mdns
      }
      const mdns = await open()
      mdns.moved({ ...self, hosts: [] })
      while (!mdns.isSettled) await new Promise((resolve) => setTimeout(resolve, 10))
      await mdns.close()
      await (await open()).close()
      // A socket is closed only when the event loop has gone round.
      await new Promise((resolve) => setTimeout(resolve))
      process.send(process.getActiveResourcesInfo().filter((name) => !/Pipe|TTY/.test(name)))
      process.disconnect()
    `
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    closeLater({ close: async () => child.kill('SIGKILL') })
    let output = ''
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString()
      })
    }
    const said = once(child, 'message')
    const [code] = (await once(child, 'exit')) as [number]
    expect({ code, output }).toEqual({ code: 0, output: '' })
    // Announcements that bonjour-service had planned do not keep a process; sockets and intervals would.
    expect(((await said)[0] as string[]).filter((name) => name !== 'Timeout')).toEqual([])
  })
})
