import type { ReasonCode } from '../discovery/discovery.ts'
import { type Address, endpointOf, type Interest, MAX_HOSTS } from '../protocol/control-frames.ts'
import { newId } from '../protocol/header.ts'
import type { Link, Route } from '../transport/link.ts'

export type PeerState = 'seen' | 'up' | 'suspect' | 'down' | 'one-way'

/** A peer as users see it: a plain object that survives JSON. */
export interface PeerInfo {
  /** Empty for a seed that has led to no node yet: `name` is then its address, and `boot` is empty, too. */
  readonly id: string
  readonly name: string
  readonly boot: string
  readonly state: PeerState
  /** The sources that told of it: registry, mdns, seed, gossip, hello. */
  readonly foundBy: readonly string[]
  /** Where its control socket has answered, lately first. */
  readonly endpoints: readonly string[]
  /** Why it is not up. */
  readonly reason?: string
  /** The same for programs, of an address that has led to no member of the mesh. */
  readonly code?: ReasonCode
}

/** One other node. The roster alone changes it. */
export class Peer {
  readonly id: string
  boot: string
  name: string
  state: PeerState = 'seen'
  reason = ''
  /** Of one that is listed only to say why it is no member. */
  code: ReasonCode | undefined
  readonly foundBy = new Set<string>()
  readonly endpoints = new Set<string>()
  /** Our connection to it, and its connection to us. */
  link: Link | undefined
  route: Route | undefined
  address: Address | null = null
  /** Where it may be as a source has said lately. */
  hints: readonly string[] = []
  /** It listens nowhere, as one-shot commands do: it is served, but it is no member of the mesh. */
  visitor = false
  /** Users were told that it is up. */
  announced = false
  interest: Interest = { revision: -1, patterns: [], responders: [], services: [] }
  /** The revision of our interest that it knows. */
  known = -1
  /** What our delivery batches to it begin with */
  token = ''
  /** What its delivery batches to us begin with. */
  tokenGiven: string
  /** It is down because nothing was heard of it: it may run on, with what it was given. */
  mayLive = false
  heardAt = 0
  pingedAt = 0
  /** The latest of our pings that it has answered. */
  ponged = 0
  redialMs = 0
  /** Ends the wait after which it is forgotten. */
  cancelGone = (): void => {}

  constructor(id: string, boot: string, name: string, tokenGiven: string = newId()) {
    this.id = id
    this.boot = boot
    this.name = name
    this.tokenGiven = tokenGiven
  }

  /** Its control socket has answered there. */
  answered(endpoint: string): void {
    this.endpoints.delete(endpoint)
    this.endpoints.add(endpoint)
    for (const old of this.endpoints) {
      if (this.endpoints.size <= MAX_HOSTS) break
      this.endpoints.delete(old)
    }
  }

  /** Where it may be dialled: addresses that have answered, the latest first, then those that it told. */
  ways(): string[] {
    const told = this.address?.hosts.map((host) => endpointOf(host, this.address!.control)) ?? []
    return [...new Set([...[...this.endpoints].reverse(), ...told])].slice(0, MAX_HOSTS)
  }

  get isUp(): boolean {
    return this.state === 'up' || this.state === 'suspect'
  }

  get label(): string {
    return `'${this.name}' (${this.id.slice(0, 8)})`
  }

  /** Nothing is remembered of it: what it sends under the old token is void, and it learns a new one. */
  forget(): void {
    this.token = ''
    this.tokenGiven = newId()
    this.known = -1
  }

  info(): PeerInfo {
    return {
      id: this.id,
      name: this.name,
      boot: this.boot,
      state: this.state,
      foundBy: [...this.foundBy],
      endpoints: [...this.endpoints].reverse(),
      ...(this.reason === '' ? {} : { reason: this.reason }),
      ...(this.code === undefined ? {} : { code: this.code }),
    }
  }
}
