import { isIP } from 'node:net'
import { SkeinError } from '../../errors.ts'
import { Chance } from '../chance.ts'
import type { VirtualClock } from '../virtual-clock.ts'
import type { Conditions } from './conditions.ts'
import { canonical, isLoopback, type Machine } from './machine.ts'
import type { Road } from './pipe.ts'

/** Idle 15 s, then three probes 5 s apart: after so long TCP keepalive ends a connection that nothing gets through. */
const KEEPALIVE_MS = 30_000

const CALM: Conditions = { latencyMs: [0.1, 0.5], drop: 0, reorder: 0, reset: 0 }
const WITHIN_HOST: Conditions = { ...CALM, latencyMs: [0.02, 0.05] }

/** Something that happened on the network. */
export interface Happening {
  /** Virtual time. */
  readonly atMs: number
  readonly what:
    | 'connected'
    | 'refused'
    | 'arrived'
    | 'dropped'
    | 'held back'
    | 'reset'
    | 'frame too large'
    | 'timed out'
    | 'closed'
  readonly road: Road
  /** Names of hosts: who sent, or who dialled. */
  readonly from: string
  readonly to: string
  /** Of a batch. */
  readonly bytes: number
}

/** Counts since the network was made. */
export interface NetworkStats {
  /** Connections that stand now. */
  connections: number
  connects: number
  refused: number
  /** Batches that arrived, and their bytes. */
  batches: number
  bytes: number
  dropped: number
  heldBack: number
  /** Connections that broke, for whatever reason but that an end was closed. */
  resets: number
  /** Batches that were under way on those. */
  lost: number
}

/** A connection as the network sees it. */
export interface Connection {
  readonly near: Machine
  readonly far: Machine
  /** Since when an address of it belongs to nobody. */
  severedAt: number | undefined
  /** Marks it as severed if one of its addresses is gone. */
  readdress(): void
  break(why: 'reset' | 'timed out'): void
}

/** A direction of a connection that waits for its path to open again. */
export interface Stuck {
  readonly isOpen: boolean
  retry(): void
}

/** What lies between machines: who has which address, which packets get through, and how long they take. */
export class Fabric {
  readonly clock: VirtualClock
  readonly chance: Chance
  readonly connections = new Set<Connection>()
  readonly stuck = new Set<Stuck>()
  readonly names = new Map<string, readonly string[]>()
  readonly counts: Omit<NetworkStats, 'connections'> = {
    connects: 0,
    refused: 0,
    batches: 0,
    bytes: 0,
    dropped: 0,
    heldBack: 0,
    resets: 0,
    lost: 0,
  }
  readonly #trace: ((happening: Happening) => void) | undefined
  readonly machines = new Set<Machine>()
  readonly #byAddress = new Map<string, Machine>()
  #conditions: Conditions
  readonly #links = new Map<Machine, Map<Machine, Partial<Conditions>>>()
  #routes = 0

  constructor(
    clock: VirtualClock,
    seed: number,
    conditions: Partial<Conditions>,
    trace: ((happening: Happening) => void) | undefined,
  ) {
    this.clock = clock
    this.chance = new Chance(seed)
    this.#conditions = checked({ ...CALM, ...conditions })
    this.#trace = trace
  }

  /** Another name for the connection, never used before. */
  nextRoute(): string {
    return (++this.#routes).toString(36)
  }

  /** The next address that no machine has. */
  freeAddress(): string {
    for (let number = this.machines.size + 1; ; number++) {
      const address = `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`
      if (!this.#byAddress.has(address)) return address
    }
  }

  /** Gives a machine these addresses instead of those that it has. */
  address(machine: Machine, addresses: readonly string[]): void {
    for (const address of addresses) {
      const holder = this.#byAddress.get(address)
      if (isIP(address) === 0 || isLoopback(address) || canonical(address) !== address)
        throw new SkeinError(
          'OPTION_INVALID',
          `host '${machine.name}': '${address}' is no address that a host can have`,
        )
      if (holder !== undefined && holder !== machine)
        throw new SkeinError(
          'OPTION_INVALID',
          `host '${machine.name}': host '${holder.name}' has address '${address}'`,
        )
    }
    for (const address of machine.addresses) this.#byAddress.delete(address)
    for (const address of addresses) this.#byAddress.set(address, machine)
    machine.addresses = [...addresses]
    if (!this.machines.has(machine)) {
      this.machines.add(machine)
      return
    }
    for (const connection of this.connections) connection.readdress()
    this.watch()
    this.opened()
  }

  /** The machine behind a host or address, as seen from another. */
  find(from: Machine, host: string): { machine: Machine; address: string } | undefined {
    const own = canonical(host)
    if (isLoopback(own)) return { machine: from, address: own }
    const address = isIP(host) === 0 ? this.names.get(host)?.[0] : host
    const machine = address === undefined ? undefined : this.#byAddress.get(address)
    return machine === undefined ? undefined : { machine, address: address! }
  }

  isOpen(from: Machine, to: Machine): boolean {
    if (from === to) return true
    return (
      from.downAt === undefined && to.downAt === undefined && from.addresses.length > 0 && !from.cutTo.has(to)
    )
  }

  conditions(from: Machine, to: Machine): Conditions {
    if (from === to) return WITHIN_HOST
    return from.linkTo.get(to) ?? this.#conditions
  }

  /** How long one packet takes. */
  delay(from: Machine, to: Machine): number {
    const { latencyMs } = this.conditions(from, to)
    return typeof latencyMs === 'number' ? latencyMs : this.chance.between(latencyMs[0], latencyMs[1])
  }

  /** Changes some of the conditions, everywhere where they are not set for a link of its own. */
  change(conditions: Partial<Conditions>): void {
    this.#conditions = checked({ ...this.#conditions, ...conditions })
    for (const [from, links] of this.#links) {
      for (const [to, own] of links) from.linkTo.set(to, { ...this.#conditions, ...own })
    }
  }

  /** The same in one direction between two machines. */
  changeLink(from: Machine, to: Machine, conditions: Partial<Conditions>): void {
    const links = this.#links.get(from) ?? new Map<Machine, Partial<Conditions>>()
    const own = { ...links.get(to), ...conditions }
    from.linkTo.set(to, checked({ ...this.#conditions, ...own }))
    this.#links.set(from, links.set(to, own))
  }

  /** Cuts paths, and breaks those connections on which nothing gets through for too long. */
  cut(from: Iterable<Machine>, to: Iterable<Machine>): void {
    const now = this.clock.now()
    const others = [...to]
    for (const machine of from) {
      for (const other of others)
        if (machine !== other && !machine.cutTo.has(other)) machine.cutTo.set(other, now)
    }
    this.watch()
  }

  /** A path may be open again: what is stuck is sent once more. */
  opened(): void {
    for (const stuck of [...this.stuck]) {
      if (!stuck.isOpen) continue
      this.stuck.delete(stuck)
      stuck.retry()
    }
  }

  happened(what: Happening['what'], road: Road, from: Machine, to: Machine, bytes = 0): void {
    const { counts } = this
    if (what === 'arrived') {
      counts.batches++
      counts.bytes += bytes
    } else if (what === 'dropped') counts.dropped++
    else if (what === 'held back') counts.heldBack++
    else if (what === 'connected') counts.connects++
    else if (what === 'refused') counts.refused++
    else if (what !== 'closed') counts.resets++
    this.#trace?.({ atMs: this.clock.now(), what, road, from: from.name, to: to.name, bytes })
  }

  /** Some connections may have fallen silent: those that still are when that has been too long are broken. */
  watch(): void {
    this.clock.after(KEEPALIVE_MS, () => {
      for (const connection of [...this.connections]) {
        const since = this.#silentSince(connection)
        // A millisecond less, because sums of such numbers are not exact.
        if (since !== undefined && this.clock.now() - since > KEEPALIVE_MS - 1) connection.break('timed out')
      }
    })
  }

  #silentSince({ near, far, severedAt }: Connection): number | undefined {
    if (near === far) return severedAt
    const since = [near.downAt, far.downAt, near.cutTo.get(far), far.cutTo.get(near), severedAt]
    return since.reduce((a, b) => (a === undefined ? b : b === undefined ? a : Math.min(a, b)), undefined)
  }
}

const checked = (conditions: Conditions): Conditions => {
  const { latencyMs, drop, reorder, reset } = conditions
  const [least, most] = typeof latencyMs === 'number' ? [latencyMs, latencyMs] : latencyMs
  if (!(least >= 0 && most >= least && most < Number.POSITIVE_INFINITY))
    throw new SkeinError(
      'OPTION_INVALID',
      `latencyMs is [${least}, ${most}]: it is a duration or a range of them`,
    )
  for (const [name, value] of Object.entries({ drop, reorder, reset })) {
    if (!(value >= 0 && value <= 1))
      throw new SkeinError('OPTION_INVALID', `${name} is ${value}: it is a probability, from 0 to 1`)
  }
  return conditions
}
