import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import { Reader, Writer } from '../protocol/bytes.ts'
import { FRAME, type Hello, writeHello } from '../protocol/control-frames.ts'
import { KIND, readPrefix, writePrefix } from '../protocol/header.ts'
import { Lane } from './lane.ts'
import type { Dial, Transport } from './transport.ts'

/** Who asks more often than this is not answered each time: a hello may be large. */
const ASKED_AGAIN_MS = 100
/** A hello or its welcome may be lost with a connection: it is said again. */
const HELLO_AGAIN_MS = 500
const HELLO_AGAIN_MAX_MS = 4000
/** How often a reply that found no room in its connection is tried again. */
const ROUTE_AGAIN_MS = 2

/** One frame of a control batch: type, and its body up to `reader.end`. The reader is the batch's: it is read at once. */
export type TakeFrame = (type: number, reader: Reader) => void

/** Reads a control batch; `accept` decides by the hello number whether its frames are still valid. */
export const readControlBatch = (
  batch: Buffer,
  accept: (helloNumber: number) => boolean,
  take: TakeFrame,
): void => {
  const reader = new Reader(batch)
  readPrefix(reader, KIND.control)
  if (!accept(reader.u32())) return
  while (reader.left > 0) {
    const type = reader.u8()
    const length = reader.u32()
    const next = reader.skip(length) + length
    reader.at = next - length
    reader.end = next
    take(type, reader)
    reader.at = next
    reader.end = batch.length
  }
}

export interface LinkOptions {
  readonly transport: Transport
  readonly clock: Clock
  readonly endpoint: string
  readonly queueBytes: number
  /** What this node says of itself at this moment. */
  hello(number: number): Hello
  frame(link: Link, type: number, reader: Reader): void
  /** The connection broke; it may come back. */
  broken(link: Link): void
  /** Nobody answers at the endpoint. */
  refused(link: Link, reason?: string): void
  fault(error: unknown): void
}

/**
 * Our end of the control connection that we dialled. Each (re)connection begins with a hello under a new number;
 * frames that follow an older one are dropped at both ends, so nothing overtakes a reset.
 */
export class Link {
  readonly endpoint: string
  readonly lane: Lane
  /** How often it was open and broke. */
  breaks = 0
  readonly #options: LinkOptions
  #dial: Dial | undefined
  #number = 0
  #greetedAt = 0
  #welcomed = false
  #cancelAgain: (() => void) | undefined
  #closed = false

  constructor(options: LinkOptions) {
    this.#options = options
    this.endpoint = options.endpoint
    this.lane = new Lane({
      send: (batch) => this.#dial!.send([batch]),
      turn: options.clock.turn,
      limitBytes: options.queueBytes,
    })
  }

  /** The other end has welcomed the hello of this connection. */
  get isOpen(): boolean {
    return this.#welcomed && !this.#closed
  }

  open(): void {
    this.#dial = this.#options.transport.dialControl(this.endpoint, {
      up: () => this.greet(),
      down: () => {
        if (this.#welcomed) this.breaks++
        this.#welcomed = false
        this.#cancelAgain?.()
        this.#options.broken(this)
      },
      refused: (reason) => this.#options.refused(this, reason),
      frames: (frames) => {
        this.#take(frames)
        return undefined
      },
      fault: this.#options.fault,
    })
  }

  /**
   * The other end does not know us any more. A hello that is on its way answers that, however often it asks; one that was
   * said a while ago may have been lost with a connection.
   */
  asked(): void {
    if (this.#welcomed || this.#options.clock.now() - this.#greetedAt > ASKED_AGAIN_MS) this.greet()
  }

  /** Says hello under a new number. */
  greet(againMs = HELLO_AGAIN_MS): void {
    if (this.#closed) return
    this.#cancelAgain?.()
    this.#welcomed = false
    this.#greetedAt = this.#options.clock.now()
    this.lane.helloNumber = ++this.#number
    const writer = this.lane.begin(FRAME.hello, true)
    writeHello(writer, this.#options.hello(this.#number))
    this.lane.end(writer)
    // Later and later: a welcome that is slower than this would always answer an older number.
    this.#cancelAgain = this.#options.clock.after(againMs, () =>
      this.greet(Math.min(2 * againMs, HELLO_AGAIN_MAX_MS)),
    )
  }

  /** The welcome of the latest hello has arrived. */
  welcomed(number: number): boolean {
    if (number !== this.#number || this.#closed) return false
    this.#cancelAgain?.()
    this.#welcomed = true
    return true
  }

  /** Sends an urgent frame. */
  send(type: number, write?: (writer: ReturnType<Lane['begin']>) => void): void {
    sendFrame(this.lane, type, write)
  }

  close(): void {
    this.#closed = true
    this.#cancelAgain?.()
    this.lane.close()
    this.#dial?.close()
  }

  #take(frames: Buffer[]): void {
    if (this.#closed) return
    if (frames.length !== 1)
      throw new SkeinError('MALFORMED', `an answer of ${frames.length} frames came from ${this.endpoint}`)
    readControlBatch(
      frames[0]!,
      (number) => number === this.#number || number === 0,
      (type, reader) => {
        // A frame may have closed it, and those behind it are nobody's then.
        if (!this.#closed) this.#options.frame(this, type, reader)
      },
    )
  }
}

/** Our end of a control connection that somebody dialled to us and said hello on. */
export class Route {
  readonly key: string
  readonly lane: Lane
  /** Called when it is closed. */
  closed: (() => void) | undefined

  constructor(key: string, helloNumber: number, transport: Transport, clock: Clock, queueBytes: number) {
    this.key = key
    this.lane = new Lane({
      send: async (batch) => {
        // The ROUTER is never awaited: a full connection is tried again, and only its own lane waits (G3).
        while (!this.lane.isClosed) {
          const sent = await transport.answer(key, batch)
          if (sent === 'sent') return
          if (sent === 'gone') {
            this.close()
            return
          }
          await new Promise<void>((resolve) => clock.after(ROUTE_AGAIN_MS, resolve))
        }
      },
      turn: clock.turn,
      limitBytes: queueBytes,
    })
    this.lane.helloNumber = helloNumber
  }

  send(type: number, write?: (writer: ReturnType<Lane['begin']>) => void): void {
    sendFrame(this.lane, type, write)
  }

  close(): void {
    this.lane.close()
    this.closed?.()
  }
}

const sendFrame = (lane: Lane, type: number, write?: (writer: ReturnType<Lane['begin']>) => void): void => {
  const writer = lane.begin(type, true)
  write?.(writer)
  lane.end(writer)
}

/** One urgent frame as a batch of its own, for somebody who has no lane here. */
export const loneFrame = (helloNumber: number, type: number, write?: (writer: Writer) => void): Buffer => {
  const writer = new Writer()
  writePrefix(writer, KIND.control)
  writer.u32(helloNumber)
  writer.u8(type)
  const body = new Writer()
  write?.(body)
  const bytes = body.take()
  writer.u32(bytes.length)
  writer.bytes(bytes)
  return writer.take()
}
