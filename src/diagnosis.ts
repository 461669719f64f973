import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from './clock.ts'
import { parseEndpoint } from './discovery/discovery.ts'
import { Mdns, type Stranger } from './discovery/mdns.ts'
import { hasMulticastRoute, type MulticastProbe, probeMulticast } from './discovery/multicast-probe.ts'
import { defaultRegistryDirectory } from './discovery/registry-directory.ts'
import { type RegistrySurvey, surveyRegistry } from './discovery/registry-survey.ts'
import { messageOf } from './errors.ts'
import { type NodeOptions, type ResolvedOptions, resolveOptions } from './options.ts'
import { bindHost, toldHosts } from './presence.ts'
import { endpointOf } from './protocol/control-frames.ts'
import { multicastAddresses, realSurroundings, usesMdns } from './surroundings.ts'
import { isLoopback, isVirtual, isWildcard } from './transport/hosts.ts'
import { listenFault, type PortSurvey, surveyPorts } from './transport/port-survey.ts'
import type { HostAddress } from './transport/transport.ts'

/** Nodes of other meshes have answered by then. */
const STRANGERS_MS = 800
const RESOLVE_MS = 2000

/** An interface of this host, and what a node would use it for. */
export interface InterfaceSurvey {
  readonly name: string
  readonly addresses: readonly string[]
  /** It leads nowhere but to this host. */
  readonly internal: boolean
  /** Of containers, virtual machines or tunnels, as its name says: others seldom reach this host through it. */
  readonly virtual: boolean
  /** Addresses of it at which the node would listen. */
  readonly listens: readonly string[]
  /** Addresses of it that others would be told to dial. */
  readonly told: readonly string[]
}

/** How a node would listen. */
export interface ListeningSurvey {
  readonly bind: string
  /** Why nothing can listen there, as an error code. */
  readonly fault?: string
  /** What others would be told to dial, likeliest first. */
  readonly told: readonly string[]
  /** The three ports that were asked for; none where any free ones will do. */
  readonly ports: readonly PortSurvey[]
}

/** Whether multicast can be used, and what was heard by it. */
export interface MulticastSurvey {
  /** One for each interface that a node would use. */
  readonly probes: readonly MulticastProbe[]
  /** False where programs that leave the choice of the interface to the system cannot send multicast. */
  readonly hasRoute: boolean
  /** Nodes of other meshes that were heard by mDNS. */
  readonly strangers: readonly Stranger[]
}

/** A seed, and the addresses behind its name. */
export interface SeedSurvey {
  /** As `tcp://host:port`. */
  readonly seed: string
  readonly endpoints: readonly string[]
  /** Why its name leads to no address. */
  readonly fault?: string
}

/** What a node with certain options would find on this host, before it has met anybody. */
export interface HostSurvey {
  readonly mesh: string
  readonly open: boolean
  /** Null where the registry is switched off. */
  readonly registry: RegistrySurvey | null
  /** Null for a node that only dials. */
  readonly listening: ListeningSurvey | null
  readonly interfaces: readonly InterfaceSurvey[]
  /** Null where the node would not use mDNS. */
  readonly multicast: MulticastSurvey | null
  readonly seeds: readonly SeedSurvey[]
}

/**
 * Finds out what a node with these options would find on this host, without joining the mesh: the registry, ports,
 * interfaces, multicast and seeds. It takes at most a few seconds, sends a few packets of mDNS on the interfaces that
 * the node would use, and nothing that is wrong with the host makes it fail. Rejects OPTION_INVALID, NOT_SUPPORTED.
 *
 * @example
 * const { registry, listening } = await surveyHost({ mesh: 'shop', port: 7400 })
 * if (registry?.flaw) console.error(`no registry: ${registry.flaw.text}`)
 * for (const { port, holder } of listening?.ports ?? []) if (holder) console.error(`${port}: ${holder.command}`)
 */
export const surveyHost = async (options: NodeOptions = {}): Promise<HostSurvey> => {
  const resolved = resolveOptions(options)
  // The next node takes over what this one leaves behind.
  const transport = realSurroundings.transport({ maxFrameBytes: 1024, maxControlBytes: 1024 })
  try {
    const all = transport.addresses()
    const bind = bindHost(resolved, all)
    const { mesh, open, registry, listen, seeds } = resolved
    const told = listen ? toldHosts(resolved, bind, all) : []
    const [foundRegistry, listening, multicast, foundSeeds] = await Promise.all([
      registry === false ? null : surveyRegistry(registry ?? defaultRegistryDirectory(), mesh),
      listen ? surveyListening(bind, resolved.port, told) : null,
      usesMdns(resolved, bind) ? surveyMulticast(resolved, bind, all) : null,
      Promise.all(seeds.map((seed) => surveySeed(seed, (host) => transport.resolve(host)))),
    ])
    const interfaces = interfacesOf(all, listen ? bind : undefined, told)
    return { mesh, open, registry: foundRegistry, listening, interfaces, multicast, seeds: foundSeeds }
  } finally {
    await transport.close()
  }
}

const interfacesOf = (
  all: readonly HostAddress[],
  bind: string | undefined,
  told: readonly string[],
): InterfaceSurvey[] => {
  const isListenedAt = (at: HostAddress): boolean => {
    if (bind === undefined) return false
    if (isWildcard(bind)) return bind === '::' || at.family === 'IPv4'
    return at.address === bind || (bind === 'localhost' && isLoopback(at.address))
  }
  return [...new Set(all.map((each) => each.interface))].map((name) => {
    const own = all.filter((each) => each.interface === name)
    const addresses = own.map(({ address }) => address)
    return {
      name,
      addresses,
      internal: own.every(({ internal }) => internal),
      virtual: isVirtual(name),
      listens: own.filter(isListenedAt).map(({ address }) => address),
      told: told.filter((host) => addresses.includes(host)),
    }
  })
}

const surveyListening = async (
  bind: string,
  port: number,
  told: readonly string[],
): Promise<ListeningSurvey> => {
  const host = bind === '*' ? '0.0.0.0' : bind
  const fault = await listenFault(host)
  const ports = fault === undefined && port !== 0 ? await surveyPorts(host, port) : []
  return { bind, ...(fault === undefined ? {} : { fault }), told, ports }
}

const surveyMulticast = async (
  options: ResolvedOptions,
  bind: string,
  all: readonly HostAddress[],
): Promise<MulticastSurvey> => {
  const addresses = multicastAddresses(all, options.interface, bind)
  // As mDNS does: the first address of each.
  const first = addresses.filter(
    (at, place) => addresses.findIndex((other) => other.interface === at.interface) === place,
  )
  const [probes, hasRoute, strangers] = await Promise.all([
    Promise.all(first.map((at) => probeMulticast(at))),
    hasMulticastRoute(),
    first.length === 0 ? [] : strangersOn(options.mesh, first),
  ])
  return { probes, hasRoute, strangers }
}

/** Whom mDNS hears of other meshes: nothing is announced for that. */
const strangersOn = async (mesh: string, addresses: readonly HostAddress[]): Promise<Stranger[]> => {
  const mdns = new Mdns({ mesh, clock: systemClock, addresses: () => addresses })
  try {
    // What goes wrong with it the probes tell, and the node itself.
    await mdns.start(null, { seen() {}, gone() {}, warning() {} })
    await sleep(STRANGERS_MS)
    return mdns.otherMeshes()
  } finally {
    await mdns.close()
  }
}

const surveySeed = async (
  seed: string,
  resolve: (host: string) => Promise<readonly string[]>,
): Promise<SeedSurvey> => {
  const { host, port } = parseEndpoint(seed)!
  const late = sleep(RESOLVE_MS, undefined, { ref: false }).then(() => {
    throw new Error(`no answer within ${RESOLVE_MS / 1000} s`)
  })
  try {
    const addresses = await Promise.race([resolve(host), late])
    return { seed, endpoints: addresses.map((address) => endpointOf(address, port)) }
  } catch (error) {
    return { seed, endpoints: [], fault: messageOf(error) }
  }
}
