// Real networks: each host is a network namespace, and the switches between them are cut and mended.

import { expect, test } from 'vitest'
import type { Peer } from '../../src/index.ts'
import { type Host, Lab, whyNoNetworks } from '../support/netns.ts'
import {
  type Member,
  type MemberOptions,
  type Outcome,
  type PresenceEvent,
  type Tally,
  until,
} from '../support/processes.ts'

const refusal = whyNoNetworks()
if (refusal !== undefined) console.info(`networks: skipped, because ${refusal}`)

/** Side by side, because most of the time each waits; those that last come first. */
const scenario = refusal === undefined ? test.concurrent : test.skip

const PORT = 7400
/** An idle peer is pinged after 15 to 19 s and given up 10 s later; the rest is for a machine that does much else. */
const NOTICED_MS = 45_000
const FOUND_MS = 20_000

let rounds = 0

/** A node that only multicast tells of others, and what else is named. */
const startOn = (host: Host, name: string, options: MemberOptions = {}): Promise<Member> =>
  host.member().start({
    name,
    mesh: 'lab',
    open: true,
    ...options,
    discovery: { registry: false, ...options.discovery },
  })

const peersOf = (member: Member): Promise<Peer[]> => member.ask<Peer[]>('peers')

const peerOf = async (member: Member, name: string): Promise<Peer | undefined> =>
  (await peersOf(member)).find((peer) => peer.name === name)

const upOf = async (member: Member): Promise<string[]> =>
  (await peersOf(member))
    .filter(({ state }) => state === 'up')
    .map(({ name }) => name)
    .sort()

/** Resolves when these see each other, and nobody else. */
const meshed = async (members: readonly Member[], timeoutMs = FOUND_MS): Promise<void> => {
  const names = members.map(({ name }) => name).sort()
  const seesAll = async (member: Member): Promise<unknown> =>
    until(
      () => upOf(member),
      (up) => [...up, member.name].sort().join() === names.join(),
      timeoutMs,
    )
  await Promise.all(members.map(seesAll))
}

const tallyOf = (member: Member, topic: string): Promise<Tally> => member.ask('tally', { pattern: topic })

/** Each gets what each publishes, and answers what each asks. */
const assertWell = async (members: readonly Member[]): Promise<void> => {
  const topic = `well.${++rounds}`
  await Promise.all(members.map((member) => member.ask('subscribe', { pattern: topic })))
  await Promise.all(members.map((member) => member.ask('respond', { name: `${topic}.${member.name}` })))
  for (const member of members) {
    await member.ask('waitForSubscribers', { topic, count: members.length - 1 })
    await member.ask('publish', { topic, value: 1 })
    for (const { name } of members) {
      const { value } = await member.ask<Outcome>('request', { name: `${topic}.${name}`, waitMs: 5000 })
      expect(value).toBe(name)
    }
  }
  for (const member of members) {
    await until(
      () => tallyOf(member, topic),
      ({ received }) => received === members.length,
      5000,
    )
  }
}

interface Interruption {
  readonly by: 'mdns' | 'seed'
  readonly how: 'cut' | 'unplug'
  /** So long that those it parts have forgotten each other. */
  readonly forgets: boolean
}

/** The link of the third of three hosts is dead for so long that all notice, and lives again; they publish all the time. */
const interrupt = async (lab: Lab, { by, how, forgets }: Interruption): Promise<void> => {
  const lan = await lab.lan()
  const hosts = [await lab.host(lan), await lab.host(lan), await lab.host(lan)] as const
  const [, , island] = hosts
  const seeds = [`${hosts[0].ipv4()}:${PORT}`]
  const discovery = by === 'mdns' ? { gossip: false } : { mdns: false, seeds }
  const goneMs = forgets ? { goneMs: 1000 } : {}
  const members = await Promise.all(
    hosts.map((host, at) =>
      startOn(host, `n${at}`, { ...goneMs, discovery, ...(at === 0 ? { port: PORT } : {}) }),
    ),
  )
  const [a, b, c] = members as [Member, Member, Member]
  const pairs = members.flatMap((to) => members.filter((from) => from !== to).map((from) => ({ from, to })))
  await meshed(members)
  for (const { from, to } of pairs) await to.ask('subscribe', { pattern: `flow.${from.name}` })
  await Promise.all(members.map((from) => from.ask('flow', { topic: `flow.${from.name}`, everyMs: 20 })))
  const flows = ({ from, to }: { from: Member; to: Member }): Promise<Tally> =>
    tallyOf(to, `flow.${from.name}`)
  for (const pair of pairs) {
    await until(
      () => flows(pair),
      ({ received }) => received > 10,
      5000,
    )
  }

  const cutAt = Date.now()
  await (how === 'cut' ? island.cut() : island.unplug())
  const partedFrom = { n0: ['n2'], n1: ['n2'], n2: ['n0', 'n1'] } as Record<string, string[]>
  const isParted =
    (member: Member) =>
    (peers: Peer[]): boolean =>
      !peers.some(({ name, state }) => partedFrom[member.name]!.includes(name) && /up|suspect/.test(state))
  await Promise.all(members.map((member) => until(() => peersOf(member), isParted(member), NOTICED_MS)))
  const noticedMs = Date.now() - cutAt
  if (forgets) {
    for (const member of members) {
      const isForgotten = (peers: Peer[]): boolean =>
        !peers.some(({ name }) => partedFrom[member.name]!.includes(name))
      await until(() => peersOf(member), isForgotten, 5000)
    }
  }

  const mendedAt = Date.now()
  await (how === 'cut' ? island.mend() : island.plug())
  await meshed(members)
  const againMs = Date.now() - mendedAt
  console.info(
    `${how}, ${by}: noticed by all after ${noticedMs} ms, one mesh again ${againMs} ms after it was mended`,
  )

  for (const [member, expected] of [
    [a, ['up n1', 'up n2', 'down n2', 'up n2']],
    [b, ['up n0', 'up n2', 'down n2', 'up n2']],
    [c, ['up n0', 'up n1', 'down n0', 'down n1', 'up n0', 'up n1']],
  ] as const) {
    const nameOf = new Map(members.map(({ id, name }) => [id, name]))
    const events = await member.ask<PresenceEvent[]>('events')
    const told = events.map(({ type, id }) => `${type.slice('peer-'.length)} ${nameOf.get(id)}`)
    // Of two at the same time either may be first.
    const inPairs = (all: readonly string[]): string[] =>
      all.flatMap((_, at) => (at % 2 ? [] : [...all.slice(at, at + 2)].sort()))
    if (member === c) expect(inPairs(told)).toEqual(expected)
    else expect([told.slice(0, 2).sort(), told.slice(2)].flat()).toEqual(expected)
    for (const { type, reason } of events)
      expect(reason).toMatch(type === 'peer-up' ? /^$/ : /it has answered no ping for 1\d s/)
    for (const peer of await peersOf(member)) expect(peer.reason).toBeUndefined()
  }

  const sent = new Map<Member, number>()
  for (const from of members)
    sent.set(from, await from.ask<number>('stopFlow', { topic: `flow.${from.name}` }))
  for (const pair of pairs) {
    const all = sent.get(pair.from)!
    const isWhole = pair.from !== c && pair.to !== c
    const tally = await until(
      () => flows(pair),
      ({ received, missed, uncounted }) => received + missed === all || (forgets && uncounted > 0),
      10_000,
    )
    expect(tally.disorder).toBe(0)
    if (isWhole) expect(tally).toMatchObject({ received: all, missed: 0, uncounted: 0 })
    else if (forgets)
      expect(tally).toMatchObject({ missed: 0, uncounted: 1, reasons: { 'publisher-lost': 0 } })
    else expect(tally).toMatchObject({ uncounted: 0, reasons: { lost: tally.missed } })
    if (!isWhole) expect(tally.received).toBeLessThan(all)
  }
  await assertWell(members)
}

scenario(
  'networks - three open nodes on three hosts find each other by multicast alone',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan()
    const hosts = [await lab.host(lan), await lab.host(lan), await lab.host(lan)]
    const startedAt = Date.now()
    const members = await Promise.all(
      hosts.map((host, at) => startOn(host, `n${at}`, { discovery: { gossip: false } })),
    )
    await meshed(members)
    console.info(`mdns: three processes started and meshed in ${Date.now() - startedAt} ms`)
    for (const member of members)
      for (const { foundBy } of await peersOf(member))
        expect(['mdns', 'hello']).toEqual(expect.arrayContaining([...foundBy]))
    await assertWell(members)
  },
  60_000,
)

scenario(
  'networks - where the switch swallows multicast, one seed and gossip find all',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan({ blocksMulticast: true })
    const hosts = [await lab.host(lan), await lab.host(lan), await lab.host(lan)] as const
    const seeds = [`${hosts[0].ipv4()}:${PORT}`]
    const startedAt = Date.now()
    const members = await Promise.all([
      startOn(hosts[0], 'n0', { port: PORT }),
      startOn(hosts[1], 'n1', { discovery: { seeds } }),
      startOn(hosts[2], 'n2', { discovery: { seeds } }),
    ])
    await meshed(members)
    console.info(`one seed: three processes started and meshed in ${Date.now() - startedAt} ms`)
    const [, , last] = members
    const found = (await peersOf(last!)).flatMap(({ foundBy }) => foundBy)
    expect(found).toContain('seed')
    expect(found).not.toContain('mdns')
    await assertWell(members)
  },
  60_000,
)

scenario(
  'networks - without any IPv4 a seed in brackets leads from host to host',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan({ ipv4: false, ipv6: true })
    const [first, second] = [await lab.host(lan), await lab.host(lan)]
    const members = [
      await startOn(first, 'n0', { port: PORT }),
      await startOn(second, 'n1', { discovery: { seeds: [`[${first.ipv6()}]:${PORT}`] } }),
    ]
    await meshed(members)
    const [peer] = await peersOf(members[0]!)
    expect(peer?.endpoints[0]).toContain(`[${second.ipv6()}]`)
    await assertWell(members)
  },
  60_000,
)

scenario(
  'networks - of a host on two networks only one address is within reach: all are tried at once',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const [near, far] = [await lab.lan(), await lab.lan()]
    // Whatever has no better way vanishes, and nobody answers that there is none.
    const [outer, inner] = [await lab.host(far, near), await lab.host(near)]
    await inner.defaultRoute('eth0')
    const reached = await startOn(inner, 'inner', { port: PORT, discovery: { mdns: false } })
    const dialling = await startOn(outer, 'outer', {
      discovery: { mdns: false, seeds: [`${inner.ipv4()}:${PORT}`] },
    })
    const startedAt = Date.now()
    await meshed([reached, dialling])
    expect(Date.now() - startedAt).toBeLessThan(3000)
    const [peer] = await peersOf(reached)
    expect(peer?.endpoints).toEqual([expect.stringContaining(outer.ipv4(1))])
    await assertWell([reached, dialling])
  },
  60_000,
)

scenario(
  'networks - nodes that reach each other by four ways at once do not lose each other over those not taken',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const host = await lab.host()
    const advertise = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4']
    const members = [host.member(), host.member(), host.member()]
    for (let round = 0; round < 15; round++) {
      const port = PORT + 3 * round
      const seeds = advertise.map((address) => `${address}:${port}`)
      const startAll = members.map((member, at) =>
        member.start({
          ...{ name: `n${at}`, mesh: `lab${round}`, open: true, bind: '0.0.0.0', advertise },
          ...(at === 0 ? { port } : {}),
          discovery: { registry: false, mdns: false, seeds },
        }),
      )
      await Promise.all(startAll)
      await meshed(members)
      for (const member of members) {
        const told = await member.ask<PresenceEvent[]>('events')
        expect(told.map(({ type, reason }) => (reason ? `${type}: ${reason}` : type))).toEqual([
          'peer-up',
          'peer-up',
        ])
        const warnings = await member.ask<{ code: string }[]>('warnings')
        expect(warnings.filter(({ code }) => code !== 'SEED_UNREACHABLE')).toEqual([])
      }
      await Promise.all(members.map((member) => member.ask('close')))
    }
  },
  60_000,
)

scenario(
  'networks - a host that gets another address is one of the mesh again, without a restart',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan()
    const hosts = [await lab.host(lan), await lab.host(lan)] as const
    const members = await Promise.all(hosts.map((host, at) => startOn(host, `n${at}`)))
    await meshed(members)
    await hosts[1].removeAddress(`${hosts[1].ipv4()}/24`)
    await hosts[1].addAddress(`${lan.ipv4(99)}/24`)
    await until(
      () => peersOf(members[0]!),
      ([peer]) => peer?.state === 'up' && peer.endpoints[0]?.includes(lan.ipv4(99)) === true,
      60_000,
    )
    await meshed(members)
    await assertWell(members)
  },
  120_000,
)

scenario(
  'networks - a host that is connected only later is found then',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan()
    const [early, late] = [await lab.host(lan), await lab.host()]
    const members = [await startOn(early, 'n0'), await startOn(late, 'n1')]
    expect(await upOf(members[0]!)).toEqual([])
    const joinedAt = Date.now()
    await late.join(lan)
    await meshed(members, 30_000)
    console.info(`a cable: found ${Date.now() - joinedAt} ms after it was put in`)
    await assertWell(members)
  },
  60_000,
)

scenario(
  'networks - two meshes on one network do not see each other, nor does anybody see a node that is not open (G8)',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan()
    const hosts = [await lab.host(lan), await lab.host(lan)] as const
    const [closed, ...others] = await Promise.all([
      startOn(hosts[1], 'closed', { open: false }),
      startOn(hosts[0], 'other', { mesh: 'other' }),
      startOn(hosts[1], 'another', { mesh: 'other' }),
    ])
    const members = await Promise.all(hosts.map((host, at) => startOn(host, `n${at}`)))
    await meshed(members)
    await meshed(others)
    expect(await peersOf(closed)).toEqual([])
    for (const member of [...members, ...others]) expect(await peersOf(member)).toHaveLength(1)
  },
  60_000,
)

scenario(
  'networks - a node behind a firewall is one-way at both ends, with the address that failed, and can still ask',
  async ({ onTestFinished }) => {
    const lab = await Lab.open(onTestFinished)
    const lan = await lab.lan({ blocksMulticast: true })
    const [open, walled] = [await lab.host(lan), await lab.host(lan)]
    await walled.refuseConnections()
    const reached = await startOn(open, 'reached', { port: PORT })
    const behind = await startOn(walled, 'behind', { discovery: { seeds: [`${open.ipv4()}:${PORT}`] } })
    const oneWay = await until(
      () => peerOf(reached, 'behind'),
      (peer) => peer?.state === 'one-way',
      20_000,
    )
    expect(oneWay?.reason).toContain(walled.ipv4())
    const other = await until(
      () => peerOf(behind, 'reached'),
      (peer) => peer?.reason !== undefined,
      5000,
    )
    expect(other?.state).toBe('up')
    expect(other?.reason).toContain(walled.ipv4())
    await reached.ask('respond', { name: 'asked' })
    expect((await behind.ask<Outcome>('request', { name: 'asked', waitMs: 5000 })).value).toBe('reached')
    await walled.admitConnections()
    await meshed([reached, behind], 30_000)
    await assertWell([reached, behind])
  },
  90_000,
)

scenario(
  'cut - a link that dies without a word is noticed at both ends, one seed makes them one mesh again, and received plus missed equal sent (G5)',
  async ({ onTestFinished }) => {
    await interrupt(await Lab.open(onTestFinished), { by: 'seed', how: 'cut', forgets: false })
  },
  120_000,
)

scenario(
  'cut - one whose cable was pulled until all had forgotten each other is found again by multicast',
  async ({ onTestFinished }) => {
    await interrupt(await Lab.open(onTestFinished), { by: 'mdns', how: 'unplug', forgets: true })
  },
  120_000,
)

scenario(
  'cut - one whose cable was pulled until all had forgotten each other finds them again by its seed',
  async ({ onTestFinished }) => {
    await interrupt(await Lab.open(onTestFinished), { by: 'seed', how: 'unplug', forgets: true })
  },
  120_000,
)
