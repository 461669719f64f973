import { SkeinError } from '../../src/errors.ts'
import type { File, Files, Lock } from '../../src/journal/files.ts'

/** A change of a file's bytes that the disk may or may not have when the power is cut. */
type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly data: Buffer }
  | { readonly kind: 'truncate'; readonly bytes: number }

interface Inode {
  /** What a reader sees. */
  bytes: Buffer
  /** What the disk certainly has. */
  durable: Buffer
  /** What it may have besides. */
  changes: Change[]
  /**
   * The same, of syncs that failed: the kernel has forgotten these, and no later sync brings them. What was synced since
   * is certain and stands behind them.
   */
  forgotten: { readonly change: Change; readonly isCertain: boolean }[]
}

/** A change of a directory; inode undefined: the name goes. */
interface Entry {
  readonly name: string
  readonly inode: Inode | undefined
  /** The name that goes with it at once, for a rename. */
  readonly from?: string
}

interface Directory {
  names: Map<string, Inode>
  durable: Map<string, Inode>
  changes: Entry[]
  /** Its own name in the directory above is on the disk. */
  isNamed: boolean
}

export type Operation =
  | 'makeDirectory'
  | 'list'
  | 'open'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'read'
  | 'write'
  | 'size'
  | 'truncate'
  | 'sync'
  | 'close'

/** What goes wrong with an operation: an error code, or only a part of a write. */
export type Failure = 'EIO' | 'ENOSPC' | 'EINTR' | 'short'

/** Decides one of `count` ways, 0 to count - 1: the way in which a crash or a search goes. */
export type Choose = (count: number) => number

const SECTOR_BYTES = 64

/**
 * A file system that can lose, reorder and tear whatever was not synced, files and names alike, fail at any operation
 * and run out of room. Every crash yields a new one, and the old one never answers again, like a process that died.
 */
export class SimFiles implements Files {
  #directories = new Map<string, Directory>([['/', emptyDirectory(true)]])
  readonly #locked = new Set<string>()
  #isDead = false
  operations = 0
  /** Handles that were not closed. */
  openFiles = 0
  capacityBytes = Number.POSITIVE_INFINITY
  /** Asked before each operation. */
  fail: (operation: Operation, path: string, number: number) => Failure | undefined = () => undefined
  /** Called before each operation takes effect and after it did, before anybody knows. */
  observe: (operation: Operation, path: string) => void = () => {}

  makeDirectory(path: string): Promise<boolean> {
    return this.#run('makeDirectory', path, () => {
      if (this.#directories.has(path)) return false
      this.#above(path)
      this.#directories.set(path, emptyDirectory(false))
      return true
    })
  }

  list(directory: string): Promise<string[]> {
    return this.#run('list', directory, () => [...this.#directory(directory).names.keys()].sort())
  }

  open(path: string, mode: 'read' | 'change' | 'create'): Promise<File> {
    return this.#run('open', path, () => {
      const { directory, name } = this.#above(path)
      let inode = directory.names.get(name)
      if (inode === undefined && mode !== 'create') throw failure('ENOENT', `no file ${path}`)
      if (inode === undefined) {
        if (this.#room() <= 0) throw failure('ENOSPC', `no room for ${path}`)
        inode = { bytes: NOTHING, durable: NOTHING, changes: [], forgotten: [] }
        enter(directory, { name, inode })
      } else if (mode === 'create') truncate(inode, 0)
      return this.#handle(inode, path)
    })
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run('rename', from, () => {
      const source = this.#above(from)
      const target = this.#above(to)
      const inode = source.directory.names.get(source.name)
      if (inode === undefined) throw failure('ENOENT', `no file ${from}`)
      if (source.directory === target.directory) {
        enter(target.directory, { name: target.name, inode, from: source.name })
        return
      }
      enter(target.directory, { name: target.name, inode })
      enter(source.directory, { name: source.name, inode: undefined })
    })
  }

  remove(path: string): Promise<void> {
    return this.#run('remove', path, () => {
      const { directory, name } = this.#above(path)
      if (!directory.names.has(name)) throw failure('ENOENT', `no file ${path}`)
      enter(directory, { name, inode: undefined })
    })
  }

  syncDirectory(path: string): Promise<void> {
    return this.#run('syncDirectory', path, () => {
      const directory = this.#directory(path)
      directory.durable = new Map(directory.names)
      directory.changes = []
      for (const [other, below] of this.#directories) {
        if (parentOf(other) === path) below.isNamed = true
      }
    })
  }

  async lock(directory: string): Promise<Lock> {
    if (this.#locked.has(directory)) throw new SkeinError('JOURNAL_LOCKED', `"${directory}" is locked`)
    this.#locked.add(directory)
    return {
      check: async () => {},
      release: async () => void this.#locked.delete(directory),
    }
  }

  /** The process dies: what it wrote is in the page cache and stays. */
  kill(): SimFiles {
    this.#isDead = true
    const left = this.clone()
    left.capacityBytes = this.capacityBytes
    return left
  }

  /** The power is cut: of what was not synced anything may be there, or not, or in part. */
  crash(choose: Choose, isFine = false): SimFiles {
    this.#isDead = true
    const left = new SimFiles()
    left.capacityBytes = this.capacityBytes
    const survivors = new Map<Inode, Inode>()
    for (const [path, directory] of this.#directories) {
      // One that is not named takes all below it along.
      if (!left.#directories.has(parentOf(path)) && path !== '/') continue
      if (!directory.isNamed && choose(2) === 0) continue
      const names = new Map(directory.durable)
      for (const change of directory.changes) if (choose(2) === 1) enterName(names, change)
      const kept = new Map(
        [...names].map(([name, inode]) => [name, survivor(inode, survivors, choose, isFine)]),
      )
      left.#directories.set(path, { names: kept, durable: new Map(kept), changes: [], isNamed: true })
    }
    return left
  }

  /** The same state, for looking at it later. */
  clone(): SimFiles {
    const copy = new SimFiles()
    const inodes = new Map<Inode, Inode>()
    const copied = (inode: Inode): Inode => {
      let other = inodes.get(inode)
      if (other === undefined) {
        // Buffers are replaced, never written into, so they can be shared.
        other = { ...inode, changes: [...inode.changes], forgotten: [...inode.forgotten] }
        inodes.set(inode, other)
      }
      return other
    }
    for (const [path, { names, durable, changes, isNamed }] of this.#directories) {
      copy.#directories.set(path, {
        names: new Map([...names].map(([name, inode]) => [name, copied(inode)])),
        durable: new Map([...durable].map(([name, inode]) => [name, copied(inode)])),
        changes: changes.map((change) => ({
          ...change,
          inode: change.inode === undefined ? undefined : copied(change.inode),
        })),
        isNamed,
      })
    }
    return copy
  }

  /** How many things are not certain to survive a power cut. */
  get unsynced(): number {
    const inodes = new Set<Inode>()
    let count = 0
    for (const { names, durable, changes } of this.#directories.values()) {
      count += changes.length
      for (const inode of [...names.values(), ...durable.values()]) inodes.add(inode)
    }
    for (const inode of inodes) count += inode.changes.length + inode.forgotten.length
    return count
  }

  /** Paths of all files. */
  get paths(): string[] {
    return [...this.#directories].flatMap(([path, { names }]) =>
      [...names.keys()].map((name) => `${path}/${name}`),
    )
  }

  bytesOf(path: string): Buffer {
    const { directory, name } = this.#above(path)
    return directory.names.get(name)!.bytes
  }

  /** Puts other bytes into a file, on the disk too. */
  damage(path: string, bytes: Buffer): void {
    const { directory, name } = this.#above(path)
    const inode = directory.names.get(name)!
    Object.assign(inode, { bytes, durable: bytes, changes: [], forgotten: [] })
  }

  get usedBytes(): number {
    const inodes = new Set<Inode>()
    for (const { names } of this.#directories.values()) for (const inode of names.values()) inodes.add(inode)
    let bytes = 0
    for (const inode of inodes) bytes += inode.bytes.length
    return bytes
  }

  usedBytesIn(directory: string): number {
    return [...this.#directory(directory).names.values()].reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

  #room(): number {
    return this.capacityBytes - this.usedBytes
  }

  async #run<T>(operation: Operation, path: string, effect: (failure?: Failure) => T): Promise<T> {
    await Promise.resolve()
    if (this.#isDead) return await new Promise<never>(() => {})
    this.observe(operation, path)
    const what = this.fail(operation, path, ++this.operations)
    if (what !== undefined && (what !== 'short' || operation !== 'write')) {
      if (operation === 'sync') this.onFailedSync?.(path)
      throw failure(what === 'short' ? 'EIO' : what, `${operation} ${path}`)
    }
    const result = effect(what)
    this.observe(operation, path)
    if (this.#isDead) return await new Promise<never>(() => {})
    return result
  }

  onFailedSync: ((path: string) => void) | undefined = (path) => {
    const { directory, name } = this.#above(path)
    const inode = directory.names.get(name)
    if (inode === undefined) return
    inode.forgotten.push(...inode.changes.map((change) => ({ change, isCertain: false })))
    inode.changes = []
  }

  #handle(inode: Inode, path: string): File {
    this.openFiles++
    return {
      read: (into, position) =>
        this.#run('read', path, () => {
          const part = inode.bytes.subarray(position, position + into.length)
          into.set(part)
          return part.length
        }),
      write: (pieces, position) =>
        this.#run('write', path, (what) => {
          const data = Buffer.concat(pieces)
          const growth = Math.max(0, position + data.length - inode.bytes.length)
          let bytes = growth > this.#room() ? data.length - (growth - Math.max(0, this.#room())) : data.length
          if (what === 'short') bytes = Math.min(bytes, Math.max(1, data.length >>> 1))
          if (bytes <= 0 && data.length > 0) throw failure('ENOSPC', `write ${path}`)
          write(inode, position, data.subarray(0, bytes))
          return bytes
        }),
      size: () => this.#run('size', path, () => inode.bytes.length),
      truncate: (bytes) => this.#run('truncate', path, () => truncate(inode, bytes)),
      sync: () =>
        this.#run('sync', path, () => {
          if (inode.forgotten.length === 0) inode.durable = inode.changes.reduce(applied, inode.durable)
          else inode.forgotten.push(...inode.changes.map((change) => ({ change, isCertain: true })))
          inode.changes = []
        }),
      close: () => {
        // A handle whose closing fails is closed all the same.
        this.openFiles--
        return this.#run('close', path, () => {})
      },
    }
  }

  #directory(path: string): Directory {
    const directory = this.#directories.get(path)
    if (directory === undefined) throw failure('ENOENT', `no directory ${path}`)
    return directory
  }

  #above(path: string): { directory: Directory; name: string } {
    const at = path.lastIndexOf('/')
    return { directory: this.#directory(path.slice(0, at) || '/'), name: path.slice(at + 1) }
  }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'

const emptyDirectory = (isNamed: boolean): Directory => ({
  names: new Map(),
  durable: new Map(),
  changes: [],
  isNamed,
})

const NOTHING = Buffer.alloc(0)

const failure = (code: string, text: string): Error => Object.assign(new Error(`${code}: ${text}`), { code })

const enter = (directory: Directory, entry: Entry): void => {
  directory.changes.push(entry)
  enterName(directory.names, entry)
}

const enterName = (names: Map<string, Inode>, { name, inode, from }: Entry): void => {
  if (from !== undefined) names.delete(from)
  if (inode === undefined) names.delete(name)
  else names.set(name, inode)
}

const write = (inode: Inode, offset: number, data: Buffer): void => {
  const change = { kind: 'write', offset, data: Buffer.from(data) } as const
  inode.changes.push(change)
  inode.bytes = applied(inode.bytes, change)
}

const truncate = (inode: Inode, bytes: number): void => {
  const change = { kind: 'truncate', bytes } as const
  inode.changes.push(change)
  inode.bytes = applied(inode.bytes, change)
}

const applied = (bytes: Buffer, change: Change): Buffer => {
  if (change.kind === 'truncate') {
    const cut = Buffer.alloc(change.bytes)
    bytes.copy(cut)
    return cut
  }
  const grown = Buffer.alloc(Math.max(bytes.length, change.offset + change.data.length))
  bytes.copy(grown)
  change.data.copy(grown, change.offset)
  return grown
}

/** What the disk has of a file after a power cut. */
const survivor = (inode: Inode, survivors: Map<Inode, Inode>, choose: Choose, isFine: boolean): Inode => {
  const known = survivors.get(inode)
  if (known !== undefined) return known
  let bytes = inode.durable
  for (const { change, isCertain } of inode.forgotten)
    bytes = isCertain ? applied(bytes, change) : perhaps(bytes, change, choose, isFine)
  for (const change of inode.changes) bytes = perhaps(bytes, change, choose, isFine)
  const left = { bytes, durable: bytes, changes: [], forgotten: [] }
  survivors.set(inode, left)
  return left
}

const perhaps = (bytes: Buffer, change: Change, choose: Choose, isFine: boolean): Buffer => {
  if (change.kind === 'truncate') return choose(2) === 1 ? applied(bytes, change) : bytes
  const { offset, data } = change
  if (isFine) return bySectors(bytes, offset, data, choose)
  const half = data.length >>> 1
  switch (choose(5)) {
    case 0:
      return bytes
    case 1:
      return applied(bytes, change)
    case 2: // its beginning
      return applied(bytes, { ...change, data: data.subarray(0, half) })
    case 3: // its end
      return applied(bytes, { kind: 'write', offset: offset + half, data: data.subarray(half) })
    default: // its size and nothing else
      return applied(bytes, {
        kind: 'write',
        offset: bytes.length,
        data: Buffer.alloc(Math.max(0, offset + data.length - bytes.length)),
      })
  }
}

/** Each sector is there or not; the last one that is may be cut at any byte. */
const bySectors = (bytes: Buffer, offset: number, data: Buffer, choose: Choose): Buffer => {
  const mode = choose(4)
  if (mode === 0) return bytes
  if (mode === 1) return applied(bytes, { kind: 'write', offset, data })
  let result = bytes
  for (let at = 0; at < data.length; ) {
    const next = Math.min(data.length, (Math.floor((offset + at) / SECTOR_BYTES) + 1) * SECTOR_BYTES - offset)
    if (choose(3) > 0) {
      const end = mode === 2 ? next : at + choose(next - at + 1)
      result = applied(result, { kind: 'write', offset: offset + at, data: data.subarray(at, end) })
    }
    at = next
  }
  return result
}
