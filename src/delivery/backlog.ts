import type { Clock } from '../clock.ts'
import type { Addressee } from '../protocol/addressee.ts'
import { bodyBytes } from '../protocol/record.ts'
import type { Verdict } from './delivery-lane.ts'
import { KeyLines } from './key-lines.ts'
import { Parked } from './parked.ts'
import { type Copy, type Giver, type HandedCopy, type Member, Places } from './places.ts'
import type { Ending } from './receipt.ts'
import { Timeline } from './timeline.ts'
import { SequenceQueue, Unloaded } from './unloaded.ts'

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
const LOAD_AGAIN_MS = 1000
/** Of what waits for its time: there may be millions. */
const DELAYED_MAX = 1024
/** Of all members together; each remembers what it handled until it is told that this is recorded. */
const MAX_HANDLED_BEFORE = 65_536

export interface BacklogOptions {
  readonly addressee: Addressee
  readonly clock: Clock
  readonly maxAttempts: number
  load(sequences: readonly number[]): Promise<(Copy | undefined)[]>
  /** It is not kept in memory: it is loaded again when its turn comes. */
  unloaded(copy: Copy): void
  handled(copy: Copy, ending: Ending): void
  failed(copy: Copy): void
  /** It was tried often enough, or cannot be handled at all. */
  died(copy: Copy, reason: 'attempts' | 'rejected', by: string): void
  fault(error: unknown): void
}

/**
 * Everything that is owed to one addressee, and which of its members gets what next: in order, within their windows,
 * one at a time for each key, and what may have killed a member one at a time.
 */
export class Backlog implements Giver {
  readonly addressee: Addressee
  readonly maxAttempts: number
  readonly #options: BacklogOptions
  readonly #places: Places
  /** Those that were loaded and wait for their first hand-over, in order. */
  #ready: Copy[] = []
  #head = 0
  #readyBytes = 0
  /** Those that come before all others: handed back, or due again. */
  #urgent: Copy[] = []
  #suspects: Copy[] = []
  readonly #parked = new Parked()
  readonly #unloaded: Unloaded
  /** What is not loaded, behind everything that is. */
  readonly #behind = new SequenceQueue()
  /** What is not loaded and whose time has come. */
  readonly #due = new SequenceQueue()
  #isLoading = false
  /** Topics that none of the members there takes. */
  #unwanted: Copy[] = []
  readonly #lines: KeyLines
  /** What waits for its time; sequences of what is not loaded. */
  readonly #later: Timeline<Copy | number>
  /** What a member has handled before it was asked again: it is not handed over meanwhile. */
  readonly #handledBefore = new Map<number, { readonly boot: string; readonly by: string }>()
  #size = 0
  #bytes = 0
  #expected = 0
  #expectedBytes = 0
  #isPumping = false
  #wakeAt = Number.POSITIVE_INFINITY
  #cancelWake: (() => void) | undefined
  #isClosed = false
  /** How all of it has ended. */
  givenUp: 'gone' | 'forgotten' | undefined = undefined

  constructor(options: BacklogOptions) {
    this.#options = options
    this.addressee = options.addressee
    this.maxAttempts = options.maxAttempts
    this.#places = new Places(options.clock, (at) => this.#wake(at))
    this.#later = new Timeline(options.clock, (item) => this.#again(item))
    this.#unloaded = new Unloaded({ ...options, lost: () => this.#lose() })
    this.#lines = new KeyLines({
      clock: options.clock,
      unloaded: this.#unloaded,
      next: (copy) => this.#again(copy),
      fault: options.fault,
    })
  }

  /** Messages that are not settled. */
  get size(): number {
    return this.#size
  }

  /** Bytes of their values, and of those that are still to come. */
  get bytes(): number {
    return this.#bytes + this.#expectedBytes
  }

  /** So many more messages are on their way to the disk, or fewer. */
  expect(messages: number, bytes: number): void {
    this.#expected += messages
    this.#expectedBytes += bytes
  }

  /** Whether a member has something in hand. */
  get isBusy(): boolean {
    for (const { outstanding } of this.#places.all) if (outstanding > 0) return true
    return false
  }

  /** Nothing is owed here, nor on its way. */
  get isIdle(): boolean {
    return this.#size === 0 && this.#expected === 0 && !this.isBusy
  }

  get members(): Places {
    return this.#places
  }

  /** What was found in the journal, in order. */
  restore(sequences: readonly number[], bytes: number): void {
    this.#behind.append(sequences)
    this.#unloaded.restore(sequences.length)
    this.#size += sequences.length
    this.#bytes += bytes
  }

  add(copy: Copy): void {
    this.#size++
    const { payload } = copy.loaded
    this.#bytes += bodyBytes(payload)
    const most = this.#places.size > 0 ? LOADED_MAX : LOADED_MAX_ABSENT
    const isFull = this.#ready.length - this.#head >= most || this.#readyBytes >= LOADED_MAX_BYTES
    if (this.#behind.length > 0 || isFull) this.#behind.push(this.#unloaded.add(copy))
    else {
      this.#readyBytes += payload.sizeBytes
      this.#ready.push(copy)
    }
    this.pump()
  }

  /** Somebody does a part of the work from now on, or states anew how much of it. */
  join(member: Member): void {
    if (this.#places.join(member)) this.#unpark()
    this.#urgent = [...this.#unwanted.splice(0), ...this.#urgent]
    this.pump()
  }

  /** It takes nothing new. What it has in hand it may still settle. */
  leave(id: string): void {
    if (!this.#places.leave(id)) return
    this.#unpark()
    this.pump()
  }

  lost(handed: HandedCopy): void {
    const { copy, place } = handed
    if (!this.#places.end(handed) || this.#wasHandled(copy)) return
    if (copy.isSuspect) {
      this.#fail(copy, 'the member that was handling it was lost', place.member.id)
      return
    }
    copy.isSuspect = true
    this.#suspects.push(copy)
    this.pump()
  }

  rehand(handed: HandedCopy): void {
    if (!this.#places.end(handed)) return
    handed.copy.heldBy = handed.place.member.id
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
    if (this.#unloaded.isDropped(sequence)) return false
    const isQueued = this.#behind.includes(sequence) || this.#due.includes(sequence)
    return isQueued || this.#lines.hasUnloaded(sequence) || this.#later.items().includes(sequence)
  }

  settled(handed: HandedCopy, verdict: Verdict | undefined): void {
    const { copy, place } = handed
    if (verdict === undefined) {
      // A late success settles it, too, unless somebody else has it in hand by now: then that one's word counts.
      const isMine = this.#places.end(handed)
      if (!isMine && copy.state !== 'waiting') return
      place.busyMs = 0
      this.#done(copy)
      this.#options.handled(copy, place.handled)
      this.pump()
      return
    }
    if (!this.#places.end(handed) || this.#wasHandled(copy)) return
    const by = place.member.id
    switch (verdict.kind) {
      case 'handed-back':
        this.#places.handedBack(place, verdict.why)
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
    if (copy.handed !== undefined) this.#places.end(copy.handed)
    this.#unloaded.drop(copy.sequence)
    this.#done(copy)
    this.pump()
  }

  /** Nothing is owed here any more: answers what was, and the sequences of what was not loaded. */
  giveUp(as: 'gone' | 'forgotten'): { copies: Copy[]; unloaded: number[] } {
    const copies = this.#waiting()
    const delayed = this.#later.items().filter((item) => typeof item === 'number')
    const unloaded = [...this.#behind, ...this.#due, ...this.#lines.unloaded(), ...delayed]
    this.close()
    this.givenUp = as
    for (const { handed } of copies) if (handed !== undefined) this.#places.end(handed)
    const open = copies.filter(({ state }) => state !== 'settled')
    for (const copy of open) copy.state = 'settled'
    this.#size = 0
    return { copies: open, unloaded }
  }

  /** What is loaded and in nobody's hand, keys that are in hand excepted. */
  #waiting(): Copy[] {
    const queued = [
      ...this.#suspects,
      ...this.#urgent,
      ...this.#unwanted,
      ...this.#ready.slice(this.#head),
      ...this.#later.items().filter((item) => typeof item !== 'number'),
    ]
    return [...new Set([...queued, ...this.#lines])]
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
    if (this.#places.size === 0 || this.#isLoading) return
    if (this.#due.length > 0 && this.#urgent.length < LOAD_AT_ONCE) void this.#load(this.#due)
    else if (this.#behind.length > 0 && this.#ready.length - this.#head < LOAD_AT_ONCE)
      void this.#load(this.#behind)
  }

  close(): void {
    this.#isClosed = true
    this.#cancelWake?.()
    this.#later.close()
    this.#lines.close()
  }

  #step(): boolean {
    if (this.#places.size === 0) return false
    if (this.#suspects.length > 0 && this.#try(this.#suspects[0]!)) {
      this.#suspects.shift()
      return true
    }
    if (this.#parked.takeFirst(this.#tryParked)) return true
    const urgent = this.#urgent[0]
    if (urgent !== undefined) {
      if (!this.#try(urgent) && !this.#park(urgent)) return false
      this.#urgent.shift()
      return true
    }
    const copy = this.#ready[this.#head]
    if (copy === undefined || (!this.#try(copy) && !this.#park(copy))) return false
    this.#readyBytes -= copy.loaded.payload.sizeBytes
    this.#ready[this.#head++] = undefined as never
    if (this.#head === this.#ready.length || this.#head >= 1024) {
      this.#ready.splice(0, this.#head)
      this.#head = 0
    }
    return true
  }

  readonly #tryParked = (copy: Copy, member: string): boolean =>
    !this.#places.isFull(member) && this.#try(copy)

  /** Whether the copy need not stand in its queue any more: handed over, put behind its key, or settled. */
  #try(copy: Copy): boolean {
    if (copy.state !== 'waiting') return true
    if (this.#wasHandled(copy)) return true
    if (copy.dueAt > 0 && copy.dueAt > this.#options.clock.now()) {
      this.#later.add(copy.dueAt, this.#later.size < DELAYED_MAX ? copy : this.#unloaded.add(copy))
      return true
    }
    if (this.#lines.isBehind(copy)) {
      this.#lines.queue(copy)
      return true
    }
    const place = this.#places.choose(copy)
    if (place === 'unwanted') {
      if (this.#unwanted.length >= LOADED_MAX) return false
      this.#unwanted.push(copy)
      return true
    }
    if (place === undefined) return false
    this.#lines.open(copy)
    this.#places.give(copy, place, this)
    return true
  }

  #park(copy: Copy): boolean {
    if (this.#parked.isFull) return false
    const member = this.#places.ofKey(copy.loaded.envelope)
    if (member === undefined) return false
    this.#lines.open(copy)
    this.#parked.add(member, copy)
    return true
  }

  /** Keys have other members now. */
  #unpark(): void {
    this.#urgent = [...this.#parked.takeAll(), ...this.#urgent]
  }

  /** Whether a member has handled it, as that one says since it was handed over, or is to be: then it is settled. */
  #wasHandled(copy: Copy): boolean {
    const { sequence, envelope } = copy.loaded
    const before = this.#handledBefore.get(sequence)
    if (before === undefined || before.boot !== envelope.boot) return false
    this.#done(copy)
    this.#options.handled(copy, { outcome: 'handled', by: before.by })
    this.pump()
    return true
  }

  #done(copy: Copy): void {
    if (copy.state === 'settled') return
    copy.state = 'settled'
    this.#handledBefore.delete(copy.loaded.sequence)
    this.#size--
    this.#bytes = this.#size === 0 ? 0 : this.#bytes - bodyBytes(copy.loaded.payload)
    const next = this.#lines.leave(copy)
    if (next !== undefined) this.#urgent.push(next)
  }

  #fail(copy: Copy, error: string, by: string): void {
    copy.failures++
    copy.lastError = error
    if (copy.failures >= this.maxAttempts) {
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

  #again(item: Copy | number): void {
    if (typeof item === 'number') this.#due.push(item)
    else if (item.state !== 'waiting') return
    else if (item.isSuspect) this.#suspects.push(item)
    else this.#urgent.push(item)
    this.pump()
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

  async #load(queue: SequenceQueue): Promise<void> {
    const sequences = queue.first(LOAD_AT_ONCE)
    this.#isLoading = true
    try {
      const copies = await this.#unloaded.read(sequences)
      queue.shift(sequences.length)
      if (queue === this.#due) this.#urgent.push(...copies)
      else {
        for (const copy of copies) this.#readyBytes += copy.loaded.payload.sizeBytes
        this.#ready.push(...copies)
      }
    } catch (error) {
      this.#options.fault(error)
      this.#wake(this.#options.clock.now() + LOAD_AGAIN_MS)
      return
    } finally {
      this.#isLoading = false
    }
    this.pump()
  }

  /** How large it was is lost as well. */
  #lose(): void {
    this.#bytes -= this.#bytes / this.#size
    this.#size--
  }
}
