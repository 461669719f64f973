import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Service } from '../protocol/control-frames.ts'
import { matches } from '../protocol/topics.ts'
import type { Ledger, Recovered } from './ledger.ts'

/** That members are there is noted this often, not at each sign of life. */
const NOTE_MS = 3_600_000
const LOOK_MS = 60_000
const MAX_GROUPS = 4096
const MAX_PATTERNS = 1024

interface Group {
  readonly patterns: Set<string>
  seenAt: number
  notedAt: number
  /** The record that keeps it. */
  record: number
}

export interface GroupsOptions {
  readonly clock: Clock
  /** Ms since 1970, which do not jump while the node runs. */
  time(): number
  readonly rememberMs: number
  /** Which patterns the members of each group state now: a look at every service of every peer. */
  stated(): ReadonlyMap<string, ReadonlySet<string>>
  forgotten(group: string): void
  /** Some group wants less than before. */
  changed(): void
  warning(error: unknown): void
}

/** Which groups want what, of those that are there and those that are away and remembered. */
export class Groups {
  readonly #options: GroupsOptions
  readonly #groups = new Map<string, Group>()
  #ledger: Ledger | undefined
  #cancel: (() => void) | undefined
  /** Patterns that were withdrawn in this turn, by group. */
  readonly #withdrawn = new Map<string, Set<string>>()
  /** That there are too many was said. */
  #isFull = false

  constructor(options: GroupsOptions) {
    this.#options = options
  }

  restore(ledger: Ledger, groups: Recovered['groups']): void {
    this.#ledger = ledger
    const { time, rememberMs } = this.#options
    for (const { group, patterns, seenAt: notedAt, sequence } of groups) {
      // A clock set wrongly while the node was down must not make it forget what it owes.
      const seenAt = Math.max(notedAt, time() - rememberMs / 2)
      this.#groups.set(group, { patterns: new Set(patterns), seenAt, notedAt, record: sequence })
    }
    this.#look()
  }

  close(): void {
    this.#cancel?.()
  }

  get size(): number {
    return this.#groups.size
  }

  /** Groups that want messages of this topic. */
  wanting(topic: string): string[] {
    const found: string[] = []
    for (const [name, { patterns }] of this.#groups)
      for (const pattern of patterns)
        if (matches(pattern, topic)) {
          found.push(name)
          break
        }
    return found
  }

  /** Members state these patterns. */
  seen(name: string, patterns: readonly string[]): void {
    const now = this.#options.time()
    let group = this.#groups.get(name)
    if (group === undefined) {
      if (this.#groups.size >= MAX_GROUPS)
        return this.#tooMany(`group '${name}' is not remembered`, MAX_GROUPS)
      group = { patterns: new Set(), seenAt: now, notedAt: 0, record: 0 }
      this.#groups.set(name, group)
    }
    const before = group.patterns.size
    for (const pattern of patterns) {
      if (group.patterns.size >= MAX_PATTERNS && !group.patterns.has(pattern))
        return this.#tooMany(`pattern '${pattern}' of group '${name}' is not remembered`, MAX_PATTERNS)
      group.patterns.add(pattern)
    }
    group.seenAt = now
    if (group.patterns.size > before || now - group.notedAt > NOTE_MS) this.#note(name, group)
  }

  /** The group does not want this pattern any more, unless another member states it still. */
  withdrawn(name: string, pattern: string): void {
    if (this.#groups.get(name)?.patterns.has(pattern) !== true) return
    // Once a turn, however many are withdrawn in it: a look at what is stated may be a look at very much.
    if (this.#withdrawn.size === 0) this.#options.clock.turn(() => this.#withdraw())
    const patterns = this.#withdrawn.get(name)
    if (patterns === undefined) this.#withdrawn.set(name, new Set([pattern]))
    else patterns.add(pattern)
  }

  #withdraw(): void {
    const stated = this.#options.stated()
    for (const [name, patterns] of this.#withdrawn) {
      const group = this.#groups.get(name)
      const before = group?.patterns.size
      for (const pattern of patterns)
        if (stated.get(name)?.has(pattern) !== true) group?.patterns.delete(pattern)
      if (group === undefined || group.patterns.size === before) continue
      if (group.patterns.size > 0) this.#note(name, group)
      else this.#forget(name, group)
    }
    this.#withdrawn.clear()
    this.#options.changed()
  }

  #tooMany(what: string, limit: number): void {
    if (this.#isFull) return
    this.#isFull = true
    this.#options.warning(
      new SkeinError(
        'OUTBOX_FULL',
        `${what}: there are ${limit} already; withdraw those that are not needed`,
      ),
    )
  }

  #note(name: string, group: Group): void {
    if (this.#ledger === undefined) return
    group.notedAt = group.seenAt
    try {
      group.record = this.#ledger.remember(name, [...group.patterns], group.seenAt, group.record)
    } catch (error) {
      this.#options.warning(error)
    }
  }

  #forget(name: string, group: Group): void {
    this.#groups.delete(name)
    if (group.record > 0) void this.#ledger?.drop(group.record)
    this.#options.forgotten(name)
  }

  #look(): void {
    const { clock, time, rememberMs } = this.#options
    const stated = this.#options.stated()
    for (const [name, group] of [...this.#groups]) {
      const patterns = stated.get(name)
      if (patterns !== undefined) this.seen(name, [...patterns])
      else if (time() - group.seenAt > rememberMs) this.#forget(name, group)
    }
    this.#cancel = clock.after(LOOK_MS, () => this.#look())
  }
}

/** What the members of each group state. */
export const statedBy = (all: Iterable<readonly Service[]>): Map<string, Set<string>> => {
  const stated = new Map<string, Set<string>>()
  for (const services of all)
    for (const { kind, name, patterns } of services) {
      if (kind !== 'group') continue
      const known = stated.get(name) ?? new Set()
      for (const pattern of patterns) known.add(pattern)
      stated.set(name, known)
    }
  return stated
}
