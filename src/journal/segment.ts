import type { File, Files } from './files.ts'
import { nameOf, type Place, saltOf } from './header.ts'
import type { Ranges } from './ranges.ts'
import { SegmentIndex } from './segment-index.ts'

/** One file of the journal and what is known of its records. */
export class Segment {
  readonly place: Place
  readonly name: string
  readonly path: string
  readonly salt: number
  readonly index = new SegmentIndex()
  /** How far it counts; the file may be longer. */
  bytes: number
  /** Damage was found in it: it is neither rewritten nor removed, since it may be read again one day. */
  isDamaged = false
  /** Owed sequences that stood in a damaged part of it. */
  lost: Ranges = []
  /** It was said to whom it concerns that little of it is live. */
  isNoted = false
  readonly #files: Files
  #open: Promise<File> | undefined
  #users = 0
  #isKept = false
  #unused: (() => void)[] = []

  constructor(files: Files, directory: string, nodeId: string, place: Place, bytes: number) {
    this.#files = files
    this.place = place
    this.name = nameOf(place)
    this.path = `${directory}/${this.name}`
    this.salt = saltOf(nodeId, place)
    this.bytes = bytes
  }

  /** It is being written: its file stays open until `seal`. */
  keep(file: File): void {
    this.#open = Promise.resolve(file)
    this.#isKept = true
    this.#users++
  }

  async seal(): Promise<void> {
    if (!this.#isKept) return
    this.#isKept = false
    await this.#leave()
  }

  /** Lends the file for reading. It is opened for that and closed afterwards: handles are few (G6). */
  async use<T>(run: (file: File) => Promise<T>): Promise<T> {
    this.#users++
    try {
      this.#open ??= this.#files.open(this.path, 'read')
      return await run(await this.#open)
    } finally {
      await this.#leave()
    }
  }

  /** Resolves when nobody reads in it. */
  async unused(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => this.#unused.push(resolve))
  }

  async #leave(): Promise<void> {
    if (--this.#users > 0) return
    const open = this.#open
    this.#open = undefined
    await open?.then((file) => file.close()).catch(() => {})
    if (this.#users === 0) for (const resolve of this.#unused.splice(0)) resolve()
  }
}
