import type { Copy } from './places.ts'

const MAX_PARKED = 32_768
const MAX_PARKED_BYTES = 16 * 1024 * 1024

/** The first of their keys, by the member of the key, which has no room for them: no reason for others to wait. */
export class Parked {
  readonly #copies = new Map<string, Copy[]>()
  #count = 0
  #bytes = 0

  get isFull(): boolean {
    return this.#count >= MAX_PARKED || this.#bytes >= MAX_PARKED_BYTES
  }

  add(member: string, copy: Copy): void {
    const copies = this.#copies.get(member)
    if (copies === undefined) this.#copies.set(member, [copy])
    else copies.push(copy)
    this.#count++
    this.#bytes += copy.loaded.payload.sizeBytes
  }

  /** Takes the first that can go, of any member. */
  takeFirst(canGo: (copy: Copy, member: string) => boolean): boolean {
    for (const [member, copies] of this.#copies) {
      if (!canGo(copies[0]!, member)) continue
      const copy = copies.shift()!
      if (copies.length === 0) this.#copies.delete(member)
      this.#count--
      this.#bytes -= copy.loaded.payload.sizeBytes
      return true
    }
    return false
  }

  takeAll(): Copy[] {
    const all = [...this.#copies.values()].flat()
    this.#copies.clear()
    this.#count = 0
    this.#bytes = 0
    return all
  }
}
