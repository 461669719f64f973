import { once } from 'node:events'
import type { Writable } from 'node:stream'

/** Standard output: data only, as fast as its reader takes it. A reader that left is no error, but the end. */
export class Output {
  readonly #stream: Writable
  readonly #left = new AbortController()

  constructor(stream: Writable) {
    this.#stream = stream
  }

  /** Aborted when nobody reads any more, as after `| head`. */
  get left(): AbortSignal {
    return this.#left.signal
  }

  open(): void {
    this.#stream.on('error', () => this.#left.abort())
  }

  /** A promise only where the reader is behind: who writes a lot should not have to wait a turn each time. */
  write(chunk: string | Uint8Array): Promise<void> | undefined {
    if (this.#left.signal.aborted || chunk.length === 0 || this.#stream.write(chunk)) return undefined
    return this.#drained()
  }

  async #drained(): Promise<void> {
    // A rejection means that the reader left.
    await once(this.#stream, 'drain', { signal: this.#left.signal }).catch(() => {})
  }

  /** Resolves when the reader, or the kernel for it, has everything. */
  async flush(): Promise<void> {
    if (this.#left.signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#left.signal.addEventListener('abort', () => resolve(), { once: true })
      this.#stream.write('', () => resolve())
    })
  }
}
