import { BATCH_BYTES, putU32, Writer } from '../protocol/bytes.ts'
import { KIND, writePrefix } from '../protocol/header.ts'
import { Cork } from './cork.ts'

export interface LaneOptions {
  /** Hands one batch to the network; resolves when it was taken, rejects when the other end is gone for good. */
  send(batch: Buffer): Promise<unknown>
  turn(run: () => void): void
  /** Requests and replies that may wait here, in bytes; hello, ping, ack and credit are not counted. */
  limitBytes: number
}

/** The number of the hello that a control batch follows stands behind its prefix. */
const HELLO_NUMBER_AT = 4
const MAX_URGENT_BYTES = 4 * 1024 * 1024

/**
 * The one writer of one control connection. Frames are gathered into batches; urgent ones (hello, ping, ack,
 * credit) leave before requests and replies.
 */
export class Lane {
  /** Number of the hello that this lane's batches follow, stamped when a batch leaves. */
  helloNumber = 0
  readonly #options: LaneOptions
  readonly #urgent = new Writer()
  readonly #bulk = new Writer()
  readonly #sealed: Buffer[] = []
  readonly #cork: Cork
  #sealedBytes = 0
  #openFrames = 0
  #mark = 0
  #due = false
  #sending = false
  #closed = false
  #idle: (() => void)[] = []

  constructor(options: LaneOptions) {
    this.#options = options
    this.#cork = new Cork(() => {
      this.#due = true
      void this.#pump()
    }, options.turn)
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** Whether a request or reply of this size may be added. */
  hasRoom(bytes: number): boolean {
    return !this.#closed && this.#sealedBytes + this.#bulk.length + bytes <= this.#options.limitBytes
  }

  /** Opens a frame; its body is written to the answer, then `end` is called with it in the same turn. */
  begin(type: number, urgent: boolean): Writer {
    const writer = urgent ? this.#urgent : this.#bulk
    if (writer.length === 0) {
      writePrefix(writer, KIND.control)
      writer.u32(0)
    }
    writer.u8(type)
    this.#mark = writer.length
    writer.u32(0)
    return writer
  }

  end(writer: Writer): void {
    putU32(writer.buffer, writer.start + this.#mark, writer.length - this.#mark - 4)
    if (this.#closed) {
      writer.take()
      return
    }
    if (this.#urgent.length > MAX_URGENT_BYTES) {
      // The other end has read nothing for very long: it is told nothing more, and judged by its silence.
      this.close()
      return
    }
    if (writer === this.#bulk) {
      this.#openFrames++
      if (writer.length >= BATCH_BYTES) this.seal()
    }
    this.#cork.touch()
  }

  /** Requests and replies in the open batch. */
  get openFrames(): number {
    return this.#openFrames
  }

  /** Lets the open batch leave now, before its turn has ended. */
  seal(): void {
    this.#openFrames = 0
    this.#sealedBytes += this.#bulk.length
    this.#sealed.push(this.#bulk.take())
    void this.#pump()
  }

  /** Resolves when everything added so far has been taken by the network. */
  async drained(): Promise<void> {
    if (this.#closed || this.#isEmpty()) return
    this.#due = true
    await new Promise<void>((resolve) => {
      this.#idle.push(resolve)
      void this.#pump()
    })
  }

  close(): void {
    this.#closed = true
    this.#wakeIdle()
  }

  #isEmpty(): boolean {
    return !this.#sending && this.#urgent.length === 0 && this.#sealed.length === 0 && this.#bulk.length === 0
  }

  async #pump(): Promise<void> {
    if (this.#sending || this.#closed) return
    this.#sending = true
    try {
      for (let batch = this.#next(); batch !== undefined && !this.#closed; batch = this.#next()) {
        putU32(batch, HELLO_NUMBER_AT, this.helloNumber)
        await this.#options.send(batch)
      }
    } catch {
      // The other end is gone; whoever waits for an answer learns it from the roster.
      this.close()
    } finally {
      this.#sending = false
      if (this.#isEmpty()) this.#wakeIdle()
    }
  }

  #next(): Buffer | undefined {
    if (this.#urgent.length > 0) return this.#urgent.take()
    const sealed = this.#sealed.shift()
    if (sealed !== undefined) {
      this.#sealedBytes -= sealed.length
      return sealed
    }
    if (!this.#due || this.#bulk.length === 0) return undefined
    this.#due = false
    this.#openFrames = 0
    return this.#bulk.take()
  }

  #wakeIdle(): void {
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}
