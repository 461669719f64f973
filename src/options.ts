import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { isEndpoint, parseEndpoint } from './discovery/discovery.ts'
import { SkeinError } from './errors.ts'
import type { Logger } from './observe/reports.ts'
import { MAX_HOSTS } from './protocol/control-frames.ts'
import { isId } from './protocol/header.ts'
import { isLoopback, isWildcard } from './transport/hosts.ts'

/** Bounds of memory and size. Peers refuse what is larger than their own limits, so raise them on every node. */
export interface Limits {
  /** Largest value of a publish. Default 16 MiB. */
  maxValueBytes: number
  /** Largest value of a request or reply. Default 1 MiB. */
  maxRequestBytes: number
  /** Messages that may wait to leave on the feed, and for one peer on another road. Default 16 MiB. */
  feedBytes: number
  /** Values above this go to each subscriber on the delivery road. Default 256 KiB. */
  feedValueBytes: number
  /** Topics whose sequences are remembered, most recent first. Default 65,536. */
  maxTopics: number
  /** Most that the journal takes on the disk, or in memory without a data directory. Default 1 GiB. */
  journalBytes: number
  /** Most that may be owed to one addressee: more is refused, so that who is away fills nobody else's disk. Default 256 MiB. */
  quotaBytes: number
  /** Dead letters that are kept; of more the oldest are dropped. Default 10,000. */
  maxDeadLetters: number
}

export interface DiscoveryOptions {
  /** Find nodes of this user on this host through small files: true, false, or the directory. Default true. */
  registry?: boolean | string
  /**
   * Find nodes of the local network by multicast DNS. Default: where the node listens beyond this host.
   * Nothing is printed and nothing fails where multicast does not work: a `warning` says so, the other sources go on.
   */
  mdns?: boolean
  /**
   * Control endpoints or names to ask, `tcp://10.0.0.5:7400` or `db.local:7400`, over and over: one that answers is
   * enough to find the whole mesh. Default none.
   */
  seeds?: readonly string[]
  /** Ask peers whom else they know. Default true. */
  gossip?: boolean
}

export interface NodeOptions {
  /** For people. Default: host name and process id. */
  name?: string
  /** 32 hex digits, unique in the mesh. Default: random at each start. */
  id?: string
  /** Nodes of other meshes are never seen. Default 'default'. */
  mesh?: string
  /** Listen beyond this host although nothing is authenticated. Default false: loopback only. */
  open?: boolean
  /**
   * Default true. A node that does not listen only dials: its publishes are handed to each subscriber directly, and
   * resolve when all have handled them.
   */
  listen?: boolean
  /** Address to listen on. Default 127.0.0.1; with `open` all of this host, or those of `interface`. */
  bind?: string
  /** Interface for listening and for multicast, by its name or an address of it. Default: all. */
  interface?: string
  /** First of three ports in a row: control, feed, delivery. Default 0: any free ones. */
  port?: number
  /** Addresses or names that peers are told to dial, where they are not those listened on: behind NAT, for example. */
  advertise?: string | readonly string[]
  discovery?: DiscoveryOptions
  /** Most that `createNode` waits for the nodes known at the start to answer, in ms. Default 500. */
  settleMs?: number
  /** How long a feed waits for a subscriber that is full before it goes on without it, in ms. Default 20. */
  patienceMs?: number
  /** How long a lost peer is remembered and dialled again, in ms. Default 60,000. */
  goneMs?: number
  /** Most that `close` waits for what is still to leave, in ms. Default 2000. */
  closeTimeoutMs?: number
  /** Most that a publish waits for room or for its subscribers to handle it, in ms. Default 30,000. */
  roomTimeoutMs?: number
  logger?: Logger
  limits?: Partial<Limits>
  /** Not in this version: a node that is given one refuses to start rather than to run unprotected. */
  secret?: string
  /**
   * Directory of this node alone, made if it is not there: its id and what it owes at least once live in it, across
   * restarts. Default: none; what is sent at least once is then kept in memory, and its receipts say so.
   */
  dataDir?: string
  /**
   * What a send at least once survives when it resolves: `disk` a power cut, `os` the end of the process, `memory`
   * neither. Default `disk` with a data directory, `memory` without.
   */
  durability?: 'disk' | 'os' | 'memory'
  /** Failures until a message becomes a dead letter. Default 8. */
  maxAttempts?: number
  /** How long a group is owed messages after a member was last seen, in ms. Default 7 days. */
  rememberMs?: number
}

export const DEFAULTS = {
  mesh: 'default',
  open: false,
  listen: true,
  port: 0,
  discovery: { registry: true, gossip: true },
  settleMs: 500,
  patienceMs: 20,
  goneMs: 60_000,
  closeTimeoutMs: 2000,
  roomTimeoutMs: 30_000,
  maxAttempts: 8,
  rememberMs: 7 * 24 * 3_600_000,
  limits: {
    maxValueBytes: 16 * 1024 * 1024,
    maxRequestBytes: 1024 * 1024,
    feedBytes: 16 * 1024 * 1024,
    feedValueBytes: 256 * 1024,
    maxTopics: 65_536,
    journalBytes: 1024 * 1024 * 1024,
    quotaBytes: 256 * 1024 * 1024,
    maxDeadLetters: 10_000,
  },
} as const

export interface ResolvedOptions {
  readonly name: string
  /** Undefined where the data directory knows it. */
  readonly id: string | undefined
  readonly dataDir: string | undefined
  readonly durability: 'disk' | 'os' | 'memory'
  readonly maxAttempts: number
  readonly rememberMs: number
  readonly mesh: string
  readonly listen: boolean
  readonly open: boolean
  readonly bind: string | undefined
  readonly interface: string | undefined
  readonly port: number
  readonly advertise: readonly string[] | undefined
  /** A directory, or undefined for the usual one; false for none. */
  readonly registry: string | undefined | false
  readonly mdns: boolean | undefined
  /** As `tcp://host:port`. */
  readonly seeds: readonly string[]
  readonly gossip: boolean
  readonly settleMs: number
  readonly patienceMs: number
  readonly goneMs: number
  readonly closeTimeoutMs: number
  readonly roomTimeoutMs: number
  readonly logger: Logger | undefined
  readonly limits: Limits
}

const KNOWN = new Set([
  ...[
    'name',
    'id',
    'mesh',
    'open',
    'listen',
    'bind',
    'interface',
    'port',
    'advertise',
    'discovery',
    'settleMs',
    'patienceMs',
  ],
  ...['goneMs', 'closeTimeoutMs', 'roomTimeoutMs', 'logger', 'limits', 'secret', 'dataDir'],
  ...['durability', 'maxAttempts', 'rememberMs'],
])

/** Two more are used after it. */
const LAST_PORT = 65_533

const SOURCES = new Set(['registry', 'mdns', 'seeds', 'gossip'])

/** Checks every option and fills in the defaults. @throws SkeinError OPTION_INVALID, NOT_SUPPORTED */
export const resolveOptions = (options: NodeOptions): ResolvedOptions => {
  if (typeof options !== 'object' || options === null)
    throw invalid('options', `${String(options)} was given`, 'an object is taken')
  for (const key of Object.keys(options)) {
    if (!KNOWN.has(key)) throw invalid(key, 'is not an option', `known are ${[...KNOWN].join(', ')}`)
  }
  if (options.secret !== undefined)
    throw unsupported('secret', 'this version cannot authenticate; leave it out to stay on this host')
  const discovery = options.discovery ?? {}
  for (const key of Object.keys(discovery)) {
    if (!SOURCES.has(key))
      throw invalid(`discovery.${key}`, 'is not an option', `known are ${[...SOURCES].join(', ')}`)
  }
  const open = boolean('open', options.open ?? DEFAULTS.open)
  const listen = boolean('listen', options.listen ?? DEFAULTS.listen)
  const bind = options.bind === undefined ? undefined : hostText('bind', options.bind)
  if (!open && bind !== undefined) assertClosed('bind', bind)
  const seeds = seedsOf(discovery.seeds ?? [])
  // They could never reach it, and would report it as one-way; nor does anything show that they are who they should be.
  if (!open) for (const { seed, host } of seeds) assertClosed('discovery.seeds', host, seed)
  const { id } = options
  if (id !== undefined && !isId(id))
    throw invalid('id', `'${String(id)}' is not an id`, 'it has 32 lower-case hex digits')
  const port = options.port ?? DEFAULTS.port
  if (!Number.isInteger(port) || port < 0 || port > LAST_PORT)
    throw invalid(
      'port',
      `${shown(port)} is not a port`,
      'a number is: 0 for any, or 1 to 65533, because three in a row are used, from this one on',
    )
  return {
    name: text('name', options.name ?? `${hostname()}-${process.pid}`),
    id,
    dataDir: options.dataDir === undefined ? undefined : path('dataDir', options.dataDir),
    durability: durabilityOf(options.durability, options.dataDir),
    maxAttempts: count('maxAttempts', options.maxAttempts ?? DEFAULTS.maxAttempts),
    rememberMs: duration('rememberMs', options.rememberMs ?? DEFAULTS.rememberMs),
    mesh: text('mesh', options.mesh ?? DEFAULTS.mesh),
    listen,
    open,
    bind,
    interface: options.interface === undefined ? undefined : text('interface', options.interface),
    port,
    advertise: options.advertise === undefined ? undefined : advertiseOf(options.advertise),
    registry: registryOf(discovery.registry ?? DEFAULTS.discovery.registry),
    mdns: discovery.mdns === undefined ? undefined : boolean('discovery.mdns', discovery.mdns),
    seeds: seeds.map(({ seed }) => seed),
    gossip: boolean('discovery.gossip', discovery.gossip ?? DEFAULTS.discovery.gossip),
    settleMs: duration('settleMs', options.settleMs ?? DEFAULTS.settleMs),
    patienceMs: duration('patienceMs', options.patienceMs ?? DEFAULTS.patienceMs),
    goneMs: duration('goneMs', options.goneMs ?? DEFAULTS.goneMs),
    closeTimeoutMs: duration('closeTimeoutMs', options.closeTimeoutMs ?? DEFAULTS.closeTimeoutMs),
    roomTimeoutMs: duration('roomTimeoutMs', options.roomTimeoutMs ?? DEFAULTS.roomTimeoutMs),
    logger: options.logger,
    limits: limitsOf(options.limits ?? {}),
  }
}

const limitsOf = (limits: Partial<Limits>): Limits => {
  const resolved: Limits = { ...DEFAULTS.limits }
  for (const [key, value] of Object.entries(limits)) {
    if (!(key in resolved))
      throw invalid(`limits.${key}`, 'is not a limit', `known are ${Object.keys(resolved).join(', ')}`)
    if (!Number.isSafeInteger(value) || value <= 0)
      throw invalid(`limits.${key}`, `${shown(value)} is not a limit`, 'a positive whole number is')
    resolved[key as keyof Limits] = value
  }
  if (resolved.feedValueBytes > DEFAULTS.limits.feedValueBytes) {
    throw invalid(
      'limits.feedValueBytes',
      `${resolved.feedValueBytes} is too much`,
      `at most ${DEFAULTS.limits.feedValueBytes}, or a stopped subscriber could hold more than feedBytes`,
    )
  }
  return resolved
}

const durabilityOf = (value: unknown, dataDir: string | undefined): 'disk' | 'os' | 'memory' => {
  const durability = value ?? (dataDir === undefined ? 'memory' : 'disk')
  if (durability !== 'disk' && durability !== 'os' && durability !== 'memory')
    throw invalid('durability', `${shown(durability)} is not one`, "'disk', 'os' and 'memory' are")
  if (durability !== 'memory' && dataDir === undefined)
    throw invalid('durability', `'${durability}' needs files`, "name a directory of this node in 'dataDir'")
  return durability
}

const path = (option: string, value: unknown): string => {
  if (typeof value === 'string' && value.length > 0 && !value.includes('\0')) return value
  throw invalid(option, `${JSON.stringify(value) ?? String(value)} is no path`, 'a text is')
}

const registryOf = (registry: unknown): string | undefined | false => {
  if (registry === true) return undefined
  if (registry === false) return false
  return text('discovery.registry', registry)
}

/** Refuses what reaches beyond this host where that was not spelled out (G8). */
export const assertClosed = (option: string, host: string, named: string = host): void => {
  if (isLoopback(host)) return
  throw invalid(
    option,
    `'${named}' is beyond this host`,
    "this version authenticates nobody: set 'open: true' if that is meant",
  )
}

const hostText = (option: string, value: unknown): string => {
  const host = text(option, value)
  if (isWildcard(host) || isIP(host) !== 0 || isEndpoint(`tcp://${host}:1`)) return host
  throw invalid(option, `'${host}' is no address or host name`, 'write 10.0.0.5, fe80::1 or db.local')
}

const advertiseOf = (value: unknown): string[] => {
  const hosts: unknown[] = Array.isArray(value) ? value : [value]
  if (hosts.length === 0 || hosts.length > MAX_HOSTS)
    throw invalid('advertise', `it has ${hosts.length} entries`, `1 to ${MAX_HOSTS} are told to others`)
  return hosts.map((host) => {
    const checked = hostText('advertise', host)
    if (!isWildcard(checked)) return checked
    throw invalid('advertise', `'${checked}' cannot be dialled`, 'name an address that others reach')
  })
}

const seedsOf = (value: unknown): { seed: string; host: string }[] => {
  if (!Array.isArray(value)) throw invalid('discovery.seeds', `${shown(value)} is no list`, 'an array is')
  return value.map((each) => {
    const written = text('discovery.seeds', each)
    const seed = written.includes('://') ? written : `tcp://${written}`
    const parsed = parseEndpoint(seed)
    if (parsed !== undefined) return { seed, host: parsed.host }
    throw invalid(
      'discovery.seeds',
      `'${written}' is no endpoint`,
      'write tcp://host:port, [ipv6]:port or name:port',
    )
  })
}

/** Checks a time to wait, in ms. */
export const duration = (option: string, value: unknown): number => {
  if (typeof value === 'number' && value >= 0 && value <= 2_147_483_647) return value
  throw invalid(option, `${shown(value)} is not a time`, 'a number of milliseconds from 0 to 2147483647 is')
}

/** Checks a time that a message waits or lives, in ms: up to a century. */
export const span = (option: string, value: unknown): number => {
  if (typeof value === 'number' && value >= 0 && value <= 3_155_760_000_000) return value
  throw invalid(option, `${String(value)} is not a time`, 'milliseconds from 0 on are')
}

/** Checks a short text. */
export const shortText = (option: string, value: unknown): string => text(option, value)

/** Checks a number of things. */
export const count = (option: string, value: unknown, least = 1): number => {
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number
  throw invalid(option, `${shown(value)} is not a count`, `whole numbers from ${least} on are`)
}

const text = (option: string, value: unknown): string => {
  if (
    typeof value === 'string' &&
    value.length > 0 &&
    Buffer.byteLength(value) <= 255 &&
    value.isWellFormed()
  )
    return value
  throw invalid(
    option,
    `${JSON.stringify(value) ?? String(value)} cannot be used`,
    'a text of 1 to 255 bytes can',
  )
}

/** Checks a choice. */
export const boolean = (option: string, value: unknown): boolean => {
  if (typeof value === 'boolean') return value
  throw invalid(option, `${shown(value)} is not a choice`, 'true or false are')
}

/** As it would be written in a program: a text that looks like a number is told from one. */
const shown = (value: unknown): string => (typeof value === 'string' ? `'${value}' (a text)` : String(value))

export const invalid = (option: string, what: string, rule: string): SkeinError =>
  new SkeinError('OPTION_INVALID', `option '${option}': ${what}; ${rule}`)

const unsupported = (option: string, rule: string): SkeinError =>
  new SkeinError('NOT_SUPPORTED', `option '${option}' is not supported yet; ${rule}`)
