import { isIPv6 } from 'node:net'
import type { Task } from '../schedule.ts'
import type { HostAddress } from '../transport.ts'
import type { Conditions } from './conditions.ts'
import type { Line, LineEnd, Road } from './pipe.ts'

const FIRST_EPHEMERAL_PORT = 49_152
const LAST_PORT = 65_535

const LOOPBACK: readonly HostAddress[] = [
  { interface: 'lo', address: '127.0.0.1', family: 'IPv4', internal: true },
  { interface: 'lo', address: '::1', family: 'IPv6', internal: true },
]

/** A socket that listens. */
export interface Listening {
  readonly road: Road
  /** Somebody has connected; the answer takes what comes, and learns when the connection is gone. */
  accept(line: Line): LineEnd
}

/** What a machine's network card and kernel know: addresses, ports, and to whom no packet passes. */
export class Machine {
  readonly name: string
  addresses: readonly string[]
  /** Since when its cable is out. */
  downAt: number | undefined
  /** Machines that its packets do not reach, and since when. */
  readonly cutTo = new Map<Machine, number>()
  /** Where the conditions differ from those of the network. */
  readonly linkTo = new Map<Machine, Conditions>()
  /** While its processes do not read: who goes on when they do. */
  paused: Set<Task> | undefined
  readonly #bound = new Map<number, { readonly address: string; readonly listening: Listening }[]>()
  #nextPort = FIRST_EPHEMERAL_PORT

  constructor(name: string, addresses: readonly string[]) {
    this.name = name
    this.addresses = addresses
  }

  /** As `os.networkInterfaces()` has them, which leaves out a card without a cable. */
  hostAddresses(): HostAddress[] {
    const addresses = this.downAt === undefined ? this.addresses : []
    return [
      ...LOOPBACK,
      ...addresses.map((address, index) => ({
        interface: `eth${index}`,
        address,
        family: isIPv6(address) ? ('IPv6' as const) : ('IPv4' as const),
        internal: false,
      })),
    ]
  }

  hasAddress(address: string): boolean {
    return isLoopback(address) || this.addresses.includes(address)
  }

  /** The address to bind for a host, an interface or a wildcard; undefined if this machine has none like it. */
  bindable(host: string): string | undefined {
    if (host === '*' || host === '0.0.0.0') return '0.0.0.0'
    if (host === '::') return host
    if (isLoopback(host)) return canonical(host)
    if (this.addresses.includes(host)) return host
    return this.hostAddresses().find((each) => each.interface === host)?.address
  }

  isTaken(address: string, port: number): boolean {
    return (this.#bound.get(port) ?? []).some(
      (other) => covers(other.address, address) || covers(address, other.address),
    )
  }

  /** An ephemeral port that is free on this address; 0 if none is. */
  freePort(address: string): number {
    for (let tries = FIRST_EPHEMERAL_PORT; tries <= LAST_PORT; tries++) {
      const port = this.#nextPort
      this.#nextPort = port === LAST_PORT ? FIRST_EPHEMERAL_PORT : port + 1
      if (!this.isTaken(address, port)) return port
    }
    return 0
  }

  bind(address: string, port: number, listening: Listening): void {
    const others = this.#bound.get(port)
    if (others === undefined) this.#bound.set(port, [{ address, listening }])
    else others.push({ address, listening })
  }

  unbind(port: number, listening: Listening): void {
    const others = this.#bound.get(port)?.filter((each) => each.listening !== listening) ?? []
    if (others.length === 0) this.#bound.delete(port)
    else this.#bound.set(port, others)
  }

  /** Who listens on this address and port. */
  listener(address: string, port: number): Listening | undefined {
    return this.#bound.get(port)?.find((each) => covers(each.address, address))?.listening
  }
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || host.startsWith('127.')

/** The address that a name of this very machine stands for. */
export const canonical = (host: string): string =>
  host === 'localhost' || host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host

/** Whether who is bound to one address is reached by another. */
const covers = (bound: string, wanted: string): boolean =>
  bound === wanted || bound === '::' || (bound === '0.0.0.0' && !isIPv6(wanted))
