import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, mkdir, open, readlink, stat } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Entry, MAX_ENTRY_BYTES, parseEntry } from './entry.ts'

/** Where loopback endpoints and process ids mean the same to two nodes. */
export type Place = Pick<Entry, 'host' | 'netns'>

/** The directory in which the nodes of this user on this host meet. */
export const defaultRegistryDirectory = (): string =>
  process.env.SKEIN_RUNTIME_DIR ||
  (process.env.XDG_RUNTIME_DIR
    ? join(process.env.XDG_RUNTIME_DIR, 'skein')
    : join(tmpdir(), `skein-${process.getuid?.() ?? 'user'}`))

/** Any mesh name as one safe file name; a `~` marks those that are not their own name, so the two never meet. */
export const encodeMesh = (mesh: string): string =>
  /^[a-z0-9_-]{1,64}$/.test(mesh)
    ? mesh
    : `${mesh.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 40)}~${createHash('sha256').update(mesh).digest('hex').slice(0, 32)}`

export const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException | null)?.code

/** The entry of a file, or what is wrong with it. */
export const readEntry = async (path: string, mesh?: string): Promise<Entry | string> => {
  // Neither a link nor a pipe put in its place since it was looked at may lead elsewhere or block.
  const handle = await open(
    path,
    constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0),
  )
  try {
    const buffer = Buffer.alloc(MAX_ENTRY_BYTES + 1)
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0)
    return parseEntry(buffer.subarray(0, bytesRead), mesh)
  } finally {
    await handle.close()
  }
}

export const whereabouts = async (): Promise<Place> => ({
  host: hostname(),
  netns: await readlink('/proc/self/ns/net').catch(() => ''),
})

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) !== 'ESRCH'
  }
}

const lineage = (path: string): string[] =>
  path === dirname(path) ? [path] : [...lineage(dirname(path)), path]

/** Makes a directory that is not there. @throws Error where it cannot be made, or be trusted */
export const prepareDirectory = async (directory: string): Promise<void> => {
  // Step by step: where a directory cannot be made, as under /proc, Node's own recursive way goes on for ever.
  for (const step of lineage(directory)) {
    await mkdir(step, { mode: 0o700 }).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error
    })
  }
  const reason = await exposure(directory)
  if (reason !== undefined) throw new Error(reason)
}

/** Why a directory cannot be trusted: below one that everybody may write to (/tmp), each step must be this user's. */
const exposure = async (directory: string): Promise<string | undefined> => {
  const me = process.getuid?.()
  if (me === undefined) return undefined
  let exposed = false
  for (const path of lineage(directory)) {
    const step = await lstat(path)
    if (exposed) {
      if (!step.isDirectory()) return `"${path}" is a link or a file`
      const foreign = step.uid !== me && (path === directory || step.uid !== 0)
      if (foreign) return `"${path}" belongs to another user (uid ${step.uid})`
      if ((step.mode & 0o022) !== 0) return `others may write to "${path}"`
    }
    const target = step.isSymbolicLink() ? await stat(path) : step
    exposed ||= (target.mode & 0o002) !== 0
  }
  return undefined
}
