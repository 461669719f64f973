import { SkeinError } from '../errors.ts'
import type { Conditions } from './memory/conditions.ts'
import { Fabric, type Happening, type NetworkStats } from './memory/fabric.ts'
import { MemoryHost } from './memory/host.ts'
import { Machine } from './memory/machine.ts'
import type { MemoryTransportOptions } from './memory/memory-transport.ts'
import { VirtualClock } from './virtual-clock.ts'

export type { Conditions, Happening, MemoryTransportOptions, NetworkStats }
export { MemoryHost }

export interface MemoryNetworkOptions extends Partial<Conditions> {
  /** Of all chance. The same seed and the same program are the same history. Default 1. */
  seed?: number
  /** What clocks on the wall show at first, in milliseconds since 1970. Default the first second of 2026, UTC. */
  wallMs?: number
  /** Called with everything that happens, in its order. */
  trace?: (happening: Happening) => void
}

/** One host or several. */
export type Hosts = MemoryHost | readonly MemoryHost[]

export interface Direction {
  /** Only what the first send to the second, and not the answers. Default false. */
  oneWay?: boolean
}

/**
 * A network in memory: any number of hosts, time that passes only when it is told to, and faults at will. What nodes
 * see is what ZeroMQ over TCP shows them: queues of 64 batches that fill up, connections that break, lose what was under
 * way and are dialled again, partitions that at first are mere silence.
 *
 * @example
 * const network = new MemoryNetwork({ seed: 7, latencyMs: [0.1, 2] })
 * const [a, b] = [network.host(), network.host()]
 * network.change({ drop: 0.01 })            // from now on one batch in a hundred is lost, everywhere
 * network.partition(a, b)                   // silence; after 30 s their connections break
 * await network.clock.advance(5000)
 * network.heal()                            // what was sent meanwhile arrives, late
 * network.reset(a)                          // every connection of a breaks, and is dialled again
 */
export class MemoryNetwork {
  readonly clock: VirtualClock
  /** What host names stand for: names.set('db.local', ['10.0.0.2']). */
  readonly names: Map<string, readonly string[]>
  readonly #fabric: Fabric
  readonly #machines = new Map<MemoryHost, Machine>()

  constructor(options: MemoryNetworkOptions = {}) {
    const { seed = 1, wallMs, trace, ...conditions } = options
    checkConditions(conditions)
    if (!Number.isSafeInteger(seed)) throw invalid('seed', seed, 'a whole number is')
    this.clock = new VirtualClock({ seed, ...(wallMs === undefined ? {} : { wallMs }) })
    // Chance of its own: how often nodes ask the clock for some changes no fault.
    this.#fabric = new Fabric(this.clock, ~seed, conditions, trace)
    this.names = this.#fabric.names
  }

  /**
   * Another host, with these addresses or one that no other has. Ports are its own; within it nothing fails.
   *
   * @throws SkeinError OPTION_INVALID for what is no address, or has a host already
   */
  host(...addresses: string[]): MemoryHost {
    if (addresses.length === 0) addresses = [this.#fabric.freeAddress()]
    const machine = new Machine(addresses[0]!, [])
    this.#fabric.address(machine, addresses)
    const host = new MemoryHost(this.#fabric, machine)
    this.#machines.set(host, machine)
    return host
  }

  /**
   * Changes what befalls batches from now on: everywhere, or between some hosts, where it then holds whatever is
   * changed everywhere later.
   *
   * @example
   * network.change({ latencyMs: [80, 120], drop: 0.02 }, europe, america)
   */
  change(conditions: Partial<Conditions>, from?: Hosts, to?: Hosts, direction: Direction = {}): void {
    checkConditions(conditions)
    if (from === undefined) this.#fabric.change(conditions)
    else this.#each(from, to, direction, (a, b) => this.#fabric.changeLink(a, b, conditions))
  }

  /**
   * Cuts hosts off from others, or from all others: packets vanish, and nobody is told. A connection that nothing got
   * through for 30 s breaks; one that is healed before goes on where it was.
   */
  partition(from: Hosts, to?: Hosts, direction: Direction = {}): void {
    const these = this.#of(from)
    const others = to === undefined ? [...this.#of()].filter((machine) => !these.has(machine)) : this.#of(to)
    this.#fabric.cut(these, others)
    if (direction.oneWay !== true) this.#fabric.cut(others, these)
  }

  /** Ends partitions: all, those of some hosts, or those between some and others. */
  heal(from?: Hosts, to?: Hosts): void {
    this.#each(from, to, {}, (a, b) => a.cutTo.delete(b))
    this.#fabric.opened()
  }

  /**
   * Breaks connections, as a firewall that has forgotten them does: all, those of some hosts, or those between some and
   * others. What was under way is lost, and they are dialled again after 100 ms.
   */
  reset(from?: Hosts, to?: Hosts): void {
    const near = this.#of(from)
    const far = this.#of(to)
    for (const wire of [...this.#fabric.connections]) {
      const joins = (near.has(wire.near) && far.has(wire.far)) || (near.has(wire.far) && far.has(wire.near))
      if (joins) wire.break('reset')
    }
  }

  stats(): NetworkStats {
    return { connections: this.#fabric.connections.size, ...this.#fabric.counts }
  }

  #of(hosts?: Hosts): Set<Machine> {
    if (hosts === undefined) return this.#fabric.machines
    const all: readonly unknown[] = Array.isArray(hosts) ? hosts : [hosts]
    return new Set(all.map((host) => this.#machineOf(host)))
  }

  #machineOf(host: unknown): Machine {
    const machine = this.#machines.get(host as MemoryHost)
    if (machine !== undefined) return machine
    throw new SkeinError(
      'OPTION_INVALID',
      "what was named is no host of this network: name what 'host()' made, or the 'hostOf' a node",
    )
  }

  #each(
    from: Hosts | undefined,
    to: Hosts | undefined,
    { oneWay = false }: Direction,
    run: (from: Machine, to: Machine) => void,
  ): void {
    const others = this.#of(to)
    for (const a of this.#of(from)) {
      for (const b of others) {
        if (a === b) continue
        run(a, b)
        if (!oneWay) run(b, a)
      }
    }
  }
}

const PROBABILITIES = ['drop', 'reorder', 'reset'] as const

const checkConditions = (conditions: Partial<Conditions>): void => {
  for (const name of Object.keys(conditions)) {
    if (name !== 'latencyMs' && !(PROBABILITIES as readonly string[]).includes(name))
      throw invalid(name, 'it', `known are seed, wallMs, trace, latencyMs, ${PROBABILITIES.join(', ')}`)
  }
  for (const name of PROBABILITIES) {
    const value = conditions[name]
    if (value !== undefined && !(value >= 0 && value <= 1))
      throw invalid(name, value, 'a probability from 0 to 1 is')
  }
  const { latencyMs = 0 } = conditions
  const [least, most] = typeof latencyMs === 'number' ? [latencyMs, latencyMs] : latencyMs
  if (!(least >= 0 && most >= least))
    throw invalid('latencyMs', latencyMs, 'milliseconds or a range of them are')
}

const invalid = (option: string, value: unknown, rule: string): SkeinError =>
  new SkeinError(
    'OPTION_INVALID',
    `option '${option}' of a simulated network: ${String(value)} is not taken; ${rule}`,
  )
