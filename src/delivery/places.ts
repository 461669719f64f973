import type { Clock } from '../clock.ts'
import type { Addressee } from '../protocol/addressee.ts'
import type { HandedBack } from '../protocol/settlement.ts'
import { matches } from '../protocol/topics.ts'
import type { Handed, Outgoing, Verdict } from './delivery-lane.ts'
import type { Loaded, Owing } from './ledger.ts'
import { dedupeOf, type Envelope } from './owed-record.ts'
import type { Ending } from './receipt.ts'

/** A member that had no room is offered something again after this, and later and later. */
const BUSY_MS = 20
const BUSY_MAX_MS = 1000

/** A message that is owed to one addressee. */
export class Copy implements Owing {
  readonly loaded: Loaded
  /** Which of the message's addressees this one is. */
  readonly index: number
  /** Not before this time of the clock. */
  readonly dueAt: number
  failures: number
  lastError: string
  /** It may have been handed over before. */
  redelivered: boolean
  /** Whoever held it was lost: it may be why. */
  isSuspect = false
  state: 'waiting' | 'handed' | 'settled' = 'waiting'
  handed: HandedCopy | undefined = undefined
  /** The member that may have it still: it knows what became of it. */
  heldBy: string | undefined = undefined

  constructor(
    loaded: Loaded,
    index: number,
    dueAt: number,
    failures: number,
    lastError: string,
    redelivered: boolean,
  ) {
    this.loaded = loaded
    this.index = index
    this.dueAt = dueAt
    this.failures = failures
    this.lastError = lastError
    this.redelivered = redelivered
  }

  get sequence(): number {
    return this.loaded.sequence
  }

  get dedupe(): Owing['dedupe'] {
    return dedupeOf(this.loaded.envelope, this.loaded.sequence)
  }
}

/** Whose hand-overs they are. */
export interface Giver {
  readonly addressee: Addressee
  /** Failures until a message is given up. */
  readonly maxAttempts: number
  settled(handed: HandedCopy, verdict: Verdict | undefined): void
  /** The member was lost with it in its hands. */
  lost(handed: HandedCopy): void
  /** The way to the member broke, and it is back: it has this still, or never got it. */
  rehand(handed: HandedCopy): void
}

/** Who can do a part of an addressee's work. */
export interface Member {
  readonly id: string
  /** Undefined: any topic. */
  patterns: readonly string[] | undefined
  messages: number
  bytes: number
  leaseMs: number
  /** Whether another message of this size may be given to it now. */
  hasRoom(bytes: number): boolean
  give(handed: HandedCopy): void
}

/** A member, and what it has in hand. */
export interface Place {
  readonly member: Member
  /** How a message ends that it handles: the same for all of them. */
  readonly handled: Ending
  outstanding: number
  outstandingBytes: number
  suspect: Copy | undefined
  busyMs: number
  busyUntil: number
  /** It has no handler for what it was given, until it states that it has. */
  lacksHandler: boolean
}

/** A hand-over that is under way; what of it goes out is read where it is, once. */
export class HandedCopy implements Handed, Outgoing {
  number = 0
  readonly copy: Copy
  readonly place: Place
  readonly giver: Giver
  /** Somebody else may have run it before. */
  readonly redelivered: boolean
  /** It counts no more: the lease has ended. The member may still say that it was handled. */
  isOver = false

  constructor(copy: Copy, place: Place, giver: Giver) {
    this.copy = copy
    this.place = place
    this.giver = giver
    this.redelivered = copy.redelivered
  }

  settled(verdict: Verdict | undefined): void {
    this.giver.settled(this, verdict)
  }

  get kind(): Outgoing['kind'] {
    return this.giver.addressee.kind
  }

  get group(): string {
    const { kind, name } = this.giver.addressee
    return kind === 'group' ? name : ''
  }

  get topic(): string {
    return this.copy.loaded.envelope.topic
  }

  get key(): string | undefined {
    return this.copy.loaded.envelope.key
  }

  get boot(): string {
    return this.copy.loaded.envelope.boot
  }

  get sequence(): number {
    return this.copy.loaded.sequence
  }

  get isOwed(): boolean {
    return true
  }

  get attempt(): number {
    return this.copy.failures + 1
  }

  get isLast(): boolean {
    return this.attempt >= this.giver.maxAttempts
  }
}

/** The members that are there, and which of them gets what next, within their windows. */
export class Places {
  readonly #clock: Clock
  readonly #byId = new Map<string, Place>()
  /** The same, to be gone through for each message without an iterator. */
  #all: readonly Place[] = []
  /** A member that is busy is to be looked at again at this time. */
  readonly #wake: (at: number) => void

  constructor(clock: Clock, wake: (at: number) => void) {
    this.#clock = clock
    this.#wake = wake
  }

  get size(): number {
    return this.#byId.size
  }

  get all(): readonly Place[] {
    return this.#all
  }

  /** It is there from now on, or states anew how much it takes; answers whether it is new. */
  join(member: Member): boolean {
    const known = this.#byId.get(member.id)
    if (known === undefined) {
      this.#byId.set(member.id, {
        ...{ member, handled: { outcome: 'handled', by: member.id } as const },
        ...{ outstanding: 0, outstandingBytes: 0, suspect: undefined, busyMs: 0, busyUntil: 0 },
        lacksHandler: false,
      })
      this.#all = [...this.#byId.values()]
      return true
    }
    const { patterns, messages, bytes, leaseMs } = member
    Object.assign(known.member, { patterns, messages, bytes, leaseMs })
    if (known.lacksHandler) Object.assign(known, { lacksHandler: false, busyUntil: 0 })
    return false
  }

  /** Answers whether it was there. */
  leave(id: string): boolean {
    if (!this.#byId.delete(id)) return false
    this.#all = [...this.#byId.values()]
    return true
  }

  /** Undefined where those that take it have no room. */
  choose(copy: Copy): Place | 'unwanted' | undefined {
    const { envelope, payload } = copy.loaded
    const { key, topic } = envelope
    const holder = copy.heldBy === undefined ? undefined : this.#byId.get(copy.heldBy)
    if (holder !== undefined && this.#mayHave(holder, copy, payload.sizeBytes)) return holder
    if (key !== undefined) {
      const owner = this.#ownerOf(key, topic)
      if (owner === undefined) return 'unwanted'
      return this.#mayHave(owner, copy, payload.sizeBytes) ? owner : undefined
    }
    let best: Place | undefined
    let isWanted = false
    for (const place of this.#all) {
      if (!takes(place.member, topic)) continue
      isWanted = true
      if (best !== undefined && place.outstanding >= best.outstanding) continue
      if (this.#mayHave(place, copy, payload.sizeBytes)) best = place
    }
    return isWanted ? best : 'unwanted'
  }

  /** The id of the member that this key belongs to. */
  ofKey({ key, topic }: Envelope): string | undefined {
    return key === undefined ? undefined : this.#ownerOf(key, topic)?.member.id
  }

  /** Whether it has all in hand that it may have, however small. */
  isFull(id: string): boolean {
    const place = this.#byId.get(id)
    return place !== undefined && place.outstanding >= mostOf(place)
  }

  give(copy: Copy, place: Place, giver: Giver): void {
    const handed = new HandedCopy(copy, place, giver)
    copy.state = 'handed'
    copy.handed = handed
    copy.heldBy = undefined
    place.outstanding++
    place.outstandingBytes += copy.loaded.payload.sizeBytes
    copy.redelivered = true
    if (copy.isSuspect) place.suspect = copy
    place.member.give(handed)
  }

  /** The hand-over counts no more; answers false if it did not before. */
  end(handed: HandedCopy): boolean {
    if (handed.isOver) return false
    handed.isOver = true
    const { copy, place } = handed
    place.outstanding--
    place.outstandingBytes -= copy.loaded.payload.sizeBytes
    if (place.suspect === copy) place.suspect = undefined
    if (copy.handed !== handed) return false
    copy.handed = undefined
    copy.state = 'waiting'
    return true
  }

  /** It gave something back, and gets nothing for a while. */
  handedBack(place: Place, why: HandedBack): void {
    const now = this.#clock.now()
    place.lacksHandler = why === 'no-handler'
    // The others of a burst that was too large say nothing new.
    if (why === 'busy' && place.busyUntil > now) return
    const leastMs = why === 'busy' ? BUSY_MS : BUSY_MAX_MS
    place.busyMs = Math.min(BUSY_MAX_MS, Math.max(leastMs, 2 * place.busyMs))
    place.busyUntil = now + place.busyMs
  }

  /** A key has its own member, whether that has room or not: so it needs no agreement on who is busy. */
  #ownerOf(key: string, topic: string): Place | undefined {
    let owner: Place | undefined
    let highest = Number.NEGATIVE_INFINITY
    for (const place of this.#all) {
      if (!takes(place.member, topic)) continue
      const rank = rendezvous(key, place.member.id)
      if (rank > highest) [owner, highest] = [place, rank]
    }
    return owner
  }

  #mayHave(place: Place, copy: Copy, bytes: number): boolean {
    const { member, outstanding, outstandingBytes, busyUntil, suspect } = place
    if (busyUntil > 0 && busyUntil > this.#clock.now()) {
      this.#wake(busyUntil)
      return false
    }
    if (copy.isSuspect && suspect !== undefined) return false
    if (outstanding >= mostOf(place)) return false
    if (outstanding > 0 && outstandingBytes + bytes > member.bytes) return false
    return member.hasRoom(bytes)
  }
}

/** One message is always allowed, and may be larger than the window. */
const mostOf = ({ member }: Place): number => Math.max(1, member.messages)

const takes = ({ patterns }: Member, topic: string): boolean =>
  patterns === undefined || patterns.some((each) => matches(each, topic))

/** Which member a key belongs to: the highest wins, and a member that comes or goes moves only its own keys. */
const rendezvous = (key: string, id: string): number => {
  let hash = 0x811c9dc5
  for (const text of [key, id]) {
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  }
  return hash >>> 0
}
