import * as fs from 'node:fs'
import { promisify } from 'node:util'
import { codeOf, type File, type Files } from './files.ts'
import { lockDirectory } from './lock.ts'

const open = promisify(fs.open)
const close = promisify(fs.close)
const fstat = promisify(fs.fstat)
const ftruncate = promisify(fs.ftruncate)
const fdatasync = promisify(fs.fdatasync)
const fsync = promisify(fs.fsync)
const rename = promisify(fs.rename)
const unlink = promisify(fs.unlink)
const readdir = promisify(fs.readdir)
const mkdir = promisify(fs.mkdir)

const FLAGS = { read: 'r', change: 'r+', create: 'w+' } as const

/** Only its owner may read what is on its way. */
const MODE = 0o600

/** The file system of this machine. */
export const diskFiles: Files = {
  async makeDirectory(path) {
    try {
      await mkdir(path, 0o700)
      return true
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error
      return false
    }
  },
  list: (directory) => readdir(directory),
  async open(path, mode) {
    return new DiskFile(await open(path, FLAGS[mode], MODE))
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => unlink(path),
  async syncDirectory(path) {
    // Windows has no such call; its NTFS journals names by itself.
    if (process.platform === 'win32') return
    const descriptor = await open(path, 'r')
    try {
      await fsync(descriptor)
    } finally {
      await close(descriptor)
    }
  },
  lock: lockDirectory,
}

class DiskFile implements File {
  readonly #descriptor: number

  constructor(descriptor: number) {
    this.#descriptor = descriptor
  }

  read(into: Buffer, position: number): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.read(this.#descriptor, into, 0, into.length, position, (error, bytes) =>
        error === null ? resolve(bytes) : reject(error),
      ),
    )
  }

  write(pieces: readonly Buffer[], position: number): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.writev(this.#descriptor, pieces, position, (error, bytes) =>
        error === null ? resolve(bytes) : reject(error),
      ),
    )
  }

  async size(): Promise<number> {
    return (await fstat(this.#descriptor)).size
  }

  truncate(bytes: number): Promise<void> {
    return ftruncate(this.#descriptor, bytes)
  }

  sync(): Promise<void> {
    return fdatasync(this.#descriptor)
  }

  close(): Promise<void> {
    return close(this.#descriptor)
  }
}
