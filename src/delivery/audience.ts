import type { Clock } from '../clock.ts'
import type { Peer } from '../peers/peer.ts'
import type { Addressee } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import { matches } from '../protocol/topics.ts'
import type { Backlog } from './backlog.ts'
import { Groups, statedBy } from './groups.ts'
import type { Ledger, Recovered } from './ledger.ts'
import { nodeOf } from './membership.ts'
import type { Origin } from './message.ts'

const MAX_FOUND = 10_000

/** Those a message goes to, and what each of them is owed already. */
export interface Destination {
  readonly addressees: readonly Addressee[]
  readonly backlogs: readonly Backlog[]
}

export interface AudienceOptions {
  readonly self: Origin
  readonly clock: Clock
  readonly rememberMs: number
  /** Ms since 1970, which do not jump while the node runs. */
  time(): number
  peers(): Iterable<Peer>
  /** What this very node does a part of the work of. */
  services(): Service[]
  backlogOf(addressee: Addressee): Backlog
  /** No member of the group was seen for so long that nothing is kept for it any more. */
  forgotten(group: Addressee): void
  fault(error: unknown): void
}

/** Who wants what: the plain subscriptions of nodes that are there or waited for, and groups that are there or remembered. */
export class Audience {
  readonly #options: AudienceOptions
  readonly #groups: Groups
  /** What the plain subscriptions of each node want. */
  readonly #plain = new Map<string, readonly string[]>()
  /** To whom a topic goes, until somebody wants something else. */
  #found = new Map<string, Destination>()
  #queues = new Map<string, Destination>()

  constructor(options: AudienceOptions) {
    this.#options = options
    this.#groups = new Groups({
      ...options,
      stated: () => statedBy(this.#services()),
      forgotten: (name) => {
        this.changed()
        options.forgotten({ kind: 'group', name })
      },
      changed: () => this.changed(),
      warning: options.fault,
    })
  }

  restore(ledger: Ledger, groups: Recovered['groups']): void {
    this.#groups.restore(ledger, groups)
  }

  close(): void {
    this.#groups.close()
  }

  get hasGroups(): boolean {
    return this.#groups.size > 0
  }

  /** Somebody may want something else than before. */
  changed(): void {
    this.#found = new Map()
    this.#queues = new Map()
  }

  /** A peer is there, with these plain subscriptions. */
  interested(peer: Peer): void {
    this.changed()
    this.#plain.set(nodeOf(peer).name, peer.interest.patterns)
  }

  gone(node: Addressee): void {
    this.changed()
    this.#plain.delete(node.name)
  }

  seen(group: string, patterns: readonly string[]): void {
    this.#groups.seen(group, patterns)
  }

  withdrawn(group: string, pattern: string): void {
    this.#groups.withdrawn(group, pattern)
  }

  /** All that want this topic. */
  wanting(topic: string): Destination {
    const known = this.#found.get(topic)
    if (known !== undefined) return known
    const found: Addressee[] = []
    for (const [name, patterns] of this.#plain)
      if (patterns.some((pattern) => matches(pattern, topic))) found.push({ kind: 'node', name })
    for (const name of this.#groups.wanting(topic)) found.push({ kind: 'group', name })
    return keep(this.#found, topic, this.#to(found))
  }

  /** Those, and others beside them. */
  with(destination: Destination, others: readonly Addressee[]): Destination {
    const isNew = ({ kind, name }: Addressee): boolean =>
      !destination.addressees.some((each) => each.kind === kind && each.name === name)
    const added = others.filter(isNew)
    return added.length === 0 ? destination : this.#to([...destination.addressees, ...added])
  }

  /** Whether it was sent something before. */
  knows(topic: string): boolean {
    return this.#queues.has(topic) || this.#found.has(topic)
  }

  queue(name: string): Destination {
    return this.#queues.get(name) ?? keep(this.#queues, name, this.#to([{ kind: 'queue', name }]))
  }

  /** Live members of groups that want this topic, one of each: for what is published at most once. */
  membersFor(topic: string): { group: string; peer: Peer | undefined }[] {
    const { self, clock, peers } = this.#options
    const found: { group: string; peer: Peer | undefined }[] = []
    for (const { addressee, members } of this.wanting(topic).backlogs) {
      if (addressee.kind !== 'group') continue
      const places = members.all.filter(({ member }) =>
        member.patterns?.some((pattern) => matches(pattern, topic)),
      )
      const id = places[Math.floor(clock.random() * places.length)]?.member.id
      const peer = id === self.id ? undefined : [...peers()].find((each) => each.id === id)
      if (id === self.id || peer !== undefined) found.push({ group: addressee.name, peer })
    }
    return found
  }

  #to(addressees: readonly Addressee[]): Destination {
    return { addressees, backlogs: addressees.map((each) => this.#options.backlogOf(each)) }
  }

  *#services(): IterableIterator<readonly Service[]> {
    yield this.#options.services()
    for (const { interest } of this.#options.peers()) yield interest.services
  }
}

const keep = (found: Map<string, Destination>, name: string, destination: Destination): Destination => {
  if (found.size >= MAX_FOUND) found.clear()
  found.set(name, destination)
  return destination
}
