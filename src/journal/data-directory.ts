import { randomBytes } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { crc32 } from './crc.ts'
import { createWhole, type Files, isFull, type Lock, readSmall } from './files.ts'

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
 * Makes or opens a data directory and takes it for this process.
 * @throws JOURNAL_LOCKED, JOURNAL_DAMAGED, JOURNAL_FAILED, OPTION_INVALID for another id than the one in it
 */
export const openDataDirectory = async (
  files: Files,
  path: string,
  nodeId: string | undefined,
  clock: Clock,
): Promise<DataDirectory> => {
  const directory = resolve(path)
  const journal = `${directory}/${JOURNAL}`
  let lock: Lock | undefined
  try {
    await makeDirectories(files, directory)
    lock = await files.lock(directory, `process ${process.pid}`, clock)
    const id = await identify(files, directory, nodeId)
    if (await files.makeDirectory(journal)) await files.syncDirectory(directory)
    return { nodeId: id, journal, lock }
  } catch (error) {
    await lock?.release()
    throw asOpenError(directory, error)
  }
}

/** The id in a data directory that may be in use. @throws JOURNAL_DAMAGED */
export const readNodeId = async (files: Files, path: string): Promise<string> => {
  const directory = resolve(path)
  const id = await storedId(files, directory)
  if (id === undefined) throw asOpenError(directory, new Error(`there is no "${IDENTITY}" in it`))
  return id
}

export const asOpenError = (directory: string, error: unknown): SkeinError =>
  error instanceof SkeinError
    ? error
    : new SkeinError(
        isFull(error) ? 'JOURNAL_FULL' : 'JOURNAL_FAILED',
        `open the journal in "${directory}": ${messageOf(error)}`,
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

const identify = async (files: Files, directory: string, wanted: string | undefined): Promise<string> => {
  const stored = await storedId(files, directory)
  if (stored === undefined) {
    const id = wanted ?? randomBytes(16).toString('hex')
    await createWhole(files, directory, IDENTITY, [encode(id)])
    return id
  }
  if (wanted !== undefined && wanted !== stored) {
    throw new SkeinError(
      'OPTION_INVALID',
      `id: '${wanted}' is not the one that the data directory "${directory}" belongs to ('${stored}'); ` +
        'leave it away, or use another dataDir',
    )
  }
  return stored
}

const storedId = async (files: Files, directory: string): Promise<string | undefined> => {
  const bytes = await readSmall(files, `${directory}/${IDENTITY}`, 256)
  if (bytes === undefined) return undefined
  const id = /^skein node ([0-9a-f]{32}) /.exec(bytes.toString('latin1'))?.[1]
  if (id !== undefined && bytes.equals(encode(id))) return id
  throw new SkeinError(
    'JOURNAL_DAMAGED',
    `open the journal in "${directory}": its file "${IDENTITY}" is damaged, so nobody knows whose messages these are; ` +
      'put the file back from a copy, or move the directory away to begin anew without what is owed in it',
  )
}

const encode = (id: string): Buffer => {
  const text = `skein node ${id} `
  const bytes = Buffer.from(text)
  return Buffer.from(`${text}${crc32(bytes, 0, bytes.length, 0).toString(16).padStart(8, '0')}\n`)
}
