import { randomBytes } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { crc32 } from './crc.ts'
import { codeOf, createWhole, type Files, isFull, type Lock, readSmall } from './files.ts'
import { HEADER_BYTES, placeOf, readHeader } from './header.ts'

/** In the data directory: who the node is, and the journal. */
const IDENTITY = 'node-id'
export const JOURNAL = 'journal'

export interface DataDirectory {
  readonly nodeId: string
  /** Where the segments are. */
  readonly journal: string
  readonly lock: Lock
}

/**
 * Makes or opens a data directory and takes it for this process. An id that was lost is found again in the segments.
 * @throws JOURNAL_LOCKED, JOURNAL_DAMAGED, JOURNAL_FAILED, OPTION_INVALID for another id than the one in it
 */
export const openDataDirectory = async (
  files: Files,
  path: string,
  nodeId: string | undefined,
  clock: Clock,
  fault: (error: SkeinError) => void,
): Promise<DataDirectory> => {
  const directory = resolve(path)
  const journal = `${directory}/${JOURNAL}`
  let lock: Lock | undefined
  try {
    await makeDirectories(files, directory)
    lock = await files.lock(directory, `process ${process.pid}`, clock)
    const id = await identify(files, directory, nodeId, fault)
    if (await files.makeDirectory(journal)) await files.syncDirectory(directory)
    return { nodeId: id, journal, lock }
  } catch (error) {
    await lock?.release()
    const isFile = (await listingOf(files, directory)) === 'ENOTDIR'
    throw asOpenError(directory, isFile ? new Error(NO_DIRECTORY.ENOTDIR) : error)
  }
}

/** The id in a data directory that may be in use. @throws JOURNAL_DAMAGED */
export const readNodeId = async (files: Files, path: string): Promise<string> => {
  const directory = resolve(path)
  const listing = await listingOf(files, directory)
  if (listing === 'ENOENT' || listing === 'ENOTDIR')
    throw asOpenError(directory, new Error(NO_DIRECTORY[listing]))
  const known = await knownId(files, directory).catch((error: unknown) => {
    throw asOpenError(directory, error)
  })
  if (known !== undefined) return known.id
  throw asOpenError(
    directory,
    new Error(`it is no data directory, there is no "${IDENTITY}" in it; name that of a node`),
  )
}

/** Why it cannot be listed: what fails next tells it in other words. */
const listingOf = (files: Files, directory: string): Promise<unknown> =>
  files.list(directory).then(() => undefined, codeOf)

const NO_DIRECTORY = {
  ENOENT: 'there is no such directory; name the data directory of a node',
  ENOTDIR: 'it is a file, or a part of its path is; name a directory',
} as const

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: '; run as its owner, or name another directory',
  EPERM: '; run as its owner, or name another directory',
  EROFS: '; name a directory where this user can write',
}

export const asOpenError = (directory: string, error: unknown): SkeinError =>
  error instanceof SkeinError
    ? error
    : new SkeinError(
        isFull(error) ? 'JOURNAL_FULL' : 'JOURNAL_FAILED',
        `open the journal in "${directory}": ${messageOf(error)}${REMEDIES[String(codeOf(error))] ?? ''}`,
        { cause: error },
      )

/** Each new name is made durable in the directory above, or all below it is gone after a power cut. */
const makeDirectories = async (files: Files, path: string): Promise<void> => {
  const above = dirname(path)
  if (above === path) return
  try {
    if (await files.makeDirectory(path)) await files.syncDirectory(above)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    await makeDirectories(files, above)
    if (await files.makeDirectory(path)) await files.syncDirectory(above)
  }
}

const identify = async (
  files: Files,
  directory: string,
  wanted: string | undefined,
  fault: (error: SkeinError) => void,
): Promise<string> => {
  const known = await knownId(files, directory)
  if (known === undefined) {
    const id = wanted ?? randomBytes(16).toString('hex')
    await createWhole(files, directory, IDENTITY, [encode(id)])
    return id
  }
  const { id, lack } = known
  if (wanted !== undefined && wanted !== id) {
    throw new SkeinError(
      'OPTION_INVALID',
      `id: '${wanted}' is not the one that the data directory "${directory}" belongs to ('${id}'); ` +
        'leave it away, or use another dataDir',
    )
  }
  if (lack === undefined) return id
  await createWhole(files, directory, IDENTITY, [encode(id)])
  fault(
    new SkeinError(
      'JOURNAL_DAMAGED',
      `open the journal in "${directory}": its file "${IDENTITY}" was ${lack}; ` +
        'the segments say whose messages these are, so it was written anew, and nothing is lost',
    ),
  )
  return id
}

interface Known {
  readonly id: string
  /** What is wrong with the file that should say so. */
  readonly lack: 'damaged' | 'not there' | undefined
}

/** Whose directory it is, as its file says, or else all segments do; undefined where it is new. */
const knownId = async (files: Files, directory: string): Promise<Known | undefined> => {
  const stored = await readSmall(files, `${directory}/${IDENTITY}`, 256)
  const id = /^skein node ([0-9a-f]{32}) /.exec(stored?.toString('latin1') ?? '')?.[1]
  if (id !== undefined && stored?.equals(encode(id))) return { id, lack: undefined }
  const { segments, ids } = await idsInSegments(files, `${directory}/${JOURNAL}`)
  if (ids.length === 1) return { id: ids[0]!, lack: stored === undefined ? 'not there' : 'damaged' }
  if (stored === undefined && segments === 0) return undefined
  throw new SkeinError(
    'JOURNAL_DAMAGED',
    `open the journal in "${directory}": its file "${IDENTITY}" is damaged or gone, and its segments do not say whose messages these are; ` +
      'put the file back from a copy, or move the directory away to begin anew without what is owed in it',
  )
}

const idsInSegments = async (
  files: Files,
  journal: string,
): Promise<{ segments: number; ids: readonly string[] }> => {
  const names = await files.list(journal).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  })
  const segments = names.filter((name) => placeOf(name) !== undefined)
  const ids = new Set<string>()
  for (const name of segments) {
    const read = readHeader((await readSmall(files, `${journal}/${name}`, HEADER_BYTES)) ?? Buffer.alloc(0))
    if (typeof read === 'object') ids.add(read.header.nodeId)
  }
  return { segments: segments.length, ids: [...ids] }
}

const encode = (id: string): Buffer => {
  const text = `skein node ${id} `
  const bytes = Buffer.from(text)
  return Buffer.from(`${text}${crc32(bytes, 0, bytes.length, 0).toString(16).padStart(8, '0')}\n`)
}
