import type { Task } from '../schedule.ts'
import type { VirtualClock } from '../virtual-clock.ts'
import type { Machine } from './machine.ts'
import type { Pipe, Sink } from './pipe.ts'

/** Whoever is told what goes wrong in reading. */
export interface Faulted {
  fault(error: unknown): void
}

/**
 * The receiving side of one socket, which reads as fast as it can: the next in turn of the connections that have
 * something, unless whoever takes it asks for a pause until the turn has ended, or the machine's processes hang.
 */
export class Reader implements Sink, Task {
  readonly maxFrameBytes: number
  readonly #clock: VirtualClock
  readonly #machine: Machine
  readonly #take: (frames: Buffer[], pipe: Pipe) => unknown
  readonly #on: Faulted
  #isPressed = false
  /** Connections with something unread, in turn. */
  #waiting: Pipe[] | undefined
  #isClosed = false

  constructor(
    clock: VirtualClock,
    machine: Machine,
    maxFrameBytes: number,
    take: (frames: Buffer[], pipe: Pipe) => unknown,
    on: Faulted,
  ) {
    this.#clock = clock
    this.#machine = machine
    this.maxFrameBytes = maxFrameBytes
    this.#take = take
    this.#on = on
  }

  arrived(pipe: Pipe, frames: Buffer[]): void {
    if (this.#isClosed) return
    if (this.#waiting === undefined && !this.#isHeldUp()) {
      this.#read(frames, pipe)
      return
    }
    if (pipe.unread === undefined) {
      pipe.unread = [frames]
      this.#waiting ??= []
      this.#waiting.push(pipe)
    } else pipe.unread.push(frames)
  }

  /** Reads one of what waits. */
  run(): void {
    if (this.#isClosed || this.#isHeldUp()) return
    const pipe = this.#waiting?.shift()
    if (pipe === undefined) return
    const frames = pipe.unread!.shift()!
    if (pipe.unread!.length > 0) this.#waiting!.push(pipe)
    else pipe.unread = undefined
    if (this.#waiting!.length === 0) this.#waiting = undefined
    pipe.proceed()
    this.#read(frames, pipe)
    if (this.#waiting !== undefined && !this.#isHeldUp()) this.#clock.at(this.#clock.now(), this)
  }

  close(): void {
    this.#isClosed = true
    this.#waiting = undefined
  }

  #isHeldUp(): boolean {
    this.#machine.paused?.add(this)
    return this.#isPressed || this.#machine.paused !== undefined
  }

  #read(frames: Buffer[], pipe: Pipe): void {
    let pressed: unknown
    try {
      // Each reader has bytes of its own, as behind a real socket.
      pressed = this.#take(frames.map(copy), pipe)
    } catch (error) {
      this.#on.fault(error)
    }
    if (pressed !== true) return
    this.#isPressed = true
    this.#clock.turn(() => {
      this.#isPressed = false
      this.run()
    })
  }
}

const copy = (frame: Buffer): Buffer => Buffer.from(frame)
