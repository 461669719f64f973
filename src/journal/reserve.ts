import { randomFillSync } from 'node:crypto'
import { codeOf, type Files, writeAll } from './files.ts'

export const RESERVE_NAME = 'reserve'
/** Noise for so much takes a tenth of a millisecond. */
const BLOCK_BYTES = 64 * 1024

/**
 * Room on the disk that is taken while there is some, and given back when there is none left: what settles, buries or
 * compacts goes on in it, and so makes room again. It is filled with noise, which no file system packs together.
 */
export class Reserve {
  readonly #files: Files
  readonly #path: string
  readonly #bytes: number
  #isHeld = false
  /** Filling and giving back, one after the other. */
  #work: Promise<unknown> = Promise.resolve()

  /** Of no bytes it is always held. */
  constructor(files: Files, directory: string, bytes: number) {
    this.#files = files
    this.#path = `${directory}/${RESERVE_NAME}`
    this.#bytes = bytes
  }

  get isHeld(): boolean {
    return this.#bytes === 0 || this.#isHeld
  }

  /** Looks whether it is there from an earlier time. */
  async find(): Promise<void> {
    if (this.#bytes === 0) return
    try {
      const file = await this.#files.open(this.#path, 'read')
      this.#isHeld = (await file.size()) === this.#bytes
      await file.close()
    } catch {
      this.#isHeld = false
    }
  }

  /** Answers whether it is held afterwards. */
  fill(): Promise<boolean> {
    return this.#after(async () => {
      if (this.isHeld) return true
      try {
        await this.#write()
        this.#isHeld = true
      } catch {
        await this.#files.remove(this.#path).catch(() => {})
      }
      return this.#isHeld
    })
  }

  /** Answers whether there is more room now. */
  release(): Promise<boolean> {
    return this.#after(async () => {
      if (!this.#isHeld) return false
      this.#isHeld = false
      try {
        await this.#files.remove(this.#path)
        return true
      } catch (error) {
        return codeOf(error) === 'ENOENT'
      }
    })
  }

  #after<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#work.then(run)
    this.#work = done
    return done
  }

  async #write(): Promise<void> {
    const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, this.#bytes))
    const file = await this.#files.open(this.#path, 'create')
    try {
      for (let at = 0; at < this.#bytes; at += block.length) {
        randomFillSync(block)
        await writeAll(file, [block.subarray(0, this.#bytes - at)], at)
      }
    } finally {
      await file.close()
    }
  }
}
