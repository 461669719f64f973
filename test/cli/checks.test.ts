import { describe, expect, test } from 'vitest'
import type { Check } from '../../src/cli/check.ts'
import { type Asked, hostChecks } from '../../src/cli/host-checks.ts'
import { meshChecks, warningChecks } from '../../src/cli/mesh-checks.ts'
import type { Findings } from '../../src/cli/peer-checks.ts'
import { refusalOf } from '../../src/cli/refusal.ts'
import type { Session } from '../../src/cli/run.ts'
import type { Visit } from '../../src/cli/visit.ts'
import { explainTopic } from '../../src/cli/why-topic.ts'
import {
  type HostSurvey,
  type NodeStatus,
  type Peer,
  SkeinError,
  type SubscriptionStatus,
} from '../../src/index.ts'

const asked: Asked = {
  ...{ mesh: 'shop', open: true, mdns: undefined },
  ...{ bind: undefined, interface: undefined, advertise: undefined },
}

const eth0 = {
  ...{ name: 'eth0', addresses: ['10.0.0.5'], internal: false, virtual: false },
  ...{ listens: ['10.0.0.5'], told: ['10.0.0.5'] },
}

const survey: HostSurvey = {
  ...{ mesh: 'shop', open: true, registry: null, seeds: [], interfaces: [eth0], multicast: null },
  listening: { bind: '0.0.0.0', told: ['10.0.0.5'], ports: [] },
}

const idOf = (letter: string): string => letter.repeat(32)

const peer = (letter: string, fields: Partial<Peer> = {}): Peer => ({
  ...{ id: idOf(letter), name: letter, boot: idOf('0'), state: 'up', foundBy: ['mdns'] },
  endpoints: [`tcp://10.0.0.${letter.charCodeAt(0)}:7400`],
  ...fields,
})

const statusOf = ({ id, name }: Peer, fields: Partial<NodeStatus> = {}): NodeStatus => ({
  ...{
    id,
    name,
    boot: idOf('0'),
    mesh: 'shop',
    protocol: 1,
    runtime: 'v22.0.0',
    host: name,
    pid: 7,
    open: true,
  },
  ...{ wallMs: 0, lagMs: 0, missed: 0, subscriptions: [], responders: [] },
  address: { hosts: ['10.0.0.5'], control: 7400, feed: 7401, delivery: 7402 },
  peers: [peer('s')],
  ...fields,
})

const self = peer('s')

const visit = (whom: Peer, fields: Partial<Visit> = {}, status: Partial<NodeStatus> = {}): Visit => ({
  ...{ peer: whom, error: '', roundTripMs: 1, aheadMs: 0 },
  status: statusOf(whom, status),
  ...fields,
})

const findings = (fields: Partial<Findings>): Findings => ({
  ...{ survey, self: statusOf(self), peers: [], visits: [], warnings: [], waitedMs: 300 },
  ...fields,
})

/** Those of one kind that are not well, or the only one. */
const told = (checks: readonly Check[], kind: string): Check[] => {
  const all = checks.filter(({ check }) => check === kind)
  const unwell = all.filter(({ verdict }) => verdict !== 'ok')
  return unwell.length > 0 ? unwell : all
}

describe('checks of the host', () => {
  const multicast = (probe: object, hasRoute = true): Check[] => {
    const probes = [{ interface: 'eth0', address: '10.0.0.5', outcome: 'heard' as const, ...probe }]
    return told(
      hostChecks({ ...survey, multicast: { probes, hasRoute, strangers: [] } }, asked, []),
      'multicast',
    )
  }

  test('multicast that comes back is well', () => {
    expect(multicast({})).toMatchObject([{ verdict: 'ok', subject: 'eth0' }])
  })

  test.each([
    [{ outcome: 'failed', code: 'ENETUNREACH' }, /no route for multicast/, /ip route add 224\.0\.0\.0\/4/],
    [{ outcome: 'failed', code: 'EPERM' }, /firewall or sandbox forbids/, /allow UDP port 5353/],
    [{ outcome: 'failed', code: 'EACCES' }, /firewall or sandbox forbids/, /allow UDP port 5353/],
    [{ outcome: 'failed', code: 'EADDRINUSE' }, /keeps UDP port 5353 for itself/, /ss -ulpn/],
    [{ outcome: 'failed', code: 'ENODEV' }, /gone, or knows no multicast/, /bring it up/],
    [{ outcome: 'failed', code: 'EWHATEVER' }, /EWHATEVER/, /--seed/],
    [{ outcome: 'silent' }, /sent and did not come back/, /firewall/],
  ])('multicast that ends in %j is a problem with its cause and remedy', (probe, cause, remedy) => {
    const [check] = multicast(probe)
    expect(check).toMatchObject({ verdict: 'problem', text: expect.stringMatching(cause) })
    expect(check!.remedy).toMatch(remedy)
    expect(check!.remedy).toContain('--seed')
  })

  test('no route for multicast is worth a note where it works, and part of the cause where it does not', () => {
    expect(multicast({}, false)).toMatchObject([{ verdict: 'note', text: expect.stringMatching(/no route/) }])
    const [silent] = multicast({ outcome: 'silent' }, false)
    expect(silent).toMatchObject({ verdict: 'problem', text: expect.stringMatching(/no route/) })
    expect(silent!.remedy).toMatch(/ip route add/)
  })

  test('an open node without a network is told so', () => {
    const lo = { ...eth0, name: 'lo', addresses: ['127.0.0.1'], internal: true }
    const [problem] = told(hostChecks({ ...survey, interfaces: [lo] }, asked, []), 'interface')
    expect(problem).toMatchObject({
      verdict: 'problem',
      text: expect.stringMatching(/no network but loopback/),
    })
  })

  test('an open node that is reached through a virtual interface only is told so', () => {
    const docker = { ...eth0, name: 'docker0', virtual: true }
    const [note] = told(hostChecks({ ...survey, interfaces: [docker] }, asked, []), 'interface')
    expect(note).toMatchObject({ verdict: 'note', text: expect.stringMatching(/virtual interface only/) })
  })

  test.each([
    ['forbidden', /may not write/],
    ['read-only', /read-only file system/],
    ['full', /disk is full/],
    ['exposed', /other users/],
    ['in-the-way', /a file stands/],
    ['other', /cannot be used/],
  ] as const)('a registry that is %s is a problem, and another directory a remedy', (kind, why) => {
    const registry = { directory: '/run/skein', owner: 0, user: 7, meshes: [], unread: 0, malformed: 0 }
    const checks = hostChecks({ ...survey, registry: { ...registry, flaw: { kind, text: 'EX' } } }, asked, [])
    expect(told(checks, 'registry')).toMatchObject([
      {
        verdict: 'problem',
        text: expect.stringMatching(why),
        remedy: expect.stringContaining('SKEIN_RUNTIME_DIR'),
      },
    ])
  })

  test('a privileged port is told as such', () => {
    const ports = [0, 1, 2].map((offset) => ({
      ...{ port: 80 + offset, role: 'control' as const, state: 'forbidden' as const, code: 'EACCES' },
    }))
    const checks = hostChecks({ ...survey, listening: { ...survey.listening!, ports } }, asked, [1, 2, 3])
    expect(told(checks, 'ports')).toMatchObject([
      { verdict: 'problem', subject: '80, 81, 82', remedy: 'choose a --port above 1023' },
    ])
  })
})

describe('checks of the mesh', () => {
  const a = peer('a')
  const b = peer('b')

  const clock = (aheadMs: number, roundTripMs = 1): Check[] =>
    told(meshChecks(findings({ peers: [a], visits: [visit(a, { aheadMs, roundTripMs })] })), 'clock')

  test('a clock is noted from 100 ms on, and a problem from 1 s on', () => {
    expect(clock(50)).toMatchObject([{ verdict: 'ok' }])
    expect(clock(-150)).toMatchObject([{ verdict: 'note', text: expect.stringMatching(/150 ms behind/) }])
    expect(clock(5000)).toMatchObject([{ verdict: 'problem', text: expect.stringMatching(/5\.0 s ahead/) }])
  })

  test('a slow answer says little about a clock', () => {
    expect(clock(1050, 2000)).toMatchObject([{ verdict: 'ok' }])
    expect(clock(1050, 200)).toMatchObject([{ verdict: 'note' }])
  })

  test('an event loop that was held up is noted from 100 ms on, and a problem from 1 s on', () => {
    const lag = (lagMs: number): Check[] =>
      told(meshChecks(findings({ peers: [a], visits: [visit(a, {}, { lagMs })] })), 'event-loop')
    expect(lag(20)).toMatchObject([{ verdict: 'ok' }])
    expect(lag(300)).toMatchObject([{ verdict: 'note', subject: expect.stringMatching(/^a /) }])
    expect(lag(2400)).toMatchObject([
      {
        verdict: 'problem',
        text: expect.stringMatching(
          /held up for at least 2\.4 s at a stretch, until less than ten seconds ago/,
        ),
      },
    ])
    const own = meshChecks(findings({ self: statusOf(self, { lagMs: 1500 }) }))
    expect(told(own, 'event-loop')).toMatchObject([{ verdict: 'problem', subject: 'this node' }])
  })

  test('nodes that stay on their host are named to an open one, and the other way round', () => {
    const closed = meshChecks(findings({ peers: [a], visits: [visit(a, {}, { open: false })] }))
    expect(told(closed, 'mode')).toMatchObject([
      { verdict: 'note', text: expect.stringMatching(/a stays on this host/) },
    ])
    const open = meshChecks(
      findings({ self: statusOf(self, { open: false }), peers: [a], visits: [visit(a)] }),
    )
    expect(told(open, 'mode')).toMatchObject([{ verdict: 'note', remedy: expect.stringContaining('--open') }])
  })

  test('a peer that has not dialled back is a problem that names the ports', () => {
    const pending = { peers: [peer('s', { state: 'seen' })] }
    const [check] = told(meshChecks(findings({ peers: [a], visits: [visit(a, {}, pending)] })), 'dial-back')
    expect(check).toMatchObject({
      verdict: 'problem',
      text: expect.stringMatching(/10\.0\.0\.5:7400 within 300 ms/),
    })
    expect(check!.remedy).toContain('7400, 7401 and 7402')
  })

  test('what peers say of a third one is told once, with all who say it', () => {
    const c = peer('c', { state: 'one-way', reason: 'nobody answers at tcp://10.0.0.9:1' })
    const view = { peers: [peer('s'), c] }
    const checks = meshChecks(findings({ peers: [a, b], visits: [visit(a, {}, view), visit(b, {}, view)] }))
    expect(told(checks, 'view')).toMatchObject([
      {
        verdict: 'problem',
        subject: expect.stringMatching(/^c /),
        text: expect.stringMatching(/a and b.*10\.0\.0\.9/),
      },
    ])
  })

  test('what this node sees itself is not told again', () => {
    const c = peer('c', { state: 'one-way' })
    const checks = meshChecks(findings({ peers: [a, c], visits: [visit(a, {}, { peers: [peer('s'), c] })] }))
    expect(told(checks, 'view')).toEqual([])
    expect(told(checks, 'peer')).toMatchObject([
      { subject: expect.stringMatching(/^c /), verdict: 'problem' },
    ])
  })

  test('a node that nobody misses but that has ended is a note', () => {
    const gone = { peers: [peer('s'), peer('c', { state: 'down', reason: 'connection refused' })] }
    const checks = meshChecks(findings({ peers: [a], visits: [visit(a, {}, gone)] }))
    expect(told(checks, 'view')).toMatchObject([
      { verdict: 'note', text: expect.stringMatching(/down for a/) },
    ])
  })

  test('nobody at all is no problem, but a note that says what could be done', () => {
    expect(told(meshChecks(findings({})), 'mesh')).toMatchObject([
      {
        verdict: 'note',
        text: expect.stringMatching(/no other node/),
        remedy: expect.stringContaining('--seed'),
      },
    ])
  })

  test('a mesh that is heard by mDNS where nobody is in this one is the likely cause', () => {
    const strangers = [{ mesh: 'shopp', name: 'orders', endpoints: ['tcp://10.0.0.9:7400'] }]
    const multicast = { probes: [], hasRoute: true, strangers }
    const [check] = told(meshChecks(findings({ survey: { ...survey, multicast } })), 'mesh')
    expect(check).toMatchObject({
      verdict: 'problem',
      text: expect.stringMatching(/"shopp" \(orders at tcp/),
    })
    expect(check!.remedy).toContain('--mesh shopp')
  })

  test('a mesh of another name is quoted as a shell wants it', () => {
    const strangers = [{ mesh: "a'; rm -rf", name: 'x', endpoints: [] }]
    const multicast = { probes: [], hasRoute: true, strangers }
    const [check] = told(meshChecks(findings({ survey: { ...survey, multicast } })), 'mesh')
    expect(check!.remedy).toContain(`--mesh 'a'\\''; rm -rf'`)
  })

  test('what the node warned of is told, unless a problem tells it already', () => {
    const warnings = [
      new SkeinError('REGISTRY_UNAVAILABLE', 'could not watch'),
      new SkeinError('MALFORMED', 'a packet'),
      new SkeinError('MALFORMED', 'a packet'),
    ]
    expect(warningChecks(warnings, []).map(({ text }) => text)).toEqual(['could not watch', 'a packet'])
    const registry: Check = { check: 'registry', verdict: 'problem', text: '', remedy: '' }
    expect(warningChecks(warnings, [registry]).map(({ text }) => text)).toEqual(['a packet'])
  })
})

describe('why a topic', () => {
  const [w1, sub] = [peer('w', { name: 'w1' }), peer('b', { name: 'billing' })]
  const having = (subscription: Partial<SubscriptionStatus>): Partial<NodeStatus> => ({
    subscriptions: [{ pattern: 'jobs', queued: 0, dropped: 0, ...subscription }],
  })
  const work = visit(w1, {}, having({ addressee: { kind: 'queue', name: 'jobs' } }))
  const group = visit(sub, {}, having({ addressee: { kind: 'group', name: 'archive' } }))

  const asking = (topic: string, ...visits: Visit[]) => {
    const statuses = new Map(visits.map(({ peer: { id }, status }) => [id, status]))
    const node = { request: (_name: string, _query: unknown, { to }: { to: string }) => statuses.get(to) }
    const session = { node, stop: new AbortController().signal } as unknown as Session
    const peers = visits.map((each) => each.peer)
    return explainTopic(session, topic, findings({ peers, visits }), () =>
      Promise.resolve({ found: [], unasked: 3 }),
    )
  }

  test('a queue is told from a topic: a worker gets what is pushed, and not what is published', async () => {
    const { conclusion, outcome, checks } = await asking('jobs', work)
    expect([conclusion, outcome]).toEqual(['1 worker would get what is pushed: w1', 'fine'])
    expect(checks).toMatchObject([
      { check: 'worker', verdict: 'ok', text: expect.stringContaining('works on queue "jobs"') },
      { check: 'subscriber', verdict: 'note', text: expect.stringContaining('nobody subscribes to it') },
    ])
  })

  test('a member of a group is told with its group, and gets nothing of what is pushed', async () => {
    const { conclusion, checks } = await asking('jobs', group)
    expect(conclusion).toBe('1 node would get what is published: billing')
    expect(checks).toMatchObject([
      { check: 'subscriber', text: expect.stringContaining('subscribes by "jobs" in group "archive"') },
      {
        check: 'worker',
        verdict: 'note',
        text: expect.stringContaining('nobody works on a queue of this name'),
      },
    ])
    const both = await asking('jobs', work, group)
    expect(both.conclusion).toBe(
      '1 node would get what is published: billing; 1 worker would get what is pushed: w1',
    )
    expect(both.checks.map(({ verdict }) => verdict)).toEqual(['ok', 'ok'])
  })

  test('of a mistyped queue the nearest one is named, and how to start a worker', async () => {
    const { outcome, checks } = await asking('jbos', work)
    expect(outcome).toBe('nobody')
    expect(checks).toContainEqual(
      expect.objectContaining({
        check: 'queue',
        subject: 'jobs',
        remedy: expect.stringContaining('push to "jobs"'),
      }),
    )
    expect(checks).toContainEqual(expect.objectContaining({ text: 'all that there are: "jobs"' }))
    const far = await asking('mail', work)
    expect(far.checks).toContainEqual(
      expect.objectContaining({ verdict: 'note', text: '3 more meshes of this host were not asked' }),
    )
    expect(far.checks[0]!.remedy).toContain('a worker (skein pull mail)')
  })
})

describe('refusal', () => {
  test.each([
    ["tcp://h:1 refuses this node: this node is in mesh 'a', the hello of 'x' names mesh 'b'", 'mesh'],
    ['tcp://h:1 refuses this node: a batch speaks version 1 of the wire, this node speaks 2', 'version'],
    ['tcp://h:1 refuses this node: node id 00 is held by a living node', 'identity'],
    ['tcp://h:1 refuses this node: this node knows as many peers as it can', 'full'],
    ['tcp://h:1 refuses this node: not today', 'rejected'],
    ['tcp://h:1: connection refused at tcp://h:1', 'refused'],
    ['it has not answered the hello yet', 'silent'],
    ['', 'silent'],
  ])('%j is %s', (reason, kind) => {
    expect(refusalOf({ reason }).kind).toBe(kind)
  })

  test.each([
    ['MESH_MISMATCH', 'mesh'],
    ['VERSION_MISMATCH', 'version'],
    ['NODE_ID_IN_USE', 'identity'],
    ['BUSY', 'full'],
    ['MALFORMED', 'rejected'],
    ['CONNECTION_REFUSED', 'refused'],
    ['NAME_UNRESOLVED', 'unresolvable'],
    ['NOT_A_NODE', 'strange'],
    ['NO_ANSWER', 'silent'],
  ] as const)('%s is %s, whatever the sentence says', (code, kind) => {
    expect(refusalOf({ code, reason: 'perhaps connection refused' }).kind).toBe(kind)
  })

  test('the name of the other mesh is that of its sentence', () => {
    const reason = "this node is in mesh 'b', the hello of 'x' names mesh 'a'"
    expect(refusalOf({ code: 'MESH_MISMATCH', reason })).toEqual({ kind: 'mesh', mesh: 'b' })
    expect(refusalOf({ code: 'MESH_MISMATCH', reason: '' })).toEqual({ kind: 'mesh', mesh: undefined })
  })
})
