import type { Clock } from '../clock.ts'
import type { Addressee } from '../protocol/addressee.ts'
import { bodyBytes } from '../protocol/record.ts'
import { matches } from '../protocol/topics.ts'
import type { Handed, Verdict } from './delivery-lane.ts'
import type { Loaded } from './ledger.ts'
import { Timeline } from './timeline.ts'

/**
 * Messages whose values are kept in memory, while somebody is there to take them and while nobody is; what waits behind
 * them is read when its turn comes.
 */
const LOADED_MAX = 32_768
const LOADED_MAX_ABSENT = 1024
const LOADED_MAX_BYTES = 16 * 1024 * 1024
const LOAD_AT_ONCE = 256
const BACKOFF_MS = 1000
const BACKOFF_MAX_MS = 60_000
/** A member that had no room is offered something again after this, and later and later. */
const BUSY_MS = 20
const BUSY_MAX_MS = 1000
const MAX_PARKED = 256
/** Of all members together; each remembers what it handled until it is told that this is recorded. */
const MAX_HANDLED_BEFORE = 65_536

/** A message that is owed to one addressee. */
export interface Copy {
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
  isSuspect: boolean
  state: 'waiting' | 'handed' | 'settled'
  handed: HandedCopy | undefined
  /** The member that may have it still: it knows what became of it. */
  heldBy: string | undefined
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

/** A hand-over that is under way. */
export class HandedCopy implements Handed {
  number = 0
  readonly copy: Copy
  readonly member: Place
  readonly backlog: Backlog
  /** It counts no more: the lease has ended. The member may still say that it was handled. */
  isOver = false

  constructor(copy: Copy, member: Place, backlog: Backlog) {
    this.copy = copy
    this.member = member
    this.backlog = backlog
  }

  settled(verdict: Verdict | undefined): void {
    this.backlog.settled(this, verdict)
  }
}

/** A member, and what it has in hand. */
export interface Place {
  readonly member: Member
  outstanding: number
  outstandingBytes: number
  suspect: Copy | undefined
  busyMs: number
  busyUntil: number
  /** It has no handler for what it was given, until it states that it has. */
  lacksHandler: boolean
}

export interface BacklogOptions {
  readonly addressee: Addressee
  readonly clock: Clock
  readonly maxAttempts: number
  load(sequences: readonly number[]): Promise<(Copy | undefined)[]>
  /** It is not kept in memory: it is loaded again when its turn comes. */
  unloaded(copy: Copy): void
  handled(copy: Copy, by: string): void
  failed(copy: Copy): void
  /** It was tried often enough, or cannot be handled at all. */
  died(copy: Copy, reason: 'attempts' | 'rejected', by: string): void
  fault(error: unknown): void
}

/**
 * Everything that is owed to one addressee, and which of its members gets what next: in order, within their windows,
 * one at a time for each key, and what may have killed a member one at a time.
 */
export class Backlog {
  readonly addressee: Addressee
  readonly #options: BacklogOptions
  readonly #places = new Map<string, Place>()
  /** Those that were loaded and wait for their first hand-over, in order. */
  #ready: Copy[] = []
  #head = 0
  #readyBytes = 0
  /** Those that come before all others: handed back, or due again. */
  #urgent: Copy[] = []
  #suspects: Copy[] = []
  /** The first of their keys, whose member had no room. */
  #parked: Copy[] = []
  /** Sequences of what is not loaded, behind everything that is. */
  #unloaded: number[] = []
  #unloadedHead = 0
  #isLoading = false
  /** Topics that none of the members there takes. */
  #unwanted: Copy[] = []
  /** For each key in hand: what waits behind it. */
  readonly #keys = new Map<string, Copy[]>()
  #behind = 0
  readonly #later: Timeline<Copy>
  /** What has expired before it was loaded. */
  readonly #dropped = new Set<number>()
  /** What a member has handled before it was asked again: it is not handed over meanwhile. */
  readonly #handledBefore = new Map<number, { readonly boot: string; readonly by: string }>()
  #size = 0
  #bytes = 0
  #expectedBytes = 0
  #isPumping = false
  #wakeAt = Number.POSITIVE_INFINITY
  #cancelWake: (() => void) | undefined
  #isClosed = false

  constructor(options: BacklogOptions) {
    this.#options = options
    this.addressee = options.addressee
    this.#later = new Timeline(options.clock, (copy) => this.#again(copy))
  }

  /** Messages that are not settled. */
  get size(): number {
    return this.#size
  }

  /** Bytes of their values, and of those that are still to come. */
  get bytes(): number {
    return this.#bytes + this.#expectedBytes
  }

  /** So much more is on its way to the disk, or less. */
  expect(bytes: number): void {
    this.#expectedBytes += bytes
  }

  /** Whether a member has something in hand. */
  get isBusy(): boolean {
    for (const { outstanding } of this.#places.values()) if (outstanding > 0) return true
    return false
  }

  get members(): IterableIterator<Place> {
    return this.#places.values()
  }

  /** What was found in the journal, in order. */
  restore(sequences: readonly number[], bytes: number): void {
    this.#unloaded = [...sequences]
    this.#size += sequences.length
    this.#bytes += bytes
  }

  add(copy: Copy): void {
    this.#size++
    const { payload, sequence } = copy.loaded
    this.#bytes += bodyBytes(payload)
    const most = this.#places.size > 0 ? LOADED_MAX : LOADED_MAX_ABSENT
    const isFull = this.#ready.length - this.#head >= most || this.#readyBytes >= LOADED_MAX_BYTES
    if (this.#unloadedHead < this.#unloaded.length || isFull) {
      this.#unloaded.push(sequence)
      this.#options.unloaded(copy)
    } else {
      this.#readyBytes += payload.sizeBytes
      this.#ready.push(copy)
    }
    this.pump()
  }

  /** Somebody does a part of the work from now on, or states anew how much of it. */
  join(member: Member): void {
    const known = this.#places.get(member.id)
    if (known === undefined)
      this.#places.set(member.id, {
        ...{ member, outstanding: 0, outstandingBytes: 0, suspect: undefined, busyMs: 0, busyUntil: 0 },
        lacksHandler: false,
      })
    else {
      const { patterns, messages, bytes, leaseMs } = member
      Object.assign(known.member, { patterns, messages, bytes, leaseMs })
      if (known.lacksHandler) Object.assign(known, { lacksHandler: false, busyUntil: 0 })
    }
    this.#urgent.unshift(...this.#unwanted.splice(0))
    this.pump()
  }

  /** It takes nothing new. What it has in hand it may still settle. */
  leave(id: string): void {
    this.#places.delete(id)
  }

  /** A member was lost with this in its hands. */
  lost(handed: HandedCopy): void {
    const { copy, member } = handed
    if (!this.#end(handed)) return
    if (member.suspect === copy || copy.isSuspect) {
      this.#fail(copy, 'the member that was handling it was lost', member.member.id)
      return
    }
    copy.isSuspect = true
    this.#suspects.push(copy)
    this.pump()
  }

  /** The way to the member broke, and it is back: it has this still, or never got it. */
  rehand(handed: HandedCopy): void {
    if (!this.#end(handed)) return
    handed.copy.heldBy = handed.member.member.id
    this.#urgent.push(handed.copy)
    this.pump()
  }

  /** A member says that it handled this before, by its id: whoever comes to it first settles it. */
  handledBefore(boot: string, sequence: number, by: string): void {
    if (this.#handledBefore.size >= MAX_HANDLED_BEFORE)
      this.#handledBefore.delete(this.#handledBefore.keys().next().value!)
    this.#handledBefore.set(sequence, { boot, by })
  }

  /** Answers false if it is settled meanwhile. */
  takeHandledBefore(sequence: number): boolean {
    return this.#handledBefore.delete(sequence)
  }

  /** What of this number waits here and is loaded. */
  find(sequence: number): Copy | undefined {
    return this.#waiting().find((copy) => copy.loaded.sequence === sequence)
  }

  /** Whether it is owed here and has not been read since it was written. */
  isUnloaded(sequence: number): boolean {
    return !this.#dropped.has(sequence) && this.#unloaded.includes(sequence, this.#unloadedHead)
  }

  settled(handed: HandedCopy, verdict: Verdict | undefined): void {
    const { copy, member } = handed
    const by = member.member.id
    if (verdict === undefined) {
      // A late success settles it, too, unless somebody else has it in hand by now: then that one's word counts.
      const isMine = this.#end(handed)
      if (!isMine && copy.state !== 'waiting') return
      member.busyMs = 0
      this.#done(copy)
      this.#options.handled(copy, by)
      this.pump()
      return
    }
    if (!this.#end(handed)) return
    switch (verdict.kind) {
      case 'handed-back':
        this.#busy(member, verdict.why === 'busy' ? BUSY_MS : BUSY_MAX_MS)
        member.lacksHandler = verdict.why === 'no-handler'
        this.#urgent.push(copy)
        break
      case 'later':
        this.#wait(copy, verdict.delayMs)
        break
      case 'rejected':
        copy.failures++
        copy.lastError = `${verdict.code}: ${verdict.text}`
        this.#die(copy, 'rejected', by)
        break
      default:
        this.#fail(copy, `${verdict.code}: ${verdict.text}`, by)
    }
    this.pump()
  }

  /** It has expired, whether it is loaded or not, and whatever a member still makes of it. */
  drop(copy: Copy): void {
    if (copy.handed !== undefined) this.#end(copy.handed)
    if (this.#unloadedHead < this.#unloaded.length) this.#dropped.add(copy.loaded.sequence)
    this.#done(copy)
    this.pump()
  }

  /** Nobody is owed anything here any more: answers what was, and the sequences of what was not loaded. */
  clear(): { copies: Copy[]; unloaded: number[] } {
    this.close()
    const copies = this.#waiting()
    for (const { handed } of copies) if (handed !== undefined) this.#end(handed)
    const open = copies.filter(({ state }) => state !== 'settled')
    for (const copy of open) copy.state = 'settled'
    this.#size = 0
    return { copies: open, unloaded: this.#unloaded.slice(this.#unloadedHead) }
  }

  /** What is loaded and in nobody's hand, keys that are in hand excepted. */
  #waiting(): Copy[] {
    const queued = [
      ...this.#suspects,
      ...this.#urgent,
      ...this.#unwanted,
      ...this.#ready.slice(this.#head),
      ...this.#later.items(),
    ]
    return [...new Set([...queued, ...[...this.#keys.values()].flat()])]
  }

  /** Gives out what can be given out. */
  pump(): void {
    if (this.#isPumping || this.#isClosed) return
    this.#isPumping = true
    try {
      while (this.#step()) {}
    } finally {
      this.#isPumping = false
    }
    void this.#loadMore()
  }

  close(): void {
    this.#isClosed = true
    this.#cancelWake?.()
    this.#later.close()
  }

  #step(): boolean {
    if (this.#places.size === 0) return false
    if (this.#suspects.length > 0 && this.#try(this.#suspects[0]!)) {
      this.#suspects.shift()
      return true
    }
    const unparked = this.#parked.findIndex((copy) => this.#try(copy))
    if (unparked >= 0) {
      this.#parked.splice(unparked, 1)
      return true
    }
    if (this.#urgent.length > 0) {
      if (!this.#try(this.#urgent[0]!)) return false
      this.#urgent.shift()
      return true
    }
    const copy = this.#ready[this.#head]
    if (copy === undefined) return false
    if (!this.#try(copy)) return false
    this.#readyBytes -= copy.loaded.payload.sizeBytes
    this.#ready[this.#head++] = undefined as never
    if (this.#head === this.#ready.length || this.#head >= 1024) {
      this.#ready.splice(0, this.#head)
      this.#head = 0
    }
    return true
  }

  /** Whether the copy need not stand in its queue any more: handed over, put behind its key, or settled. */
  #try(copy: Copy): boolean {
    if (copy.state !== 'waiting') return true
    const { sequence, envelope } = copy.loaded
    const before = this.#handledBefore.get(sequence)
    if (before !== undefined && before.boot === envelope.boot) {
      this.#handledBefore.delete(sequence)
      this.#done(copy)
      this.#options.handled(copy, before.by)
      return true
    }
    if (copy.dueAt > this.#options.clock.now()) {
      this.#later.add(copy.dueAt, copy)
      return true
    }
    const { key } = envelope
    const behind = key === undefined ? undefined : this.#keys.get(key)
    if (behind !== undefined && behind[0] !== copy) {
      // Values of one key that is not handled must not fill the memory.
      if (this.#behind >= LOADED_MAX) return false
      this.#behind++
      behind.push(copy)
      return true
    }
    const place = this.#choose(copy)
    if (place === 'unwanted') {
      if (this.#unwanted.length >= LOADED_MAX) return false
      this.#unwanted.push(copy)
      return true
    }
    if (place === undefined) {
      if (key === undefined || behind !== undefined || this.#parked.length >= MAX_PARKED) return false
      // The member of this key has no room: that is no reason for others to wait.
      this.#keys.set(key, [copy])
      this.#parked.push(copy)
      return true
    }
    if (key !== undefined && behind === undefined) this.#keys.set(key, [copy])
    this.#give(copy, place)
    return true
  }

  #give(copy: Copy, place: Place): void {
    const handed = new HandedCopy(copy, place, this)
    copy.state = 'handed'
    copy.handed = handed
    copy.heldBy = undefined
    place.outstanding++
    place.outstandingBytes += copy.loaded.payload.sizeBytes
    if (copy.isSuspect) place.suspect = copy
    place.member.give(handed)
    copy.redelivered = true
  }

  /** Undefined where those that take it have no room. */
  #choose(copy: Copy): Place | 'unwanted' | undefined {
    const { envelope, payload } = copy.loaded
    const now = this.#options.clock.now()
    const holder = copy.heldBy === undefined ? undefined : this.#places.get(copy.heldBy)
    if (holder !== undefined && this.#mayHave(holder, copy, payload.sizeBytes, now)) return holder
    let best: Place | undefined
    let bestRank = Number.NEGATIVE_INFINITY
    let isWanted = false
    for (const place of this.#places.values()) {
      const { member, outstanding } = place
      if (member.patterns !== undefined && !member.patterns.some((each) => matches(each, envelope.topic)))
        continue
      isWanted = true
      if (envelope.key !== undefined) {
        // A key has its own member, whether that has room or not: so it needs no agreement on who is busy.
        const rank = rendezvous(envelope.key, member.id)
        if (rank > bestRank) [best, bestRank] = [place, rank]
        continue
      }
      if (!this.#mayHave(place, copy, payload.sizeBytes, now)) continue
      if (-outstanding > bestRank) [best, bestRank] = [place, -outstanding]
    }
    if (!isWanted) return 'unwanted'
    if (best === undefined || envelope.key === undefined) return best
    return this.#mayHave(best, copy, payload.sizeBytes, now) ? best : undefined
  }

  #mayHave(place: Place, copy: Copy, bytes: number, now: number): boolean {
    const { member, outstanding, outstandingBytes, busyUntil, suspect } = place
    if (busyUntil > now) {
      this.#wake(busyUntil)
      return false
    }
    if (copy.isSuspect && suspect !== undefined) return false
    // One message is always allowed, and may be larger than the window.
    if (outstanding >= Math.max(1, member.messages)) return false
    if (outstanding > 0 && outstandingBytes + bytes > member.bytes) return false
    return member.hasRoom(bytes)
  }

  /** The hand-over counts no more; answers false if it did not before. */
  #end(handed: HandedCopy): boolean {
    if (handed.isOver) return false
    handed.isOver = true
    const { copy, member } = handed
    member.outstanding--
    member.outstandingBytes -= copy.loaded.payload.sizeBytes
    if (member.suspect === copy) member.suspect = undefined
    if (copy.handed !== handed) return false
    copy.handed = undefined
    copy.state = 'waiting'
    return true
  }

  #done(copy: Copy): void {
    if (copy.state === 'settled') return
    copy.state = 'settled'
    this.#size--
    this.#bytes = this.#size === 0 ? 0 : this.#bytes - bodyBytes(copy.loaded.payload)
    this.#freeKey(copy)
  }

  /** Whatever waits behind its key may go. */
  #freeKey(copy: Copy): void {
    const { key } = copy.loaded.envelope
    const behind = key === undefined ? undefined : this.#keys.get(key)
    if (key === undefined || behind === undefined || behind[0] !== copy) return
    behind.shift()
    while (behind.length > 0 && behind[0]!.state === 'settled') {
      behind.shift()
      this.#behind--
    }
    if (behind.length === 0) this.#keys.delete(key)
    else {
      this.#behind--
      this.#urgent.push(behind[0]!)
    }
  }

  #fail(copy: Copy, error: string, by: string): void {
    copy.failures++
    copy.lastError = error
    if (copy.failures >= this.#options.maxAttempts) {
      this.#die(copy, 'attempts', by)
      return
    }
    this.#options.failed(copy)
    const longest = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (copy.failures - 1))
    this.#wait(copy, longest * (0.5 + this.#options.clock.random() / 2))
  }

  #die(copy: Copy, reason: 'attempts' | 'rejected', by: string): void {
    this.#done(copy)
    this.#options.died(copy, reason, by)
  }

  #wait(copy: Copy, delayMs: number): void {
    this.#later.add(this.#options.clock.now() + delayMs, copy)
  }

  #again(copy: Copy): void {
    if (copy.state !== 'waiting') return
    if (copy.isSuspect) this.#suspects.push(copy)
    else this.#urgent.push(copy)
    this.pump()
  }

  #busy(place: Place, leastMs: number): void {
    // The others of a burst that was too large say nothing new.
    if (leastMs === BUSY_MS && place.busyUntil > this.#options.clock.now()) return
    place.busyMs = Math.min(BUSY_MAX_MS, Math.max(leastMs, 2 * place.busyMs))
    place.busyUntil = this.#options.clock.now() + place.busyMs
  }

  #wake(at: number): void {
    if (at >= this.#wakeAt) return
    this.#cancelWake?.()
    this.#wakeAt = at
    const { clock } = this.#options
    this.#cancelWake = clock.after(Math.max(1, Math.ceil(at - clock.now())), () => {
      this.#wakeAt = Number.POSITIVE_INFINITY
      this.pump()
    })
  }

  async #loadMore(): Promise<void> {
    const isLow = this.#ready.length - this.#head < LOAD_AT_ONCE
    if (this.#isLoading || this.#isClosed || !isLow || this.#places.size === 0) return
    const from = this.#unloadedHead
    const sequences = this.#unloaded.slice(from, from + LOAD_AT_ONCE)
    if (sequences.length === 0) return
    this.#isLoading = true
    try {
      const copies = await this.#options.load(sequences)
      this.#unloadedHead += sequences.length
      if (this.#unloadedHead >= this.#unloaded.length || this.#unloadedHead > 65_536) {
        this.#unloaded = this.#unloaded.slice(this.#unloadedHead)
        this.#unloadedHead = 0
        if (this.#unloaded.length === 0) this.#dropped.clear()
      }
      for (const [at, copy] of copies.entries()) {
        if (this.#dropped.delete(sequences[at]!)) continue
        if (copy === undefined) {
          this.#size--
          continue
        }
        this.#readyBytes += copy.loaded.payload.sizeBytes
        this.#ready.push(copy)
      }
    } catch (error) {
      this.#options.fault(error)
      this.#wake(this.#options.clock.now() + BUSY_MAX_MS)
      return
    } finally {
      this.#isLoading = false
    }
    this.pump()
  }
}

/** Which member a key belongs to: the highest wins, and a member that comes or goes moves only its own keys. */
const rendezvous = (key: string, id: string): number => {
  let hash = 0x811c9dc5
  for (const text of [key, id]) {
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  }
  return hash >>> 0
}
