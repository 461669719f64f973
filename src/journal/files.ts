import type { Clock } from '../clock.ts'

/** An open file, as the journal needs it. Every failure is an Error with the system's `code`. */
export interface File {
  /** Answers how many bytes were read: fewer at the end, none behind it. */
  read(into: Buffer, position: number): Promise<number>
  /** Answers how many bytes were written, perhaps fewer than given. The memory is free again afterwards. */
  write(pieces: readonly Buffer[], position: number): Promise<number>
  size(): Promise<number>
  truncate(bytes: number): Promise<void>
  /** Afterwards the file's bytes and its size survive a power cut; its name needs `syncDirectory`. */
  sync(): Promise<void>
  close(): Promise<void>
}

/** Ends by itself when its holder dies, however that comes about. */
export interface Lock {
  /** @throws JOURNAL_LOCKED when somebody else has taken the directory nevertheless */
  check(): Promise<void>
  release(): Promise<void>
}

/** The file system, as the journal needs it: few calls, so that a simulated one can lose, tear and refuse them. */
export interface Files {
  /** Answers whether it was made now. */
  makeDirectory(path: string): Promise<boolean>
  list(directory: string): Promise<string[]>
  /** `read` and `change` fail with ENOENT where there is nothing; `create` empties what is there. */
  open(path: string, mode: 'read' | 'change' | 'create'): Promise<File>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  /** Afterwards the names in it survive a power cut. */
  syncDirectory(path: string): Promise<void>
  /** @throws JOURNAL_LOCKED, naming the holder */
  lock(directory: string, holder: string, clock: Clock): Promise<Lock>
}

export const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException | null)?.code

/** There is no room on the disk, which may change; anything else that fails is a disk that fails. */
export const isFull = (error: unknown): boolean => codeOf(error) === 'ENOSPC' || codeOf(error) === 'EDQUOT'

const MAX_INTERRUPTIONS = 100

/** Writes all of it: a short write is no success. */
export const writeAll = async (file: File, pieces: readonly Buffer[], position: number): Promise<void> => {
  let left = behind(pieces, 0)
  let interrupted = 0
  while (left.length > 0) {
    try {
      const written = await file.write(left, position)
      if (written === 0) throw new Error(`nothing was written at ${position}`)
      position += written
      left = behind(left, written)
    } catch (error) {
      if (codeOf(error) !== 'EINTR' || ++interrupted > MAX_INTERRUPTIONS) throw error
    }
  }
}

const behind = (pieces: readonly Buffer[], bytes: number): readonly Buffer[] => {
  let first = 0
  while (first < pieces.length && bytes >= pieces[first]!.length) bytes -= pieces[first++]!.length
  if (first === pieces.length) return []
  return [pieces[first]!.subarray(bytes), ...pieces.slice(first + 1)]
}

/** Reads until the buffer is full or the file ends; answers how many bytes there were. */
export const readAll = async (file: File, into: Buffer, position: number): Promise<number> => {
  let length = 0
  let interrupted = 0
  while (length < into.length) {
    try {
      const read = await file.read(length === 0 ? into : into.subarray(length), position + length)
      if (read === 0) break
      length += read
    } catch (error) {
      if (codeOf(error) !== 'EINTR' || ++interrupted > MAX_INTERRUPTIONS) throw error
    }
  }
  return length
}

/** Makes a file that is there with all its bytes or not at all, even after a power cut. */
export const createWhole = async (
  files: Files,
  directory: string,
  name: string,
  pieces: readonly Buffer[],
): Promise<void> => {
  const path = `${directory}/${name}`
  const temporary = `${path}${TEMPORARY}`
  try {
    const file = await files.open(temporary, 'create')
    try {
      await writeAll(file, pieces, 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await files.rename(temporary, path)
  } catch (error) {
    await files.remove(temporary).catch(() => {})
    throw error
  }
  await files.syncDirectory(directory)
}

/** What bears it was being made when its maker died. */
export const TEMPORARY = '.tmp'

/** The bytes of a small file; undefined where there is none. */
export const readSmall = async (
  files: Files,
  path: string,
  mostBytes: number,
): Promise<Buffer | undefined> => {
  let file: File
  try {
    file = await files.open(path, 'read')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const bytes = Buffer.alloc(mostBytes)
    return bytes.subarray(0, await readAll(file, bytes, 0))
  } finally {
    await file.close()
  }
}
