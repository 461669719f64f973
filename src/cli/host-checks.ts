import type {
  HostSurvey,
  InterfaceSurvey,
  ListeningSurvey,
  MulticastProbe,
  PortSurvey,
  RegistryFlaw,
  RegistryNode,
  RegistrySurvey,
} from '../index.ts'
import type { Check } from './check.ts'
import { count, list } from './wording.ts'

/** What was asked for on the command line, as far as the texts name it. */
export interface Asked {
  readonly mesh: string
  readonly open: boolean
  readonly mdns: boolean | undefined
  readonly bind: string | undefined
  readonly interface: string | undefined
  readonly advertise: string | undefined
}

/** What can be said of this host before anybody was met. */
export const hostChecks = (survey: HostSurvey, asked: Asked, ports: readonly number[]): Check[] => [
  ...registryChecks(survey.registry, asked.mesh),
  ...(survey.listening === null ? [] : portChecks(survey.listening, survey, ports)),
  ...interfaceChecks(survey, asked),
  ...multicastChecks(survey, asked),
]

const OWN_DIRECTORY =
  'set SKEIN_RUNTIME_DIR to a directory of your own, for every process of the mesh on this host'

const FLAWS: Readonly<Record<RegistryFlaw, (registry: RegistrySurvey) => readonly [string, string]>> = {
  'in-the-way': ({ directory }) => [
    'a file stands where a directory should be',
    `remove or rename the file at ${directory}, or ${OWN_DIRECTORY}`,
  ],
  forbidden: ({ directory, owner, user }) => [
    `this user${user === undefined ? '' : ` (uid ${user})`} may not write there${owner === undefined ? '' : `, it belongs to uid ${owner}`}`,
    `give ${directory} to this user, or ${OWN_DIRECTORY}`,
  ],
  'read-only': () => ['it is on a read-only file system', `mount it writable, or ${OWN_DIRECTORY}`],
  full: () => ['the disk is full, or its quota is', `make room there, or ${OWN_DIRECTORY}`],
  exposed: () => [
    'other users could put nodes of their own into it',
    `make that directory yours alone (chown, chmod 700), or ${OWN_DIRECTORY}`,
  ],
  other: () => ['it cannot be used', OWN_DIRECTORY],
}

const registryChecks = (registry: RegistrySurvey | null, mesh: string): Check[] => {
  const check = 'registry'
  if (registry === null) {
    const text = 'switched off: other nodes of this host are not found by it'
    return [
      { check, verdict: 'note', text, remedy: 'leave out --no-registry and SKEIN_REGISTRY=0 to use it' },
    ]
  }
  const { directory, flaw, malformed } = registry
  if (flaw !== undefined) {
    const [why, remedy] = FLAWS[flaw.kind](registry)
    const text = `the nodes of this host cannot find each other through ${directory}: ${why} (${flaw.text})`
    return [{ check, verdict: 'problem', text, remedy }]
  }
  const nodes = registry.meshes.find((each) => each.mesh === mesh)?.nodes ?? []
  const of = (state: RegistryNode['state']) => nodes.filter((each) => each.state === state)
  const alive = of('alive').length
  const [dead, elsewhere] = [namesOf(of('dead')), namesOf(of('elsewhere'))]
  const checks: Check[] = [
    { check, verdict: 'ok', text: `${directory} can be used and lists ${count(alive, 'other node')}` },
  ]
  if (dead.length > 0) {
    const text = `${count(dead.length, 'file')} of nodes that ended without a goodbye: ${list(dead)}. Nothing needs to be done: nodes that come by remove them`
    checks.push({ check, verdict: 'note', text })
  }
  for (const { name, pid, endpoint } of of('unreachable')) {
    const text = `node "${name}" (process ${pid}) is said to be at ${endpoint}, where nobody listens`
    const remedy = `if that process is the node, correct its --advertise; if not, nothing needs to be done`
    checks.push({ check, verdict: 'note', text, remedy })
  }
  if (elsewhere.length > 0) {
    const text = `${count(elsewhere.length, 'node')} of another host or container share this directory, and cannot be reached through it: ${list(elsewhere)}`
    const remedy = 'name one of them with --seed, and give each host or container a directory of its own'
    checks.push({ check, verdict: 'note', text, remedy })
  }
  if (malformed > 0) {
    const text = `${count(malformed, 'file')} in ${directory} cannot be read as a node`
    checks.push({ check, verdict: 'note', text, remedy: 'remove what nobody needs there' })
  }
  return checks
}

const namesOf = (nodes: readonly RegistryNode[]): string[] => nodes.map(({ name }) => name)

const portChecks = (
  { bind, fault, ports: wanted }: ListeningSurvey,
  { registry, interfaces }: HostSurvey,
  used: readonly number[],
): Check[] => {
  const check = 'ports'
  if (fault !== undefined) {
    const addresses = interfaces.flatMap((each) => each.addresses)
    const text = `nothing can listen on ${bind} (${fault}), so this check went on without it`
    const remedy = `use an address of this host with --bind, or none: it has ${list(addresses, 12)}`
    return [{ check: 'bind', subject: bind, verdict: 'problem', text, remedy }]
  }
  const first = wanted[0]?.port
  if (first === undefined) {
    return [{ check, verdict: 'ok', text: `any free ones; this check listens on ${used.join(', ')}` }]
  }
  const range = `${first}-${first + wanted.length - 1}`
  const bad = wanted.filter(({ state }) => state !== 'free')
  if (bad.length === 0) return [{ check, verdict: 'ok', subject: range, text: 'all three are free' }]
  const holders = new Set(bad.map((port) => holderText(port, registry)))
  return [...holders].map((holder): Check => {
    const theirs = bad.filter((port) => holderText(port, registry) === holder)
    const subject = theirs.map(({ port }) => port).join(', ')
    const { state, code } = theirs[0]!
    const node = `a node with --port ${first} cannot start`
    if (state === 'forbidden') {
      const text = `this user may not listen there (${code}), so ${node}`
      return { check, subject, verdict: 'problem', text, remedy: 'choose a --port above 1023' }
    }
    if (state === 'unusable') {
      const text = `nothing can listen there (${code}), so ${node}`
      return { check, subject, verdict: 'problem', text, remedy: 'choose another --port, or another --bind' }
    }
    const text = `taken by ${holder}, so ${node}; this check went on with free ones`
    const remedy = `stop that process, or choose another --port: three in a row are needed, ${range} here`
    return { check, subject, verdict: 'problem', text, remedy }
  })
}

const holderText = ({ holder }: PortSurvey, registry: RegistrySurvey | null): string => {
  if (holder === undefined) return 'a process that this user may not look at'
  const { pid, command } = holder
  const node = registry?.meshes
    .flatMap(({ nodes, mesh }) => nodes.map((each) => ({ ...each, mesh })))
    .find((each) => each.pid === pid && each.state === 'alive')
  const known = node === undefined ? '' : `, where node "${node.name}" of mesh "${node.mesh}" runs`
  return `process ${pid} (${command})${known}`
}

const interfaceChecks = (survey: HostSurvey, asked: Asked): Check[] => {
  const { interfaces, listening } = survey
  const check = 'interface'
  const checks = interfaces.map(
    (each): Check => ({ check, subject: each.name, verdict: 'ok', text: interfaceText(each, survey, asked) }),
  )
  if (asked.open && interfaces.every(({ internal }) => internal)) {
    const text = 'this host has no network but loopback, so nobody elsewhere can be reached'
    const remedy =
      'connect it to a network, or leave out --open: nodes of this host find each other without one'
    checks.push({ check, verdict: 'problem', text, remedy })
  }
  const told = listening?.told ?? []
  const reached = interfaces.filter((each) => each.told.length > 0)
  if (asked.open && reached.length > 0 && reached.every((each) => each.virtual)) {
    const text = `others are told ${list(told)}, of a virtual interface only: they seldom reach this host by it`
    const remedy = 'name the right interface with --interface, or the right address with --advertise'
    checks.push({ check, verdict: 'note', text, remedy })
  }
  if (asked.advertise !== undefined) {
    const text = `others are told to dial ${list(told)} and nothing else, because --advertise says so`
    checks.push({ check: 'advertise', verdict: 'ok', text })
  }
  return checks
}

const interfaceText = (
  { addresses, internal, virtual, listens, told }: InterfaceSurvey,
  { listening }: HostSurvey,
  asked: Asked,
): string => {
  const where = `${addresses.join(', ')}: `
  if (listening === null) return `${where}this command only dials`
  if (listens.length === 0) return `${where}not listened on, because ${whyNot(listening, asked)}`
  const all = listens.length === addresses.length ? '' : ` at ${list(listens)}`
  if (internal) return `${where}listened on${all}, for this host only`
  const others = told.length === 0 ? 'others are not told of it' : `others are told ${list(told)}`
  const late = virtual && told.length > 0 ? ' last, because it is virtual' : ''
  return `${where}listened on${all}; ${others}${late}`
}

const whyNot = ({ bind }: ListeningSurvey, asked: Asked): string => {
  if (asked.bind !== undefined) return `--bind names ${bind}`
  if (asked.interface !== undefined) return `--interface names ${asked.interface}`
  return asked.open ? `only ${bind} is listened on` : 'without --open a node stays on this host'
}

const multicastChecks = ({ multicast }: HostSurvey, { mdns, open }: Asked): Check[] => {
  const check = 'multicast'
  if (multicast === null) return [unusedMulticast(mdns, open)]
  const { probes, hasRoute } = multicast
  if (probes.length === 0) {
    const text = 'mDNS cannot be used: no interface that is listened on has an IPv4 address'
    const remedy = 'give it one, name another with --interface, or name one node of the mesh with --seed'
    return [{ check, verdict: 'problem', text, remedy }]
  }
  const checks = probes.map((probe) => probeCheck(probe, hasRoute))
  if (!hasRoute && checks.every(({ verdict }) => verdict === 'ok')) checks.push(noRoute(probes[0]!.interface))
  return checks
}

const unusedMulticast = (mdns: boolean | undefined, open: boolean): Check => {
  const check = 'multicast'
  if (mdns === false) {
    const text = 'mDNS is switched off: nodes of other hosts are found by seeds and gossip only'
    return { check, verdict: 'note', text, remedy: 'leave out --no-mdns and SKEIN_MDNS=0 to use it' }
  }
  if (open)
    return { check, verdict: 'note', text: 'not used: the address that is listened on is of this host only' }
  const text = 'not used: without --open a node stays on this host, where the registry is enough'
  return { check, verdict: 'note', text, remedy: 'add --open if nodes of other hosts should be found' }
}

const routeFor = (name: string): string => `ip route add 224.0.0.0/4 dev ${name}`

const ADD_ROUTE = `add one (${routeFor('<interface>')})`

const noRoute = (name: string): Check => ({
  check: 'multicast',
  verdict: 'note',
  text: 'this host has no route for multicast (224.0.0.0/4). skein names the interface of each packet, so it works here; other programs and systems may not',
  remedy: `if nodes of other hosts are not found, add one (${routeFor(name)}), or name one of them with --seed`,
})

/** What is wrong, and what helps, by the error code of a socket. */
const FAILURES: Readonly<Record<string, readonly [string, string]>> = {
  EADDRINUSE: [
    'another program keeps UDP port 5353 for itself',
    'stop it or make it share the port (who has it: ss -ulpn sport = :5353)',
  ],
  EACCES: ['a firewall or sandbox forbids it', 'allow UDP port 5353 and the group 224.0.0.251 there'],
  EPERM: ['a firewall or sandbox forbids it', 'allow UDP port 5353 and the group 224.0.0.251 there'],
  ENETUNREACH: ['there is no route for multicast', ADD_ROUTE],
  EHOSTUNREACH: [
    'there is no route for multicast, or the system does not let this program into the local network',
    `${ADD_ROUTE}; on macOS allow it under Privacy, Local Network`,
  ],
  ENETDOWN: ['the interface is down', 'bring it up'],
  ENODEV: ['the interface is gone, or knows no multicast', 'bring it up, with multicast on'],
  EADDRNOTAVAIL: ['the interface has lost this address', 'bring it up, with an address'],
  ENOBUFS: [
    'the system allows no more multicast groups',
    'raise the limit (sysctl net.ipv4.igmp_max_memberships)',
  ],
}

const probeCheck = (
  { interface: name, address, outcome, code = '' }: MulticastProbe,
  hasRoute: boolean,
): Check => {
  const check = { check: 'multicast', subject: name }
  const instead = ', name another interface with --interface, or name one node of the mesh with --seed'
  if (outcome === 'heard') {
    return { ...check, verdict: 'ok', text: `a packet sent on ${address} came back` }
  }
  if (outcome === 'silent') {
    const route = hasRoute ? '' : '; this host has no route for multicast (224.0.0.0/4) either'
    const text = `nodes are not found by mDNS on ${address}: a packet was sent and did not come back${route}`
    const remedy = `allow UDP port 5353 and the group 224.0.0.251 in the firewall${hasRoute ? '' : `, add a route (${routeFor(name)})`}${instead}`
    return { ...check, verdict: 'problem', text, remedy }
  }
  const [why, help] = FAILURES[code] ?? ['it cannot be sent', 'see whether the interface is up']
  const text = `nodes are not found by mDNS on ${address}: ${why} (${code})`
  return { ...check, verdict: 'problem', text, remedy: `${help}${instead}` }
}
