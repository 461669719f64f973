import { type FSWatcher, type Stats, watch } from 'node:fs'
import { lstat, readdir, rename, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type ErrorCode, messageOf, SkeinError } from '../errors.ts'
import type { Announcement, Findings, Outcome, Sighting, Source } from './discovery.ts'
import type { Entry } from './entry.ts'
import {
  codeOf,
  encodeMesh,
  isAlive,
  type Place,
  prepareDirectory,
  readEntry,
  whereabouts,
} from './registry-directory.ts'

const MAX_ENTRIES = 1024
/** Entries of other places are never swept, so they must not use up the places of those that count. */
const MAX_FILES = 4 * MAX_ENTRIES
const RESCAN_MS = 5000
/** A directory that looks unchanged is read nevertheless once in so many looks: a file may have been written in place. */
const LOOKS_PER_SCAN = 12
const REFUSED_AGAIN_MS = 500

const REMEDY =
  'make it a directory that only this user can write to, set SKEIN_RUNTIME_DIR to one, or switch the registry off'

/** What is known of one file: whom it names, or why it is ignored, or neither where it needs no mention. */
interface Known {
  readonly stamp: string
  readonly entry?: Entry | undefined
  readonly flaw?: string
  refusedAt?: number
}

const fileOf = (id: string): string => `${id}.json`

const stampOf = (file: Stats): string => `${file.ino}:${file.size}:${file.ctimeMs}`

/**
 * The nodes of one mesh on one host, as small files in a directory. Files are hints: nothing but a refused connection
 * makes a node sweep another's file, and a live node whose file was swept puts it back.
 */
export class Registry implements Source {
  readonly name = 'registry'
  readonly #directory: string
  readonly #mesh: string
  readonly #rescanMs: number
  readonly #files = new Map<string, Known>()
  readonly #touched = new Set<string>()
  /** What was last complained of, by subject: a lasting trouble is reported once. */
  readonly #complaints = new Map<string, string>()
  #self: Announcement | null = null
  #on: Findings | undefined
  #place: Place = { host: '', netns: '' }
  #announced = false
  #entries = 0
  #watcher: FSWatcher | undefined
  #watched = ''
  /** The directory as it was when it was last read whole. */
  #scanned = ''
  #looks = 0
  #timer: NodeJS.Timeout | undefined
  /** One step at a time: a sweep and a scan never see each other half done. */
  #tail: Promise<void> = Promise.resolve()
  #closed = false

  constructor({ directory, mesh, rescanMs }: { directory: string; mesh: string; rescanMs?: number }) {
    this.#directory = join(resolve(directory), encodeMesh(mesh))
    this.#mesh = mesh
    this.#rescanMs = rescanMs ?? RESCAN_MS
  }

  /** How many files in the directory are ignored because they are malformed, oversized or foreign. */
  get ignored(): number {
    return [...this.#files.values()].filter((file) => file.flaw !== undefined).length
  }

  async start(self: Announcement | null, on: Findings): Promise<void> {
    this.#self = self
    this.#on = on
    this.#place = await whereabouts()
    await this.#next(() => this.#rescan())
    this.#arm()
  }

  /** Entries come and go by renames, which the directory shows: fifty nodes that look at each other's files cost a twentieth of a core. */
  async #look(): Promise<void> {
    const now = await stat(this.#directory).then(stampOf, () => '')
    if (now === this.#scanned && this.#watcher !== undefined && ++this.#looks % LOOKS_PER_SCAN !== 0) return
    await this.#rescan()
  }

  tried({ id, boot }: Sighting, endpoint: string, outcome: Outcome): void {
    if (outcome.kind !== 'refused' || id === undefined || boot === undefined) return
    const name = fileOf(id)
    const file = this.#files.get(name)
    if (file?.entry?.boot !== boot || file.entry.endpoint !== endpoint) return
    const now = performance.now()
    file.refusedAt ??= now
    if (isAlive(file.entry.pid) && now - file.refusedAt < REFUSED_AGAIN_MS) return
    void this.#next(() => this.#sweep(name, boot))
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      this.#on = undefined
      clearTimeout(this.#timer)
      this.#watcher?.close()
      this.#tail = this.#tail.then(() => this.#withdraw())
    }
    return this.#tail
  }

  #next(step: () => Promise<void>): Promise<void> {
    this.#tail = this.#tail
      .then(() => (this.#closed ? undefined : step()))
      .catch((error: unknown) => this.#complain('directory', this.#sentence('use'), error))
    return this.#tail
  }

  #arm(): void {
    if (this.#closed) return
    // Nodes started together would otherwise all read the directory at the same moment for ever.
    const delayMs = this.#rescanMs * (0.8 + 0.4 * Math.random())
    this.#timer = setTimeout(() => void this.#next(() => this.#look()).then(() => this.#arm()), delayMs)
    this.#timer.unref()
  }

  async #rescan(): Promise<void> {
    await prepareDirectory(this.#directory)
    await this.#watch()
    const before = stampOf(await stat(this.#directory))
    const names = (await readdir(this.#directory)).filter((name) => /^[^.].*\.json$/.test(name))
    this.#complaints.delete('directory')
    if (names.length > MAX_FILES) this.#complainOfCrowd(`more than ${MAX_FILES} files`)
    const present = new Set(names.slice(0, MAX_FILES))
    if (this.#self !== null) present.add(fileOf(this.#self.id))
    for (const name of this.#files.keys()) if (!present.has(name)) this.#forget(name)
    await this.#examineAll([...present])
    this.#scanned = before
    await this.#announce()
  }

  async #watch(): Promise<void> {
    const { ino, birthtimeMs } = await stat(this.#directory)
    const identity = `${ino}:${birthtimeMs}`
    if (this.#closed || (this.#watcher !== undefined && this.#watched === identity)) return
    this.#unwatch()
    try {
      const watcher = watch(this.#directory, { persistent: false }, (_kind, name) => this.#onTouched(name))
      watcher.on('error', () => this.#unwatch())
      this.#watcher = watcher
      this.#watched = identity
      this.#complaints.delete('watch')
    } catch (error) {
      const sentence = `could not watch "${this.#directory}", so nodes on this host are only noticed every few seconds: raise the limit on file watches`
      this.#complain('watch', sentence, error)
    }
  }

  #unwatch(): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }

  #onTouched(name: string | null): void {
    if (name === null) void this.#next(() => this.#rescan())
    else if (/^[0-9a-f]{32}\.json$/.test(name)) {
      const first = this.#touched.size === 0
      this.#touched.add(name)
      if (first) void this.#next(() => this.#examineTouched())
    }
  }

  async #examineTouched(): Promise<void> {
    const names = [...this.#touched]
    this.#touched.clear()
    await this.#examineAll(names)
    await this.#announce()
  }

  async #examineAll(names: readonly string[]): Promise<void> {
    // All at once would hold as many files open as there are entries.
    for (let at = 0; at < names.length; at += 32) {
      await Promise.all(names.slice(at, at + 32).map((name) => this.#examine(name)))
    }
  }

  async #examine(name: string): Promise<void> {
    const path = join(this.#directory, name)
    const file = await lstat(path).catch(() => undefined)
    if (file === undefined) return this.#forget(name)
    const before = this.#files.get(name)
    const stamp = stampOf(file)
    if (before?.stamp === stamp) return
    if (!file.isFile()) return this.#ignore(name, stamp, 'it is not a regular file')
    let read: Entry | string
    try {
      read = await readEntry(path, this.#mesh)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return this.#forget(name)
      // Without a stamp it is read again at the next rescan: the process may have been out of file descriptors.
      return this.#ignore(name, '', messageOf(error))
    }
    if (typeof read === 'string') return this.#ignore(name, stamp, read)
    if (fileOf(read.id) !== name) return this.#ignore(name, stamp, 'its name is not the id inside')
    this.#accept(name, stamp, this.#concerns(read) ? read : undefined)
  }

  /** Not ourselves, and within reach: an endpoint that we have bound cannot be anybody else's any more. */
  #concerns(entry: Entry): boolean {
    const self = this.#self
    const here = entry.host === this.#place.host && entry.netns === this.#place.netns
    return (
      here && entry.endpoint !== self?.localEndpoint && (entry.id !== self?.id || entry.boot !== self.boot)
    )
  }

  #accept(name: string, stamp: string, entry: Entry | undefined): void {
    const before = this.#files.get(name)?.entry
    if (entry === undefined) {
      this.#forget(name)
      this.#files.set(name, { stamp })
      return
    }
    if (before === undefined) {
      if (this.#entries >= MAX_ENTRIES) {
        this.#complainOfCrowd(`more than ${MAX_ENTRIES} nodes`)
        return
      }
      this.#entries += 1
    }
    this.#files.set(name, { stamp, entry })
    const { id, boot, name: title, endpoint } = entry
    if (before?.boot === boot && before.endpoint === endpoint && before.name === title) return
    this.#on?.seen({ id, boot, name: title, endpoints: [endpoint], source: 'registry' })
  }

  #ignore(name: string, stamp: string, flaw: string): void {
    const again = this.#files.get(name)?.flaw !== undefined
    this.#forget(name)
    this.#files.set(name, { stamp, flaw })
    const sentence = `ignored ${JSON.stringify(name)} in the registry "${this.#directory}", because ${flaw}: remove it if nobody needs it`
    if (!again) this.#warn('MALFORMED', sentence)
  }

  #forget(name: string): void {
    const entry = this.#files.get(name)?.entry
    this.#files.delete(name)
    if (entry === undefined) return
    this.#entries -= 1
    this.#on?.gone(entry.id, entry.boot)
  }

  async #sweep(name: string, boot: string): Promise<void> {
    await this.#examine(name)
    if (this.#files.get(name)?.entry?.boot !== boot) return
    const path = join(this.#directory, name)
    try {
      await unlink(path)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') {
        return this.#complain('sweep', `could not remove "${path}", which names a node that is gone`, error)
      }
    }
    this.#forget(name)
    // What was swept may have stood where our own file belongs.
    await this.#announce()
  }

  /** Writes our file at first, and again whenever it has vanished or been spoilt, but not over another boot's. */
  async #announce(): Promise<void> {
    const self = this.#self
    if (self === null || this.#closed) return
    const name = fileOf(self.id)
    const file = this.#files.get(name)
    if (this.#announced && file !== undefined && file.flaw === undefined) return
    const { id, boot, name: title, localEndpoint: endpoint } = self
    const [mesh, pid] = [this.#mesh, process.pid]
    const entry: Entry = { v: 1, id, boot, name: title, mesh, endpoint, pid, ...this.#place }
    const draft = join(this.#directory, `.${id}.${boot}`)
    try {
      await writeFile(draft, JSON.stringify(entry), { mode: 0o600 })
      await rename(draft, join(this.#directory, name))
      this.#announced = true
      this.#complaints.delete('announce')
    } catch (error) {
      await rm(draft, { force: true }).catch(() => undefined)
      return this.#complain('announce', this.#sentence(`announce node "${title}" in`), error)
    }
    await this.#examine(name)
  }

  async #withdraw(): Promise<void> {
    if (this.#self === null || !this.#announced) return
    const path = join(this.#directory, fileOf(this.#self.id))
    try {
      const entry = await readEntry(path, this.#mesh)
      if (typeof entry === 'object' && entry.boot === this.#self.boot) await unlink(path)
    } catch {
      // Already gone, or out of reach: then the next node to dial it will sweep it.
    }
  }

  #sentence(deed: string): string {
    return `could not ${deed} the registry "${this.#directory}", so processes on this host may not find each other: ${REMEDY}`
  }

  #complainOfCrowd(what: string): void {
    const sentence = `the registry "${this.#directory}" holds ${what}, and the others are ignored: remove dead files or divide the mesh`
    this.#complain('crowd', sentence)
  }

  #complain(subject: string, sentence: string, cause?: unknown): void {
    const said = cause === undefined ? sentence : `${sentence} (${messageOf(cause)})`
    if (this.#complaints.get(subject) === said) return
    this.#complaints.set(subject, said)
    this.#warn('REGISTRY_UNAVAILABLE', said, cause)
  }

  #warn(code: ErrorCode, sentence: string, cause?: unknown): void {
    this.#on?.warning(new SkeinError(code, sentence, { cause }))
  }
}
