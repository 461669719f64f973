import type { Chance } from '../chance.ts'
import type { Task } from '../schedule.ts'
import type { VirtualClock } from '../virtual-clock.ts'
import type { Conditions } from './conditions.ts'

export type Road = 'control' | 'feed' | 'delivery'

/** As ZeroMQ's high-water mark: so many batches wait before the wire, and as many unread behind it. */
export const HIGH_WATER_BATCHES = 64
/** The sender is told of free room only when as many have left. */
const LOW_WATER_BATCHES = HIGH_WATER_BATCHES / 2
/** What the kernels at both ends hold. */
const WIRE_BYTES = 1024 * 1024
/** TCP sends again what nobody acknowledged after this, and then after twice as long each time. */
const RETRANSMIT_MS = 200
const HELD_BACK_MS = 10

/** The connection that a pipe is one direction of. */
export interface Line {
  readonly road: Road
  readonly clock: VirtualClock
  readonly chance: Chance
  /** Names it at the end that was dialled. */
  readonly route: string
  /** From the end that was dialled to the one that dialled. */
  readonly back: Pipe
  /** Whether a packet of this direction gets through now. */
  isOpen(pipe: Pipe): boolean
  conditions(pipe: Pipe): Conditions
  delay(pipe: Pipe): number
  /** Waits to be called back when packets may get through again. */
  stuck(pipe: Pipe): void
  happened(what: 'arrived' | 'dropped' | 'held back', pipe: Pipe, bytes: number): void
  /** Everything under way is lost, and both ends learn of it. */
  break(why: 'reset' | 'frame too large', by?: Pipe): void
  /** The last of what a closed end had sent has arrived. */
  ended(pipe: Pipe): void
  close(end: LineEnd): void
}

/** Where batches arrive. */
export interface Sink {
  readonly maxFrameBytes: number
  arrived(pipe: Pipe, frames: Buffer[]): void
}

export interface LineEnd {
  readonly sink: Sink
  /** The connection is gone; after an offence against the protocol, who dialled does not dial again. */
  lost(line: Line, offended: boolean): void
}

interface Flight {
  at: number
  /** Undefined: the end of all. */
  readonly frames: Buffer[] | undefined
  readonly bytes: number
}

/**
 * One direction of one connection: batches wait before the wire (at most 64), are under way (at most 1 MiB), and wait
 * unread (at most 64), so whoever does not read holds up whoever sends, in the end.
 */
export class Pipe implements Task {
  /** A message was dropped because this was full: it is passed over until it has room again, as XPUB does. */
  isPassedOver = false
  /** Called when there is room again. */
  roomy: (() => void) | undefined
  /** What has arrived and was not yet read. */
  unread: Buffer[][] | undefined
  #line: Line | undefined
  #sink: Sink | undefined
  // Most connections are idle at most times: what they hold is made when it is needed.
  #waiting: Buffer[][] | undefined
  #flying: Flight[] | undefined
  #flyingBytes = 0
  /** Batches that count against the high-water mark, and those that have left since the sender was told. */
  #held = 0
  #left = 0
  /** When the latest batch arrives that nothing may overtake. */
  #lastAt = 0
  /** When this is called next; later calls are left over from what is lost. */
  #callAt = Number.POSITIVE_INFINITY
  /** Since when nothing gets through. */
  #stuckAt: number | undefined
  /** The connection has broken: only what waits before the wire is left. */
  #isCut = false

  get line(): Line {
    return this.#line!
  }

  get isOpen(): boolean {
    return this.line.isOpen(this)
  }

  get hasRoom(): boolean {
    return this.#held < HIGH_WATER_BATCHES
  }

  /** The connection stands: what waits leaves. */
  connect(line: Line, sink: Sink): void {
    this.#line = line
    this.#sink = sink
    this.#fill()
  }

  /** Takes a batch, whether there is room or not. */
  write(frames: Buffer[]): void {
    this.#held++
    if (this.#waiting === undefined && this.#isWireFree()) this.#launch(frames)
    else if (this.#waiting === undefined) this.#waiting = [frames]
    else this.#waiting.push(frames)
  }

  /** Nothing more comes from this end: what waits is lost, what is under way arrives, and the end behind it. */
  end(): void {
    this.#waiting = undefined
    if (this.#line !== undefined && !this.#isCut) this.#fly(undefined, 0, this.#line.delay(this))
  }

  /** The connection has broken: whatever is under way is lost. Answers how many batches were. */
  cut(): number {
    this.#isCut = true
    const lost = this.#flying?.filter((flight) => flight.frames !== undefined).length ?? 0
    this.#flying = undefined
    return lost
  }

  /** The same for the next connection: what still waits before the wire goes with it. */
  renewed(): Pipe {
    const next = new Pipe()
    next.roomy = this.roomy
    next.#waiting = this.#waiting
    next.#held = this.#waiting?.length ?? 0
    this.#waiting = undefined
    this.roomy = undefined
    return next
  }

  /** Packets get through again. */
  retry(): void {
    const head = this.#flying?.[0]
    if (head !== undefined && this.#stuckAt !== undefined) {
      head.at = nextRetransmit(this.#stuckAt, this.line.clock.now()) + this.line.delay(this)
      this.#lastAt = Math.max(this.#lastAt, head.at)
    }
    this.#stuckAt = undefined
    this.#plan()
  }

  /** One of the unread has been read. */
  proceed(): void {
    this.#plan()
  }

  /** What is due arrives, one batch at a time, so that what one brings about goes before the next. */
  run(): void {
    const { clock } = this.line
    const now = clock.now()
    if (now >= this.#callAt) this.#callAt = Number.POSITIVE_INFINITY
    const head = this.#flying?.[0]
    if (head !== undefined && head.at <= now && this.#stuckAt === undefined && !this.#isUnreadFull()) {
      if (this.isOpen) this.#land(head)
      else this.#stick()
    }
    this.#plan()
  }

  #isUnreadFull(): boolean {
    return this.unread !== undefined && this.unread.length >= HIGH_WATER_BATCHES
  }

  #isWireFree(): boolean {
    return this.#line !== undefined && !this.#isCut && this.#flyingBytes < WIRE_BYTES
  }

  #land(flight: Flight): void {
    this.#flying!.shift()
    if (this.#flying!.length === 0) this.#flying = undefined
    this.#flyingBytes -= flight.bytes
    const { frames } = flight
    if (frames === undefined) return this.line.ended(this)
    this.line.happened('arrived', this, flight.bytes)
    const sink = this.#sink!
    if (frames.some((frame) => frame.length > sink.maxFrameBytes)) {
      this.line.break('frame too large', this)
      return
    }
    this.#fill()
    sink.arrived(this, frames)
  }

  #fill(): void {
    while (this.#waiting !== undefined && this.#isWireFree()) {
      const frames = this.#waiting.shift()!
      if (this.#waiting.length === 0) this.#waiting = undefined
      this.#launch(frames)
    }
  }

  #launch(frames: Buffer[]): void {
    if (++this.#left === LOW_WATER_BATCHES) {
      this.#held -= LOW_WATER_BATCHES
      this.#left = 0
      this.isPassedOver = false
      this.roomy?.()
    }
    const bytes = frames.reduce((total, frame) => total + frame.length, 0)
    const { line } = this
    const { chance } = line
    const { drop, reorder, reset } = line.conditions(this)
    if (chance.happens(reset)) {
      this.#fly(frames, bytes, 0)
      line.break('reset')
      return
    }
    if (chance.happens(drop)) {
      line.happened('dropped', this, bytes)
      return
    }
    let delayMs = line.delay(this)
    const isHeldBack = chance.happens(reorder)
    if (isHeldBack) {
      delayMs += chance.between(0, HELD_BACK_MS)
      line.happened('held back', this, bytes)
    }
    this.#fly(frames, bytes, delayMs, isHeldBack)
  }

  #fly(frames: Buffer[] | undefined, bytes: number, delayMs: number, isHeldBack = false): void {
    const { line } = this
    const at = Math.max(this.#lastAt, line.clock.now() + delayMs)
    if (!isHeldBack) this.#lastAt = at
    const flight: Flight = { at, frames, bytes }
    this.#flyingBytes += bytes
    if (this.#flying === undefined) this.#flying = [flight]
    else {
      let index = this.#flying.length
      // Only those that were held back arrive later than this one; nothing overtakes the end.
      while (frames !== undefined && index > 0 && this.#flying[index - 1]!.at > at) index--
      this.#flying.splice(index, 0, flight)
    }
    if (this.#stuckAt === undefined && !this.isOpen) this.#stick()
    else this.#plan()
  }

  #stick(): void {
    this.#stuckAt = this.line.clock.now()
    this.line.stuck(this)
  }

  #plan(): void {
    const head = this.#flying?.[0]
    if (head === undefined || this.#stuckAt !== undefined || head.at >= this.#callAt || this.#isUnreadFull())
      return
    const { clock } = this.line
    this.#callAt = Math.max(clock.now(), head.at)
    clock.at(this.#callAt, this)
  }
}

/** When TCP would next send again, at that moment or after it, what it sent first at `since`. */
const nextRetransmit = (since: number, now: number): number => {
  let waitMs = RETRANSMIT_MS
  let at = since + waitMs
  while (at < now) {
    waitMs *= 2
    at += waitMs
  }
  return at
}
