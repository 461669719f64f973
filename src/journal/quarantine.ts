import { createWhole, type Files, readAll } from './files.ts'
import type { Segment } from './segment.ts'

/** What was damaged is kept in here, for who wants to look into it. */
export const DAMAGED = 'damaged'
/** Of many crashes only the traces of the last ones are kept (G6). */
const MOST_KEPT = 16

/** Cuts a torn end off a segment, keeping a copy of it; answers the copy's path below the journal. */
export const cutTail = async (
  files: Files,
  directory: string,
  segment: Segment,
  from: number,
  to: number,
): Promise<string> => {
  await prepare(files, directory)
  const name = `${segment.name}.${from}.torn`
  const file = await files.open(segment.path, 'change')
  try {
    const tail = Buffer.alloc(to - from)
    await createWhole(files, `${directory}/${DAMAGED}`, name, [
      tail.subarray(0, await readAll(file, tail, from)),
    ])
    await file.truncate(from)
    await file.sync()
  } finally {
    await file.close()
  }
  return `${DAMAGED}/${name}`
}

/** Puts a damaged segment away of which nothing is owed any more that can be read. */
export const keepDamaged = async (files: Files, directory: string, name: string): Promise<void> => {
  await prepare(files, directory)
  await files.rename(`${directory}/${name}`, `${directory}/${DAMAGED}/${name}`)
  await files.syncDirectory(`${directory}/${DAMAGED}`)
}

const prepare = async (files: Files, directory: string): Promise<void> => {
  const path = `${directory}/${DAMAGED}`
  if (await files.makeDirectory(path)) await files.syncDirectory(directory)
  const names = (await files.list(path)).sort()
  for (const name of names.slice(0, Math.max(0, names.length - MOST_KEPT + 1)))
    await files.remove(`${path}/${name}`)
}
