import { randomBytes } from 'node:crypto'
import { lstat, readdir, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { messageOf } from '../errors.ts'
import { parseEndpoint } from './discovery.ts'
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

const MAX_MESHES = 64
const MAX_DIRECTORIES = 4096
const MAX_FILES = 1024
/** Files open, and endpoints dialled, at the same time. */
const AT_ONCE = 32
const DIAL_MS = 300

/**
 * Why a registry cannot be used: a file stands where a directory should, this user may not write there, nobody may, the
 * disk is full, others could put nodes of their own in it, or anything else.
 */
export type RegistryFlaw = 'in-the-way' | 'forbidden' | 'read-only' | 'full' | 'exposed' | 'other'

/** A node as its file describes it. */
export interface RegistryNode {
  readonly id: string
  readonly name: string
  readonly pid: number
  readonly endpoint: string
  /**
   * Dead: its process is gone. Unreachable: a process of that id runs, but nobody listens at the endpoint. Elsewhere: on
   * another host, or in another container.
   */
  readonly state: 'alive' | 'dead' | 'unreachable' | 'elsewhere'
}

/** The nodes of one mesh in a registry. */
export interface RegistryMesh {
  readonly mesh: string
  readonly nodes: readonly RegistryNode[]
}

/** The registry of this host as a node would find it. */
export interface RegistrySurvey {
  /** In which each mesh has a directory of its own. */
  readonly directory: string
  /** User id of its owner; undefined where it is not there, or the system knows none. */
  readonly owner: number | undefined
  /** User id of this process. */
  readonly user: number | undefined
  readonly flaw?: { readonly kind: RegistryFlaw; readonly text: string }
  /** The meshes that have files there: the one asked for first, then those that somebody joined or left last. */
  readonly meshes: readonly RegistryMesh[]
  /** Meshes that have files there too, and were not looked at, because there are so many. */
  readonly unread: number
  /** Files of the mesh asked for that describe no node. */
  readonly malformed: number
}

const FLAWS: Readonly<Record<string, RegistryFlaw>> = {
  ENOTDIR: 'in-the-way',
  EACCES: 'forbidden',
  EPERM: 'forbidden',
  EROFS: 'read-only',
  ENOSPC: 'full',
  EDQUOT: 'full',
}

/** Looks at the registry in a directory, which is made as a node would make it. */
export const surveyRegistry = async (base: string, mesh: string): Promise<RegistrySurvey> => {
  const directory = resolve(base)
  const flaw = await flawOf(join(directory, encodeMesh(mesh)))
  const place = await whereabouts()
  const found = await meshesIn(directory, mesh, place)
  return {
    directory,
    owner: await ownerOf(directory),
    user: process.getuid?.(),
    ...(flaw === undefined ? {} : { flaw }),
    ...found,
  }
}

/** What keeps a node from using a directory: tried, because permissions alone do not say. */
const flawOf = async (directory: string): Promise<RegistrySurvey['flaw']> => {
  const draft = join(directory, `.survey-${randomBytes(8).toString('hex')}`)
  try {
    await prepareDirectory(directory)
    await writeFile(draft, '', { mode: 0o600, flag: 'wx' })
    await rm(draft)
    return undefined
  } catch (error) {
    const code = codeOf(error)
    const kind = typeof code === 'string' ? (FLAWS[code] ?? 'other') : 'exposed'
    return { kind, text: messageOf(error) }
  }
}

/** The owner of a directory, or where it is not there of the nearest one above it. */
const ownerOf = async (directory: string): Promise<number | undefined> => {
  if (process.getuid === undefined) return undefined
  try {
    return (await lstat(directory)).uid
  } catch {
    return directory === dirname(directory) ? undefined : ownerOf(dirname(directory))
  }
}

const meshesIn = async (
  directory: string,
  wanted: string,
  place: Place,
): Promise<Pick<RegistrySurvey, 'meshes' | 'unread' | 'malformed'>> => {
  const own = encodeMesh(wanted)
  const others = (await readdir(directory).catch(() => [])).filter((name) => name !== own)
  const found = await inParts(others.slice(0, MAX_DIRECTORIES), (name) => folderAt(directory, name))
  // The directory of a mesh outlives its nodes.
  const used = found.filter(({ files }) => files.length > 0).toSorted((a, b) => b.changedAt - a.changedAt)
  const meshes = new Map<string, RegistryNode[]>()
  let malformed = 0
  let left = MAX_FILES
  let unread = Math.max(0, others.length - MAX_DIRECTORIES) + Math.max(0, used.length - MAX_MESHES)
  for (const folder of [await folderAt(directory, own), ...used.slice(0, MAX_MESHES)]) {
    const { name } = folder
    const files = folder.files.slice(0, left)
    if (files.length < folder.files.length) unread++
    left -= files.length
    const nodes = await inParts(files, (file) => nodeOf(join(directory, name, file), name, place))
    for (const found of nodes) {
      if (found === undefined) malformed += name === own ? 1 : 0
      else meshes.set(found.mesh, [...(meshes.get(found.mesh) ?? []), found.node])
    }
  }
  return { meshes: [...meshes].map(([mesh, nodes]) => ({ mesh, nodes })), unread, malformed }
}

interface Folder {
  readonly name: string
  readonly files: readonly string[]
  /** When a node has joined or left, in ms since 1970. */
  readonly changedAt: number
}

const folderAt = async (directory: string, name: string): Promise<Folder> => {
  const path = join(directory, name)
  const names = await readdir(path).catch(() => [])
  const files = names.filter((each) => /^[0-9a-f]{32}\.json$/.test(each))
  const changedAt = await lstat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
  return { name, files, changedAt }
}

const nodeOf = async (
  path: string,
  encodedMesh: string,
  place: Place,
): Promise<{ mesh: string; node: RegistryNode } | undefined> => {
  const entry = await readEntry(path).catch(() => undefined)
  if (entry === undefined || typeof entry === 'string' || encodeMesh(entry.mesh) !== encodedMesh)
    return undefined
  const { id, name, pid, endpoint, mesh } = entry
  return { mesh, node: { id, name, pid, endpoint, state: await stateOf(entry, place) } }
}

const stateOf = async (entry: Entry, place: Place): Promise<RegistryNode['state']> => {
  if (entry.host !== place.host || entry.netns !== place.netns) return 'elsewhere'
  if (!isAlive(entry.pid)) return 'dead'
  return (await isListenedAt(entry.endpoint)) ? 'alive' : 'unreachable'
}

/** Whether somebody takes connections there, or at least nobody refuses them. */
const isListenedAt = (endpoint: string): Promise<boolean> => {
  const at = parseEndpoint(endpoint)
  if (at === undefined) return Promise.resolve(false)
  return new Promise((answer) => {
    const socket = connect(at)
    const end = (isThere: boolean): void => {
      socket.destroy()
      answer(isThere)
    }
    socket.setTimeout(DIAL_MS, () => end(true))
    socket.once('connect', () => end(true))
    socket.once('error', (error) => end(codeOf(error) !== 'ECONNREFUSED'))
  })
}

const inParts = async <T, R>(all: readonly T[], each: (one: T) => Promise<R>): Promise<R[]> => {
  const done: R[] = []
  for (let at = 0; at < all.length; at += AT_ONCE) {
    done.push(...(await Promise.all(all.slice(at, at + AT_ONCE).map(each))))
  }
  return done
}
