import type { Transport } from '../transport.ts'
import type { Fabric } from './fabric.ts'
import type { Machine } from './machine.ts'
import { MemoryTransport, type MemoryTransportOptions } from './memory-transport.ts'

/**
 * A machine on a network in memory, on which any number of nodes run.
 *
 * @example
 * const host = network.host('10.0.0.1')
 * host.down()                       // somebody pulls its cable
 * await network.clock.advance(2000)
 * host.up()
 */
export class MemoryHost {
  readonly #fabric: Fabric
  readonly #machine: Machine
  readonly #transports = new Set<MemoryTransport>()

  /** @internal Use network.host(). */
  constructor(fabric: Fabric, machine: Machine) {
    this.#fabric = fabric
    this.#machine = machine
  }

  /** The first address that it had. */
  get name(): string {
    return this.#machine.name
  }

  get addresses(): readonly string[] {
    return this.#machine.addresses
  }

  /** What one node has of the network. */
  transport(options: MemoryTransportOptions): Transport {
    const transport: MemoryTransport = new MemoryTransport(this.#fabric, this.#machine, options, () =>
      this.#transports.delete(transport),
    )
    this.#transports.add(transport)
    return transport
  }

  /** Pulls the cable: no packet comes or goes, and its addresses are gone but for loopback. */
  down(): void {
    this.#machine.downAt ??= this.#fabric.clock.now()
    this.#fabric.watch()
  }

  /** Puts it in again: connections that have not been silent for 30 s go on where they were. */
  up(): void {
    this.#machine.downAt = undefined
    this.#fabric.opened()
  }

  /** Gives it other addresses, as after a night in another network; nothing gets through to those that it had. */
  move(...addresses: string[]): void {
    this.#fabric.address(this.#machine, addresses)
  }

  /**
   * Its processes read nothing, as when their event loops hang: connections stand, and queues fill up. Their timers run
   * on, and what they send leaves.
   */
  pause(): void {
    this.#machine.paused ??= new Set()
  }

  resume(): void {
    const { paused } = this.#machine
    this.#machine.paused = undefined
    for (const reader of paused ?? []) reader.run()
  }

  /** Ends all sockets of its processes without a word, as `kill -9` does; their nodes are dead and do not know it. */
  crash(): void {
    for (const transport of [...this.#transports]) void transport.close()
  }
}
