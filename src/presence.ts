import type { Clock } from './clock.ts'
import type { Announcement, Findings, Outcome, Sighting } from './discovery/discovery.ts'
import type { Gossip } from './discovery/gossip.ts'
import { NetworkWatch } from './discovery/network-watch.ts'
import { Seeds } from './discovery/seeds.ts'
import { Sources } from './discovery/sources.ts'
import type { SkeinError } from './errors.ts'
import { assertClosed, invalid, type ResolvedOptions } from './options.ts'
import type { Dialler } from './peers/dialler.ts'
import type { Greeter } from './peers/greeter.ts'
import type { PeerInfo } from './peers/peer.ts'
import type { Roster } from './peers/roster.ts'
import { type Address, endpointOf, MAX_HOSTS } from './protocol/control-frames.ts'
import { parseEndpoint } from './protocol/endpoint.ts'
import type { Surroundings } from './surroundings.ts'
import { addressesOf, isLoopback, isWildcard, reachableHosts } from './transport/hosts.ts'
import type { HostAddress, Listener, Ports, Transport } from './transport/transport.ts'

export interface PresenceOptions {
  readonly id: string
  readonly boot: string
  readonly options: ResolvedOptions
  readonly surroundings: Surroundings
  readonly transport: Transport
  readonly roster: Roster
  readonly dialler: Dialler
  readonly greeter: Greeter
  readonly gossip: Gossip
  readonly listener: Listener
  warning(error: SkeinError): void
}

/** How a node is present in its mesh: where it listens, where it is announced, and what it notices of the network. */
export class Presence {
  readonly #options: PresenceOptions
  readonly #clock: Clock
  #bind = '127.0.0.1'
  #ports: Ports | undefined
  #sources: Sources | undefined
  #seeds: Seeds | undefined
  #watch: NetworkWatch | undefined
  /** Where it was reached when there was a network: a cable that is put in again brings these addresses back. */
  #lastHosts: readonly string[] = []

  constructor(options: PresenceOptions) {
    this.#options = options
    this.#clock = options.surroundings.clock
  }

  /** Where this node listens; null if it only dials. */
  get address(): Address | null {
    if (this.#ports === undefined) return null
    const { control, feed, delivery } = this.#ports
    return { hosts: this.#hosts(), control, feed, delivery }
  }

  /** Binds, announces, and resolves when those who are there have answered. */
  async start(): Promise<void> {
    const { options, surroundings, transport, dialler, greeter, gossip, listener } = this.#options
    this.#bind = bindHost(options, transport.addresses())
    // Before anybody can come, or gossip would not hear of the first ones.
    const sources = await surroundings.sources(options, this.#bind, () => transport.addresses())
    if (options.listen)
      this.#ports = await transport.listen({ host: this.#bind, port: options.port }, listener)
    greeter.start(this.address)
    const { seeds } = options
    this.#seeds = new Seeds({ seeds, clock: this.#clock, resolve: (host) => transport.resolve(host) })
    this.#sources = new Sources([
      ...sources,
      ...(seeds.length > 0 ? [this.#seeds] : []),
      ...(options.gossip ? [gossip] : []),
    ])
    this.#watch = new NetworkWatch({
      clock: this.#clock,
      addresses: () => transport.addresses(),
      changed: () => this.#moved(),
    })
    this.#watch.start()
    await this.#sources.start(this.#announcement(), this.#findings())
    await dialler.settled(options.settleMs, () => this.#sources!.isSettled)
  }

  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void {
    this.#sources?.tried(sighting, endpoint, outcome)
  }

  /** A peer is lost: who led to it shall look again. */
  lost(peerId: string): void {
    this.#seeds?.lost(peerId)
  }

  /** Those that are known, and the seeds that have led to nobody yet. */
  peers(): PeerInfo[] {
    const { roster, dialler } = this.#options
    // A seed is asked again now and then only; meanwhile the peer there may have been reached in another way.
    const lost = (this.#seeds?.states() ?? []).filter(
      ({ state, endpoints }) =>
        state !== 'up' && state !== 'self' && !endpoints.some((endpoint) => roster.at(endpoint)),
    )
    return [
      ...roster.infos(),
      ...dialler.candidates(),
      ...lost.map(
        ({ seed, endpoints, reason, code }): PeerInfo => ({
          ...{ id: '', name: seed, boot: '', state: 'seen', foundBy: ['seed'], endpoints, reason },
          ...(code === undefined ? {} : { code }),
        }),
      ),
    ]
  }

  /** Is announced no longer, and looks for nobody. */
  async leave(): Promise<void> {
    this.#watch?.close()
    await this.#sources?.close()
  }

  #moved(): void {
    this.#options.greeter.moved(this.address)
    this.#sources?.moved(this.#announcement())
  }

  #announcement(): Announcement | null {
    if (this.#ports === undefined) return null
    const { id, boot, options } = this.#options
    const port = this.#ports.control
    const local = options.advertise?.[0] ?? (isWildcard(this.#bind) ? '127.0.0.1' : this.#bind)
    const localEndpoint = endpointOf(local, port)
    return { id, boot, name: options.name, mesh: options.mesh, port, hosts: this.#hosts(), localEndpoint }
  }

  #findings(): Findings {
    const { dialler, warning } = this.#options
    return {
      seen: (sighting) => dialler.seen(this.#withinReach(sighting)),
      gone: (id, boot) => dialler.gone(id, boot),
      warning,
    }
  }

  /** Who listens on loopback only could ask those elsewhere, but never be answered: they would list it as one-way. */
  #withinReach(sighting: Sighting): Sighting {
    if (sighting.source !== 'gossip' || this.#ports === undefined || !this.#hosts().every(isLoopback))
      return sighting
    const own = this.#options.transport.addresses().map(({ address }) => address)
    const isHere = (host: string): boolean => isLoopback(host) || own.includes(host)
    const endpoints = sighting.endpoints.filter((endpoint) => isHere(parseEndpoint(endpoint)?.host ?? ''))
    return { ...sighting, endpoints }
  }

  #hosts(): readonly string[] {
    const { options, transport } = this.#options
    const hosts = toldHosts(options, this.#bind, transport.addresses())
    if (hosts.every(isLoopback)) return [...new Set([...this.#lastHosts, ...hosts])].slice(0, MAX_HOSTS)
    this.#lastHosts = hosts
    return hosts
  }
}

/** The address that a node listens on. @throws SkeinError OPTION_INVALID where the interface asked for cannot be used */
export const bindHost = (options: ResolvedOptions, all: readonly HostAddress[]): string => {
  const wanted = options.interface
  const addresses = addressesOf(all, wanted)
  if (wanted !== undefined && addresses.length === 0) {
    const names = [...new Set(all.map((each) => each.interface))].join(', ')
    throw invalid('interface', `'${wanted}' is not there`, `this host has ${names}`)
  }
  if (options.bind !== undefined) return options.bind
  if (wanted !== undefined) {
    const { address } =
      addresses.find((each) => each.address === wanted) ??
      addresses.find((each) => each.family === 'IPv4') ??
      addresses[0]!
    if (!options.open) assertClosed('interface', address, wanted)
    return address
  }
  if (!options.open) return '127.0.0.1'
  return all.some(({ family }) => family === 'IPv6') ? '::' : '0.0.0.0'
}

/** The addresses that others are told to dial. */
export const toldHosts = (
  options: ResolvedOptions,
  bind: string,
  all: readonly HostAddress[],
): readonly string[] => options.advertise ?? reachableHosts(addressesOf(all, options.interface), bind)
