import type { File, Files } from './files.ts'

const PAGE_BYTES = 64 * 1024

/** Files that live in this process and end with it: what a journal without a directory writes to. */
export class MemoryFiles implements Files {
  readonly #pages = new Map<string, MemoryPages>()

  async makeDirectory(): Promise<boolean> {
    return false
  }

  async list(directory: string): Promise<string[]> {
    const prefix = `${directory}/`
    return [...this.#pages.keys()].flatMap((path) =>
      path.startsWith(prefix) ? [path.slice(prefix.length)] : [],
    )
  }

  async open(path: string, mode: 'read' | 'change' | 'create'): Promise<File> {
    let pages = this.#pages.get(path)
    if (mode === 'create' || pages === undefined) {
      if (mode !== 'create') throw missing(path)
      pages = new MemoryPages()
      this.#pages.set(path, pages)
    }
    return pages
  }

  async rename(from: string, to: string): Promise<void> {
    const pages = this.#pages.get(from)
    if (pages === undefined) throw missing(from)
    this.#pages.delete(from)
    this.#pages.set(to, pages)
  }

  async remove(path: string): Promise<void> {
    if (!this.#pages.delete(path)) throw missing(path)
  }

  async syncDirectory(): Promise<void> {}

  async lock(): Promise<{ check(): Promise<void>; release(): Promise<void> }> {
    return { check: async () => {}, release: async () => {} }
  }
}

const missing = (path: string): Error => Object.assign(new Error(`no file "${path}"`), { code: 'ENOENT' })

class MemoryPages implements File {
  #pages: Buffer[] = []
  #bytes = 0

  async read(into: Buffer, position: number): Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.#bytes - position))
    for (let done = 0; done < length; ) {
      const { page, from } = this.#at(position + done)
      done += page.copy(into, done, from, Math.min(PAGE_BYTES, from + length - done))
    }
    return length
  }

  async write(pieces: readonly Buffer[], position: number): Promise<number> {
    const start = position
    for (const piece of pieces) {
      for (let done = 0; done < piece.length; ) {
        const { page, from } = this.#at(position)
        const copied = piece.copy(page, from, done)
        done += copied
        position += copied
      }
    }
    this.#bytes = Math.max(this.#bytes, position)
    return position - start
  }

  async size(): Promise<number> {
    return this.#bytes
  }

  async truncate(bytes: number): Promise<void> {
    this.#bytes = bytes
    this.#pages.length = Math.ceil(bytes / PAGE_BYTES)
  }

  async sync(): Promise<void> {}
  async close(): Promise<void> {}

  #at(position: number): { page: Buffer; from: number } {
    const number = Math.floor(position / PAGE_BYTES)
    while (this.#pages.length <= number) this.#pages.push(Buffer.allocUnsafe(PAGE_BYTES))
    return { page: this.#pages[number]!, from: position % PAGE_BYTES }
  }
}
