import { type File, readAll } from './files.ts'
import type { SegmentIndex } from './segment-index.ts'

/** How much of a segment is read at once. */
const WINDOW_BYTES = 256 * 1024

/** Some records that stand near each other, read together: those from `from` to before `to`. */
export interface ReadWindow {
  readonly buffer: Buffer
  /** Where the buffer begins in the segment. */
  readonly base: number
  readonly from: number
  readonly to: number
}

/** Reads the live records from the ordinal `from` to before `to`, some at a time; those settled meanwhile come along. */
export async function* liveWindows(
  file: File,
  index: SegmentIndex,
  from: number,
  to: number,
): AsyncGenerator<ReadWindow> {
  let next = from
  while (next < to) {
    while (next < to && !index.isLive(next)) next++
    if (next === to) return
    const base = index.offsetAt(next)
    let last = next
    for (let at = next + 1; at < to && index.boundAt(at) - base <= WINDOW_BYTES; at++) {
      if (index.isLive(at)) last = at
    }
    yield await readWindow(file, index, next, last + 1)
    next = last + 1
  }
}

/** What cannot be read is zeros, which no CRC fits. */
export const readWindow = async (
  file: File,
  index: SegmentIndex,
  from: number,
  to: number,
): Promise<ReadWindow> => {
  const base = index.offsetAt(from)
  const buffer = Buffer.allocUnsafe(index.boundAt(to - 1) - base)
  buffer.fill(0, await readAll(file, buffer, base))
  return { buffer, base, from, to }
}
