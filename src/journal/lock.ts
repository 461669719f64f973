import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import { codeOf, type Lock } from './files.ts'

/**
 * One owner for a directory, by a lock that the kernel lifts when its holder dies, in whatever way. Node has no flock:
 * on Linux each who wants the directory listens on a socket of its own in it and only then looks whether another one
 * answers. Who dies stops answering; who is stopped or busy still has a socket that accepts. Two that come at the same
 * time both see the other, and both withdraw for a moment: never do both stay. Sockets in a directory are seen through
 * container walls, where process ids mean nothing. macOS and Windows open a file exclusively instead.
 */
export const lockDirectory = (directory: string, holder: string, clock: Clock): Promise<Lock> =>
  process.platform === 'linux' ? lockBySockets(directory, holder, clock) : lockByFile(directory, holder)

/** For who is refused, and for a second host on a shared disk, whom sockets do not reach. */
export const OWNER = 'owner'
const PREFIX = 'owner-'
const SUFFIX = '.socket'
/** Who finds a rival tries again for so long: one that is only trying, too, is gone by then. */
const PATIENCE_MS = 400
/** Longer paths do not fit into a socket's address. */
const MAX_PATH_BYTES = 100

/** What file systems say that have no sockets, such as some that containers share with their host. */
const WITHOUT_SOCKETS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSYS']

const lockBySockets = async (directory: string, holder: string, clock: Clock): Promise<Lock> => {
  // The lock keeps the directory open, so that a path too long for an address can be said shortly.
  const handle = await fs.open(directory, 'r')
  const at = (name: string): string => {
    const path = `${directory}/${name}`
    return Buffer.byteLength(path) <= MAX_PATH_BYTES ? path : `/proc/self/fd/${handle.fd}/${name}`
  }
  const held = async (server: Server): Promise<Lock> => {
    const token = await writeOwner(directory, holder)
    return {
      check: () => checkOwner(directory, token),
      async release() {
        await closed(server)
        await handle.close()
      },
    }
  }
  try {
    const end = clock.now() + PATIENCE_MS
    for (;;) {
      const name = `${PREFIX}${randomBytes(6).toString('hex')}${SUFFIX}`
      const server = await listen(at(name))
      if (typeof server === 'string') {
        if (!WITHOUT_SOCKETS.includes(server)) throw cannotLock(directory, server)
        return await held(await listenBeside(directory, await handle.stat()))
      }
      if (await isAlone(directory, name, at)) return await held(server)
      await closed(server)
      if (clock.now() > end) throw await lockedBy(directory)
      await new Promise<void>((resolve) => clock.after(5 + clock.random() * 45, resolve))
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** A name outside all file systems. It is taken by one at a time too, but seen only in this network namespace. */
const listenBeside = async (
  directory: string,
  { dev, ino }: { dev: number; ino: number },
): Promise<Server> => {
  const server = await listen(`\0skein-journal-${dev}-${ino}`)
  if (server === 'EADDRINUSE') throw await lockedBy(directory)
  if (typeof server === 'string') throw cannotLock(directory, server)
  return server
}

const cannotLock = (directory: string, code: string): SkeinError =>
  new SkeinError(
    'JOURNAL_FAILED',
    `open the journal in "${directory}": it cannot be locked, since no socket can be made in it (${code}); ` +
      (code === 'EACCES' || code === 'EROFS'
        ? 'let this user write there, or name another directory'
        : 'put dataDir on a local file system'),
  )

/** The server, or the code of what prevents it. */
const listen = (path: string): Promise<Server | string> =>
  new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.unref()
    server.once('error', (error) => resolve(String(codeOf(error))))
    server.listen(path, () => resolve(server))
  })

/** Node removes the socket's file when its server is closed. */
const closed = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()))

/** Nobody else answers; the sockets of the dead are swept away. */
const isAlone = async (directory: string, own: string, at: (name: string) => string): Promise<boolean> => {
  const others = (await fs.readdir(directory)).filter(
    (name) => name.startsWith(PREFIX) && name.endsWith(SUFFIX) && name !== own,
  )
  const answers = await Promise.all(others.map((name) => answersAt(at(name))))
  await Promise.all(
    others.filter((_, index) => answers[index] === false).map((name) => fs.unlink(at(name)).catch(() => {})),
  )
  return !answers.includes(true)
}

/** A full queue of connections (EAGAIN) is one that somebody holds. */
const answersAt = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error) => resolve(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'))
  })

/** An exclusively opened file: O_NONBLOCK | O_EXLOCK on macOS, no sharing on Windows (libuv's UV_FS_O_EXLOCK). */
const EXCLUSIVE = process.platform === 'win32' ? 0x1000_0000 : 0x24

const lockByFile = async (directory: string, holder: string): Promise<Lock> => {
  const flags = fs.constants.O_RDWR | fs.constants.O_CREAT | EXCLUSIVE
  let file: fs.FileHandle
  try {
    file = await fs.open(`${directory}/lock`, flags, 0o600)
  } catch (error) {
    if (['EAGAIN', 'EWOULDBLOCK', 'EBUSY', 'EPERM'].includes(String(codeOf(error))))
      throw await lockedBy(directory)
    throw error
  }
  const token = await writeOwner(directory, holder)
  return { check: () => checkOwner(directory, token), release: () => file.close() }
}

/** Undefined where it cannot be written, as on a full disk: the lock holds without it. */
const writeOwner = async (directory: string, holder: string): Promise<string | undefined> => {
  const token = `${holder}\n${randomBytes(16).toString('hex')}\n`
  try {
    await fs.writeFile(`${directory}/${OWNER}`, token, { mode: 0o600 })
    return token
  } catch {
    return undefined
  }
}

const checkOwner = async (directory: string, token: string | undefined): Promise<void> => {
  if (token === undefined) return
  const now = await fs.readFile(`${directory}/${OWNER}`, 'utf8').catch(() => token)
  if (now !== token) throw await lockedBy(directory)
}

const lockedBy = async (directory: string): Promise<SkeinError> => {
  const text = await fs.readFile(`${directory}/${OWNER}`, 'utf8').catch(() => '')
  const holder = text.split('\n', 1)[0]
  return new SkeinError(
    'JOURNAL_LOCKED',
    `open the journal in "${directory}": it belongs to ${holder || 'another node'} that is running; ` +
      'give each instance a dataDir of its own',
  )
}
