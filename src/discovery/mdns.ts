import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { type Advert, endpointsOf, meshTag, parseAdvert, type Service, serviceOf } from './advert.ts'
import type { Announcement, Findings, Source } from './discovery.ts'
import { MAX_NEIGHBOURS, MAX_PER_SOURCE, Neighbours } from './neighbours.ts'
import {
  type Answer,
  type Bonjour,
  type MakeBonjour,
  type MdnsInterface,
  type Packet,
  type PacketSource,
  type Queries,
  RETRY_MAX_MS,
  SERVICE_NAME,
  Station,
} from './station.ts'

const PORT = 5353
const QUERIES: Queries = { atMs: [0, 1000, 3000, 9000], everyMs: 60_000 }
const MAX_INTERFACES = 32
const MAX_STRANGERS = 64
/** Each fault is named again only when it was not seen for so long. */
const QUIET_MS = 60_000
/** Longer than any pause between two attempts, so that a lasting trouble is named once. */
const TROUBLE_QUIET_MS = 2 * RETRY_MAX_MS
/** Each interface may have two queries under way. */
const MAX_NUMBERS = 2 * MAX_INTERFACES

/** A node of another mesh. */
export interface Stranger {
  readonly mesh: string
  readonly name: string
  readonly endpoints: readonly string[]
}

export interface MdnsOptions {
  readonly mesh: string
  readonly clock: Clock
  /** The addresses of the interfaces to be used at this moment; those of IPv6 are passed over. */
  addresses(): readonly MdnsInterface[]
  readonly queries?: Queries
  /** Other than 5353 only for those who want to be among themselves. */
  readonly port?: number
}

/** What is wrong, and what helps, by the code of a socket's error. */
const TROUBLES: Readonly<Record<string, readonly [what: string, remedy: string]>> = {
  EADDRINUSE: ['another process keeps the UDP port of mDNS for itself', 'stop it or let it share the port'],
  EACCES: ['it is forbidden', 'allow UDP port 5353 in the firewall or sandbox'],
  EPERM: ['it is forbidden', 'allow UDP port 5353 in the firewall or sandbox'],
  ENETUNREACH: ['there is no route for multicast', 'add a route to 224.0.0.0/4 there'],
  EHOSTUNREACH: ['there is no route for multicast', 'add a route to 224.0.0.0/4 there'],
  ENETDOWN: ['it is down', 'bring it up'],
  ENODEV: ['it is gone, or knows no multicast', 'bring it up'],
  EADDRNOTAVAIL: ['it has lost this address', 'bring it up'],
}

/**
 * The nodes that announce themselves by multicast DNS. Adverts are hints, and so are goodbyes. bonjour-service sends
 * and announces; its browser is passed over, because its list has no limit, ten thousand services cost it 12 s of CPU,
 * and a port that has changed is no news to it.
 */
export class Mdns implements Source {
  readonly name = 'mdns'
  readonly #options: MdnsOptions
  readonly #meshTag: string
  readonly #neighbours = new Neighbours()
  readonly #others = new Map<string, Advert & { readonly source: string }>()
  /** When each complaint was last due, by kind. */
  readonly #complaints = new Map<string, number>()
  /** Numbers of our own queries: multicast comes back to whoever sent it. */
  readonly #numbers = new Set<number>()
  #self: Announcement | null = null
  #on: Findings | undefined
  #make: MakeBonjour | undefined
  #stations: readonly Station[] = []
  #isOpen = false
  #isSettled = false
  #ignored = 0
  #strange = 0
  #closing: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(options: MdnsOptions) {
    this.#options = options
    this.#meshTag = meshTag(options.mesh)
  }

  /** How many adverts and packets were passed over: malformed, oversized, of another version, or too many. */
  get ignored(): number {
    return this.#ignored
  }

  /** How many adverts of nodes of other meshes were heard. */
  get strangers(): number {
    return this.#strange
  }

  get isSettled(): boolean {
    this.#isSettled ||= this.#isOpen && this.#stations.every((station) => station.isSettled)
    return this.#isSettled
  }

  /** Nodes of other meshes that were heard, those heard last at the end. */
  otherMeshes(): Stranger[] {
    return [...this.#others.values()].map(({ source, ...advert }) => ({
      mesh: advert.mesh,
      name: advert.name,
      endpoints: endpointsOf(advert, [source]),
    }))
  }

  async start(self: Announcement | null, on: Findings): Promise<void> {
    this.#self = self
    this.#on = on
    // Not before it is needed: loading it takes 20 ms, and most nodes stay on their host.
    const library = await import('bonjour-service')
    if (this.#isClosed) return
    this.#make = (options, onError) =>
      // Its types know neither these options nor what is inside of it.
      new library.Bonjour(options as object, onError) as unknown as Bonjour
    await this.#open()
    this.#isOpen = true
  }

  moved(self: Announcement | null): void {
    this.#self = self
    if (this.#isClosed || this.#make === undefined) return
    // New ones throughout: a service that changes is announced in its old form for an hour, and a socket does not
    // notice that it has left the group because its interface went away for a moment.
    this.#leave(false)
    this.#neighbours.tellAgain()
    void this.#open()
  }

  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      this.#on = undefined
      this.#leave(true)
    }
    await this.#closing
  }

  #leave(goodbye: boolean): void {
    const left = this.#stations.map((station) => station.close(goodbye))
    this.#stations = []
    this.#closing = Promise.all([this.#closing, ...left])
  }

  async #open(): Promise<void> {
    const { clock, port = PORT, queries = QUERIES } = this.#options
    const service = this.#service()
    this.#stations = this.#interfaces().map(
      (host) =>
        new Station({
          ...{ host, port, clock, queries, service },
          make: this.#make!,
          number: () => this.#number(),
          isOurs: (number) => this.#numbers.has(number),
          asked: (address) => this.#nearest(address)?.overhear(),
          answered: (packet, from) => this.#answered(packet, from),
          unreadable: (error) => this.#unreadable(error),
          trouble: (at, error) => this.#trouble(at, error),
        }),
    )
    await Promise.all(this.#stations.map((station) => station.open()))
  }

  #interfaces(): MdnsInterface[] {
    const chosen = new Map<string, MdnsInterface>()
    for (const one of this.#options.addresses()) {
      if (one.family === 'IPv4' && !chosen.has(one.interface)) chosen.set(one.interface, one)
    }
    if (chosen.size === 0) {
      const text =
        "could not use mDNS: no interface has an IPv4 address; connect to a network, check the option 'interface', or list seeds"
      this.#complain('interfaces', TROUBLE_QUIET_MS, new SkeinError('MDNS_UNAVAILABLE', text))
    }
    return [...chosen.values()].slice(0, MAX_INTERFACES)
  }

  #service(): Service | null {
    if (this.#self === null) return null
    const service = serviceOf(this.#self)
    if (typeof service !== 'string') return service
    const text = `could not announce node "${this.#self.id}" by mDNS: ${service}; others find it by seeds only`
    this.#complain('self', QUIET_MS, new SkeinError('MDNS_UNAVAILABLE', text))
    return null
  }

  #number(): number {
    const number = 1 + Math.floor(this.#options.clock.random() * 65_535)
    this.#numbers.add(number)
    if (this.#numbers.size > MAX_NUMBERS) this.#numbers.delete(this.#numbers.values().next().value!)
    return number
  }

  /** Linux gives every packet to every socket of the port, whatever interface it came by. */
  #nearest(address: string): Station | undefined {
    const distance = (station: Station): number => distanceOf(station.host.address, address)
    return this.#stations.reduce<Station | undefined>(
      (nearest, one) => (nearest === undefined || distance(one) < distance(nearest) ? one : nearest),
      undefined,
    )
  }

  #answered({ answers, additionals }: Packet, { address }: PacketSource): void {
    for (const answer of [...answers, ...additionals]) {
      const name = answer.name.toLowerCase()
      if (answer.type === 'PTR' && name === SERVICE_NAME && answer.ttl === 0) this.#goodbye(answer)
      // Its own record says it all; SRV and addresses are for other programs.
      else if (answer.type === 'TXT' && name.endsWith(`.${SERVICE_NAME}`) && answer.ttl !== 0)
        this.#advert(name.slice(0, -SERVICE_NAME.length - 1), answer.data, address)
    }
  }

  #goodbye({ data }: Answer): void {
    if (typeof data !== 'string' || !data.toLowerCase().endsWith(`.${SERVICE_NAME}`)) return
    const instance = data.slice(0, -SERVICE_NAME.length - 1).toLowerCase()
    this.#others.delete(instance)
    const known = this.#neighbours.withdraw(instance)
    if (known !== undefined) this.#on?.gone(known.id, known.boot)
  }

  #advert(instance: string, items: unknown, source: string): void {
    const advert = parseAdvert(instance, items)
    if (typeof advert === 'string') return this.#flawed(advert, instance, source)
    const { id, boot, name, mesh } = advert
    if (id === this.#self?.id && boot === this.#self.boot) return
    if (mesh !== this.#meshTag) return this.#stranger(instance, advert, source)
    const endpoints = this.#neighbours.hear(instance, advert, source, this.#options.clock.now())
    if (endpoints === 'crowd') return this.#crowded(source)
    if (endpoints.length > 0) this.#on?.seen({ id, boot, name, endpoints, source: 'mdns' })
  }

  #stranger(instance: string, advert: Advert, source: string): void {
    this.#strange++
    this.#others.delete(instance)
    this.#others.set(instance, { ...advert, source })
    if (this.#others.size > MAX_STRANGERS) this.#others.delete(this.#others.keys().next().value!)
  }

  #flawed(flaw: string, instance: string, source: string): void {
    this.#ignored++
    const who = JSON.stringify(instance.slice(0, 80))
    const text = `the mDNS advert ${who} from ${source} is ignored: ${flaw}; update or stop what sends it`
    this.#complain(flaw, QUIET_MS, new SkeinError('MALFORMED', text))
  }

  #unreadable(error: Error): void {
    this.#ignored++
    // Whatever else is on the network may send it, and goes on to: said once.
    const text = `a packet on the port of mDNS is ignored: it cannot be read (${messageOf(error)}); find out what sends it if nodes are missing`
    this.#complain('packet', Number.POSITIVE_INFINITY, new SkeinError('MALFORMED', text, { cause: error }))
  }

  #crowded(source: string): void {
    this.#ignored++
    const text = `more nodes are announced by mDNS than are listened to, at most ${MAX_PER_SOURCE} from one address and ${MAX_NEIGHBOURS} in all, lately by ${source}, and the others are ignored: stop what announces them or divide the network`
    this.#complain('crowd', Number.POSITIVE_INFINITY, new SkeinError('MDNS_UNAVAILABLE', text))
  }

  #trouble(at: MdnsInterface, error: Error): void {
    const code = String((error as NodeJS.ErrnoException).code ?? messageOf(error))
    const [what, remedy] = TROUBLES[code] ?? [messageOf(error), 'see whether it is up']
    const text = `could not use mDNS on interface "${at.interface}" (${at.address}): ${what} (${code}); ${remedy}, name another with the option 'interface', or list seeds`
    const unavailable = new SkeinError('MDNS_UNAVAILABLE', text, { cause: error })
    this.#complain(`${at.interface} ${code}`, TROUBLE_QUIET_MS, unavailable)
  }

  /** Says it, unless it was due already within this time. */
  #complain(kind: string, quietMs: number, error: SkeinError): void {
    const now = this.#options.clock.now()
    const before = this.#complaints.get(kind)
    this.#complaints.set(kind, now)
    if (before === undefined || now - before >= quietMs) this.#on?.warning(error)
  }
}

/** How far two IPv4 addresses are apart: the larger, the fewer leading bits they share. */
const distanceOf = (one: string, other: string): number => (numberOf(one) ^ numberOf(other)) >>> 0

const numberOf = (address: string): number =>
  address.split('.').reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0)
