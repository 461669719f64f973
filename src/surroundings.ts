import { type Clock, systemClock } from './clock.ts'
import type { Source } from './discovery/discovery.ts'
import { Registry } from './discovery/registry.ts'
import { defaultRegistryDirectory } from './discovery/registry-directory.ts'
import type { ResolvedOptions } from './options.ts'
import { newId } from './protocol/header.ts'
import { addressesOf, isLoopback } from './transport/hosts.ts'
import type { HostAddress, Transport } from './transport/transport.ts'
import { ZeromqTransport } from './transport/zeromq.ts'

/** What a node stands in: time, a network, and what tells of others by itself. A simulated one takes its place. */
export interface Surroundings {
  readonly clock: Clock
  /** 128 random bits, in hex. */
  newId(): string
  transport(limits: { maxFrameBytes: number; maxControlBytes: number }): Transport
  /** The sources that need no address to begin with. */
  sources(options: ResolvedOptions, bind: string, addresses: () => HostAddress[]): Promise<Source[]>
}

/** This host, its sockets and its network. */
export const realSurroundings: Surroundings = {
  clock: systemClock,
  newId,
  transport: (limits) => new ZeromqTransport(limits),
  sources: async (options, bind, addresses) => [
    ...(options.registry === false
      ? []
      : [
          new Registry({
            directory: options.registry ?? defaultRegistryDirectory(),
            mesh: options.mesh,
          }),
        ]),
    ...(usesMdns(options, bind) ? [await mdns(options, bind, addresses)] : []),
  ],
}

/** Loaded where it is used: a one-shot command on this host starts a tenth sooner without it. */
const mdns = async (
  { mesh, interface: wanted }: ResolvedOptions,
  bind: string,
  addresses: () => HostAddress[],
): Promise<Source> => {
  const { Mdns } = await import('./discovery/mdns.ts')
  return new Mdns({
    mesh,
    clock: systemClock,
    addresses: () => multicastAddresses(addresses(), wanted, bind),
  })
}

/** Where the node is meant for others than this host, unless it is told what to do. */
export const usesMdns = ({ mdns, open, interface: wanted }: ResolvedOptions, bind: string): boolean =>
  mdns ?? (open && (wanted !== undefined || !isLoopback(bind)))

/** Multicast goes where the node listens: to the interface named, or to all that lead outward. */
export const multicastAddresses = (
  all: readonly HostAddress[],
  wanted: string | undefined,
  bind: string,
): HostAddress[] =>
  addressesOf(all, wanted).filter(
    ({ family, internal }) => family === 'IPv4' && (wanted !== undefined || internal === isLoopback(bind)),
  )
