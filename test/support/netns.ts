import { execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { promisify } from 'node:util'
import { MEMBER, Member } from './processes.ts'

const PREFIX = 'skein'
const NAMESPACES = '/run/netns'

const run = promisify(execFile)
const ip = (...args: string[]): Promise<unknown> => run('ip', args)
const tc = (...args: string[]): Promise<unknown> => run('tc', args)

/** Namespaces of this process that stand: whoever fails to close a lab must not leave it to the machine. */
const standing = new Set<string>()
let labs = 0

process.on('exit', () => {
  for (const namespace of standing) spawnSync('ip', ['netns', 'delete', namespace])
})

/** Whether a process of this id, which made namespaces, still lives. */
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

/** What processes that were killed have left behind. */
const sweep = async (): Promise<void> => {
  const names = existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : []
  const stale = names.filter((name) => {
    const [prefix, pid] = name.split('-')
    return prefix === PREFIX && /^\d+$/.test(pid ?? '') && !isAlive(Number(pid))
  })
  await Promise.all(stale.map((name) => ip('netns', 'delete', name).catch(() => {})))
}

const DROP = 2
const PASS = 0xffff_ffff

/**
 * What a filter drops, as classic BPF (code, jump if true, jump if false, operand) on the whole Ethernet frame: so no
 * firewall has to be installed.
 */
type Dropped = readonly (readonly [code: number, ifTrue: number, ifFalse: number, operand: number])[]

/** The first packet of each TCP connection, SYN without ACK, by IPv4 and IPv6. */
const CONNECTIONS: Dropped = [
  [0x28, 0, 0, 12],
  [0x15, 0, 5, 0x0800],
  [0x30, 0, 0, 23],
  [0x15, 0, 9, 6],
  [0xb1, 0, 0, 14],
  [0x50, 0, 0, 14 + 13],
  [0x05, 0, 0, 4],
  [0x15, 0, 5, 0x86dd],
  [0x30, 0, 0, 14 + 6],
  [0x15, 0, 3, 6],
  [0x30, 0, 0, 14 + 40 + 13],
  [0x54, 0, 0, 0x12],
  [0x15, 1, 0, 0x02],
  [0x06, 0, 0, PASS],
  [0x06, 0, 0, DROP],
]

/** Multicast of IPv4. That of IPv6 is left alone, without which no neighbour would be found there. */
const MULTICAST: Dropped = [
  [0x28, 0, 0, 0],
  [0x15, 0, 1, 0x0100],
  [0x06, 0, 0, DROP],
  [0x06, 0, 0, PASS],
]

const dropping = (program: Dropped): string[] => {
  const bytecode = [program.length, ...program.map((step) => step.join(' '))].join(',')
  return ['bpf', 'direct-action', 'bytecode', bytecode]
}

/**
 * Why no networks can be made here, or undefined. Only root may, and not in every container, so what is needed is
 * tried.
 */
export const whyNoNetworks = (): string | undefined => {
  if (process.platform !== 'linux') return `network namespaces are of Linux, and this is ${process.platform}`
  if (process.getuid?.() !== 0) return 'only root can make network namespaces'
  const namespace = `${PREFIX}-${process.pid}-trial`
  const steps = [
    ['ip', 'netns', 'add', namespace],
    ['ip', '-n', namespace, 'link', 'add', 'switch', 'type', 'bridge'],
    ['ip', '-n', namespace, 'link', 'add', 'port', 'type', 'veth', 'peer', 'name', 'eth0'],
    ['tc', '-n', namespace, 'qdisc', 'add', 'dev', 'eth0', 'clsact'],
    ['tc', '-n', namespace, 'filter', 'add', 'dev', 'eth0', 'ingress', ...dropping(CONNECTIONS)],
  ]
  try {
    for (const [command = '', ...args] of steps) {
      const { error, status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
      if (error !== undefined || status !== 0)
        return `'${[command, ...args.slice(0, 7)].join(' ')}' fails: ${error?.message ?? stderr.trim()}`
    }
    return undefined
  } finally {
    spawnSync('ip', ['netns', 'delete', namespace])
  }
}

export interface LanOptions {
  /** Default true. */
  readonly ipv4?: boolean
  readonly ipv6?: boolean
  /** The switch hands on no multicast, and tells nobody. */
  readonly blocksMulticast?: boolean
}

/**
 * Networks of namespaces, apart from the one of this machine: each switch is a bridge in a namespace of its own, each
 * host another namespace with a cable to each of its switches.
 */
export class Lab {
  readonly #id: number
  readonly #namespaces = new Set<string>()
  readonly #members = new Set<Member>()
  #lans = 0
  #hosts = 0

  private constructor(id: number) {
    this.#id = id
  }

  /** A lab that ends with the test, whose `onTestFinished` is given. */
  static async open(atEnd: (close: () => Promise<void>) => void): Promise<Lab> {
    const lab = new Lab(++labs)
    atEnd(() => lab.close())
    if (lab.#id === 1) await sweep()
    return lab
  }

  async lan(options: LanOptions = {}): Promise<Lan> {
    const number = ++this.#lans
    const namespace = await this.#namespace(`lan${number}`)
    await ip('-n', namespace, 'link', 'add', 'switch', 'type', 'bridge')
    await ip('-n', namespace, 'link', 'set', 'switch', 'up')
    return new Lan(number, namespace, options)
  }

  /** A host with an interface in each of these networks: eth0, eth1 and so on. */
  async host(...lans: readonly Lan[]): Promise<Host> {
    const number = ++this.#hosts
    const namespace = await this.#namespace(`host${number}`)
    await ip('-n', namespace, 'link', 'set', 'lo', 'up')
    const settings = '/proc/sys/net/ipv4/conf/all'
    // Linux would answer for the addresses of its other interfaces, too, and so make two networks one; and with the
    // first address of an interface it would drop the others.
    const set = `echo 1 > ${settings}/arp_ignore; echo 1 > ${settings}/promote_secondaries`
    await ip('netns', 'exec', namespace, 'sh', '-e', '-c', set)
    const host = new Host(number, namespace, this.#members)
    for (const lan of lans) await host.join(lan)
    return host
  }

  async close(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.kill('SIGKILL')))
    for (const namespace of this.#namespaces) {
      await ip('netns', 'delete', namespace)
      standing.delete(namespace)
    }
    this.#namespaces.clear()
  }

  async #namespace(name: string): Promise<string> {
    const namespace = `${PREFIX}-${process.pid}-${this.#id}-${name}`
    standing.add(namespace)
    this.#namespaces.add(namespace)
    await ip('netns', 'add', namespace)
    return namespace
  }
}

/** One switch, and the addresses that belong to it. */
export class Lan {
  readonly namespace: string
  readonly options: LanOptions
  readonly #number: number

  constructor(number: number, namespace: string, options: LanOptions) {
    this.#number = number
    this.namespace = namespace
    this.options = options
  }

  ipv4(host: number): string {
    return `10.77.${this.#number}.${host}`
  }

  ipv6(host: number): string {
    return `fd00:77:${this.#number}::${host}`
  }
}

/** One end of a cable: an interface of a host, and the port of a switch that it leads to. */
interface Cable {
  readonly lan: Lan
  readonly port: string
}

/** A machine of its own, as far as the network is concerned. */
export class Host {
  readonly #number: number
  readonly #namespace: string
  readonly #members: Set<Member>
  readonly #cables: Cable[] = []

  constructor(number: number, namespace: string, members: Set<Member>) {
    this.#number = number
    this.#namespace = namespace
    this.#members = members
  }

  /** Its address in its first network, or in another one. */
  ipv4(at = 0): string {
    return this.#cables[at]!.lan.ipv4(this.#number)
  }

  ipv6(at = 0): string {
    return this.#cables[at]!.lan.ipv6(this.#number)
  }

  /** Gets one more interface, with the addresses of this network. */
  async join(lan: Lan): Promise<void> {
    const device = `eth${this.#cables.length}`
    const port = `host${this.#number}${device}`
    this.#cables.push({ lan, port })
    const { ipv4 = true, ipv6 = false, blocksMulticast = false } = lan.options
    const peer = ['peer', 'name', device, 'netns', this.#namespace]
    await ip('-n', lan.namespace, 'link', 'add', port, 'type', 'veth', ...peer)
    if (blocksMulticast) await filter(lan.namespace, port, MULTICAST)
    await ip('-n', lan.namespace, 'link', 'set', port, 'master', 'switch', 'up')
    await ip('-n', this.#namespace, 'link', 'set', device, 'up')
    if (ipv4) await this.addAddress(`${lan.ipv4(this.#number)}/24`, device)
    if (ipv6) await this.addAddress(`${lan.ipv6(this.#number)}/64`, device)
  }

  async addAddress(address: string, device = 'eth0'): Promise<void> {
    const options = address.includes(':') ? ['nodad'] : []
    await ip('-n', this.#namespace, 'address', 'add', address, 'dev', device, ...options)
  }

  async removeAddress(address: string, device = 'eth0'): Promise<void> {
    await ip('-n', this.#namespace, 'address', 'delete', address, 'dev', device)
  }

  /** Everything that it knows no better way for goes by this interface: and is lost there, for nobody hands it on. */
  async defaultRoute(device: string): Promise<void> {
    await ip('-n', this.#namespace, 'route', 'add', 'default', 'dev', device)
  }

  /** The switch hands on nothing any more to or from it, and no host is told. */
  async cut(at = 0): Promise<void> {
    const { lan, port } = this.#cables[at]!
    await ip('-n', lan.namespace, 'link', 'set', port, 'nomaster')
  }

  async mend(at = 0): Promise<void> {
    const { lan, port } = this.#cables[at]!
    await ip('-n', lan.namespace, 'link', 'set', port, 'master', 'switch')
  }

  /** Its cable is pulled: it sees that the interface is dead, the others see nothing. */
  async unplug(at = 0): Promise<void> {
    const { lan, port } = this.#cables[at]!
    await ip('-n', lan.namespace, 'link', 'set', port, 'down')
  }

  async plug(at = 0): Promise<void> {
    const { lan, port } = this.#cables[at]!
    await ip('-n', lan.namespace, 'link', 'set', port, 'up')
  }

  /** From now on its firewall drops every attempt to connect to it; what it connects to itself works. */
  async refuseConnections(): Promise<void> {
    for (const at of this.#cables.keys()) await filter(this.#namespace, `eth${at}`, CONNECTIONS)
  }

  async admitConnections(): Promise<void> {
    for (const at of this.#cables.keys())
      await tc('-n', this.#namespace, 'qdisc', 'del', 'dev', `eth${at}`, 'clsact')
  }

  /** How `ip` is told to run a command on it. */
  inside(...command: readonly string[]): string[] {
    return ['netns', 'exec', this.#namespace, ...command]
  }

  /** A process on it whose node is not started yet: see test/support/children/member.js. */
  member(): Member {
    return new Member(
      spawn('ip', this.inside(process.execPath, MEMBER), { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] }),
      this.#members,
    )
  }
}

const filter = async (namespace: string, device: string, dropped: Dropped): Promise<void> => {
  await tc('-n', namespace, 'qdisc', 'add', 'dev', device, 'clsact')
  await tc('-n', namespace, 'filter', 'add', 'dev', device, 'ingress', ...dropping(dropped))
}
