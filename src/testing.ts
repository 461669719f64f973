import type { Clock } from './clock.ts'
import { Neighbourhood } from './discovery/neighbourhood.ts'
import { SkeinError } from './errors.ts'
import { type Node, startNode } from './node.ts'
import type { NodeOptions } from './options.ts'
import type { Surroundings } from './surroundings.ts'
import { type MemoryHost, MemoryNetwork, type MemoryNetworkOptions } from './transport/memory.ts'
import type { VirtualClock } from './transport/virtual-clock.ts'

export type { Conditions, Direction, Happening, Hosts, MemoryHost, NetworkStats } from './transport/memory.ts'
export type { VirtualClock } from './transport/virtual-clock.ts'

export type SimulatedNetworkOptions = MemoryNetworkOptions

/** What a node of a simulated network may be told: its host besides everything that `createNode` takes. */
export interface SimulatedNodeOptions extends NodeOptions {
  /** On which host it runs. Default: a new one of its own. */
  host?: MemoryHost
}

/** In real time: less than test runners give a test, and more than a program needs between two calls. */
const STILL_MS = 2000

/**
 * Notices that a node waits for time to pass and nobody lets it: an `await` of it would hang without a word. A hint, no
 * proof: what was published at last waits so, too.
 */
class Standstill {
  readonly #clock: VirtualClock
  #driven = 0
  #timer: NodeJS.Timeout | undefined
  #isTold = false

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  /** The clock as nodes see it. */
  watched(): Clock {
    const clock = this.#clock
    return {
      now: () => clock.now(),
      wall: () => clock.wall(),
      random: () => clock.random(),
      after: (delayMs, run) => {
        this.#waits()
        return clock.after(delayMs, run)
      },
      turn: (run) => {
        this.#waits()
        clock.turn(run)
      },
    }
  }

  /** Until then time passes. */
  async during<T>(driving: Promise<T>): Promise<T> {
    this.end()
    this.#driven++
    try {
      return await driving
    } finally {
      this.#driven--
    }
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #waits(): void {
    if (this.#driven > 0 || this.#isTold || this.#timer !== undefined) return
    const { events } = this.#clock
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      // Who drives the clock itself needs no hint.
      if (this.#clock.events === events) this.#tell()
    }, STILL_MS)
    this.#timer.unref()
  }

  #tell(): void {
    this.#isTold = true
    process.emitWarning(
      `virtual time has stood still for ${STILL_MS / 1000} s, and a node of a simulated network waits for it to pass: if the ` +
        'program hangs, await what nodes do as "await network.run(node.request(…))", or let time pass with ' +
        '"await network.advance(ms)"',
      { type: 'SkeinWarning', code: 'SKEIN_TIME_STANDS_STILL' },
    )
  }
}

/**
 * Real nodes on a network in memory, with time that passes only while something is awaited through `run` or `advance`,
 * and then as fast as the machine computes. Nodes of a mesh find each other unless `discovery.mdns` is false; seeds and
 * gossip work as ever. The same seed and the same program give the same history.
 *
 * What nodes do takes virtual time, so await it through `run`: without it waits for ever, and a warning of the process
 * says so after two seconds. Of what is outside of the network (files, other sockets)
 * say so with `clock.outside`, or time runs away from it.
 *
 * @example
 * const network = new SimulatedNetwork({ seed: 7 })
 * const orders = await network.createNode({ name: 'orders' })
 * const prices = await network.createNode({ name: 'prices' })
 * prices.respond('price.get', () => 42)
 * await network.run(orders.request('price.get', 'a1', { waitMs: 1000 })) // 42
 * network.partition(network.hostOf(prices))
 * await network.run(orders.request('price.get', 'a1').catch((error) => error.code)) // 'REQUEST_TIMEOUT'
 * await network.close()
 */
export class SimulatedNetwork extends MemoryNetwork {
  readonly #neighbourhood = new Neighbourhood(this.clock)
  readonly #standstill = new Standstill(this.clock)
  readonly #hosts = new Map<Node, MemoryHost>()

  /**
   * A node on this network, as the real `createNode` makes one; it listens beyond its host, and has no registry.
   * Rejects as `createNode`, and WAIT_TIMEOUT as `run`.
   */
  async createNode({ host = this.host(), ...options }: SimulatedNodeOptions = {}): Promise<Node> {
    const surroundings: Surroundings = {
      clock: this.#standstill.watched(),
      newId: () => this.#newId(),
      transport: (limits) => host.transport(limits),
      sources: async ({ mdns, mesh }) => (mdns === false ? [] : [this.#neighbourhood.source(mesh)]),
    }
    const node = await this.run(
      startNode({ open: true, name: host.name, id: this.#newId(), ...options }, surroundings),
    )
    this.#hosts.set(node, host)
    return node
  }

  /** The host on which this node of the network runs. */
  hostOf(node: Node): MemoryHost {
    const host = this.#hosts.get(node)
    if (host !== undefined) return host
    throw new SkeinError(
      'OPTION_INVALID',
      'host of a node: it was not made by this network, or is closed with it',
    )
  }

  /** Lets so much virtual time pass, in ms. */
  advance(ms: number): Promise<void> {
    return this.#standstill.during(this.clock.advance(ms))
  }

  /**
   * Lets virtual time pass until the promise settles, and answers as it does. Several may run at the same time.
   * @throws SkeinError WAIT_TIMEOUT after `limitMs` (60,000) of virtual time, or when nothing is left to happen
   */
  run<T>(promise: Promise<T>, options: { limitMs?: number } = {}): Promise<T> {
    return this.#standstill.during(this.clock.run(Promise.resolve(promise), options))
  }

  /** Of the seed, too, so that a history shows the same names each time. */
  #newId(): string {
    const part = (): string =>
      Math.floor(this.clock.random() * 2 ** 32)
        .toString(16)
        .padStart(8, '0')
    return part() + part() + part() + part()
  }

  /** Closes all nodes that were made here. */
  async close(): Promise<void> {
    const nodes = [...this.#hosts.keys()]
    this.#hosts.clear()
    await this.run(Promise.all(nodes.map((node) => node.close())))
    this.#standstill.end()
  }
}
