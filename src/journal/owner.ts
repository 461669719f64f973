import { diskFiles } from './disk-files.ts'
import { type Files, readSmall } from './files.ts'
import { OWNER } from './lock.ts'

/**
 * What the present owner of a data directory has written there at its start, or undefined. Nobody else can know it who
 * cannot read the directory.
 */
export const readOwner = async (directory: string, files: Files = diskFiles): Promise<string | undefined> =>
  (await readSmall(files, `${directory}/${OWNER}`, 1024))?.toString('utf8')
