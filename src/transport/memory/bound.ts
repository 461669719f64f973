import type { Sent } from '../transport.ts'
import type { Listening } from './machine.ts'
import type { Line, LineEnd, Pipe, Road } from './pipe.ts'
import { Prefixes } from './prefixes.ts'
import type { Reader } from './reader.ts'

/** A socket that listens: its connections, and one reader for all of them. */
export class Bound implements Listening, LineEnd {
  readonly road: Road
  readonly sink: Reader
  readonly #lines = new Map<string, Line>()

  constructor(road: Road, sink: Reader) {
    this.road = road
    this.sink = sink
  }

  accept(line: Line): LineEnd {
    this.#lines.set(line.route, line)
    return this
  }

  lost(line: Line): void {
    this.#lines.delete(line.route)
  }

  /** To whoever dialled on this connection. */
  answer(route: string, frames: Buffer[]): Sent {
    const pipe = this.#lines.get(route)?.back
    if (pipe === undefined) return 'gone'
    if (!pipe.hasRoom) return 'full'
    pipe.write(frames)
    return 'sent'
  }

  close(): void {
    this.sink.close()
    for (const line of this.#lines.values()) line.close(this)
    this.#lines.clear()
  }
}

/** As XPUB: sends to those who subscribe to a prefix, and tells when a prefix gets its first or loses its last. */
export class BoundFeed extends Bound {
  readonly #changed: (prefix: Buffer, present: boolean) => void
  readonly #subscribed = new Map<Line, Set<string>>()
  readonly #lines = new Prefixes<Set<Line>>()

  constructor(sink: Reader, changed: (prefix: Buffer, present: boolean) => void) {
    super('feed', sink)
    this.#changed = changed
  }

  override accept(line: Line): LineEnd {
    this.#subscribed.set(line, new Set())
    return super.accept(line)
  }

  override lost(line: Line): void {
    super.lost(line)
    const prefixes = this.#subscribed.get(line) ?? []
    this.#subscribed.delete(line)
    for (const prefix of prefixes) this.#unsubscribe(line, prefix)
  }

  /** What a subscriber says: one byte, and the prefix. */
  told(pipe: Pipe, [frame]: Buffer[]): void {
    const prefixes = this.#subscribed.get(pipe.line)
    if (frame === undefined || frame.length === 0 || frame[0]! > 1 || prefixes === undefined) return
    const prefix = frame.toString('latin1', 1)
    if (frame[0] === 0) {
      if (prefixes.delete(prefix)) this.#unsubscribe(pipe.line, prefix)
    } else if (!prefixes.has(prefix)) {
      prefixes.add(prefix)
      this.#subscribe(pipe.line, prefix)
    }
  }

  publish(frames: Buffer[], patient: boolean): Sent {
    const pipes = this.#hearing(frames[0]!)
    if (patient && pipes.some((pipe) => !pipe.isPassedOver && !pipe.hasRoom)) return 'full'
    for (const pipe of pipes) {
      if (!pipe.hasRoom) pipe.isPassedOver = true
      if (!pipe.isPassedOver) pipe.write(frames)
    }
    return 'sent'
  }

  #hearing(topic: Buffer): Pipe[] {
    const all = this.#lines.matching(topic)
    const lines = all.length === 1 ? all[0]! : new Set(all.flatMap((each) => [...each]))
    return Array.from(lines, (line) => line.back)
  }

  #subscribe(line: Line, prefix: string): void {
    const lines = this.#lines.get(prefix)
    if (lines !== undefined) {
      lines.add(line)
      return
    }
    this.#lines.set(prefix, new Set([line]))
    this.#changed(Buffer.from(prefix, 'latin1'), true)
  }

  #unsubscribe(line: Line, prefix: string): void {
    const lines = this.#lines.get(prefix)
    if (!lines?.delete(line) || lines.size > 0) return
    this.#lines.delete(prefix)
    this.#changed(Buffer.from(prefix, 'latin1'), false)
  }
}
