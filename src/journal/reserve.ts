import { randomFillSync } from 'node:crypto'
import { codeOf, type File, type Files, isFull, writeAll } from './files.ts'

export const RESERVE_NAME = 'reserve'
/** Noise for so much takes a tenth of a millisecond. */
const BLOCK_BYTES = 64 * 1024
/** On a disk with less room than the whole reserve takes, half of that room will do, if it is so much. */
const LEAST_BYTES = 64 * 1024

/**
 * Room on the disk that is taken while there is some, and given back when there is none left: what settles, buries or
 * compacts goes on in it, and so makes room again. It is filled with noise, which no file system packs together.
 */
export class Reserve {
  readonly #files: Files
  readonly #path: string
  readonly #bytes: number
  #heldBytes = 0
  /** There may be more room than when it was filled last. */
  #mayGrow = true
  /** Filling and giving back, one after the other. */
  #work: Promise<unknown> = Promise.resolve()

  /** Of no bytes it is always held. */
  constructor(files: Files, directory: string, bytes: number) {
    this.#files = files
    this.#path = `${directory}/${RESERVE_NAME}`
    this.#bytes = bytes
  }

  get isHeld(): boolean {
    return this.#bytes === 0 || this.#heldBytes > 0
  }

  /** Looks whether it is there from an earlier time. */
  async find(): Promise<void> {
    if (this.#bytes === 0) return
    try {
      const file = await this.#files.open(this.#path, 'read')
      const bytes = await file.size()
      await file.close()
      if (bytes >= Math.min(LEAST_BYTES, this.#bytes) && bytes <= this.#bytes) this.#heldBytes = bytes
    } catch {
      this.#heldBytes = 0
    }
  }

  /** There is more room on the disk: a small reserve may become larger. */
  grow(): void {
    this.#mayGrow = true
  }

  /** Answers whether it is held afterwards. */
  fill(): Promise<boolean> {
    return this.#after(async () => {
      if (this.#heldBytes < this.#bytes && (this.#mayGrow || this.#heldBytes === 0)) {
        this.#mayGrow = false
        this.#heldBytes = await this.#write().catch(() => 0)
        if (this.#heldBytes === 0) await this.#files.remove(this.#path).catch(() => {})
      }
      return this.isHeld
    })
  }

  /** Answers whether there is more room now. */
  release(): Promise<boolean> {
    return this.#after(async () => {
      if (this.#heldBytes === 0) return false
      this.#heldBytes = 0
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

  /** Answers how many bytes it has; 0 if there is not room enough for any. */
  async #write(): Promise<number> {
    const file = await this.#files.open(this.#path, this.#heldBytes === 0 ? 'create' : 'change')
    try {
      return await this.#extend(file)
    } finally {
      await file.close()
    }
  }

  async #extend(file: File): Promise<number> {
    const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, this.#bytes))
    let at = this.#heldBytes
    try {
      for (; at < this.#bytes; at += block.length) {
        randomFillSync(block)
        await writeAll(file, [block.subarray(0, this.#bytes - at)], at)
      }
      return this.#bytes
    } catch (error) {
      const half = Math.max(this.#heldBytes, Math.floor(at / 2))
      if (!isFull(error) || half < LEAST_BYTES) throw error
      await file.truncate(half)
      return half
    }
  }
}
