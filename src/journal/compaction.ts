import { HEADER_BYTES } from './header.ts'

/** What is known of a segment that may be put together with its neighbours. */
export interface Candidate {
  readonly bytes: number
  readonly liveBytes: number
  readonly isMovable: boolean
}

export interface CompactionLimits {
  /** No segment becomes larger than this. */
  readonly segmentBytes: number
  /** Most that may be written. */
  readonly roomBytes: number
  /** How much of what is read must be gained. */
  readonly share: number
}

/** A file costs a handle to open and a read at recovery: as much as so many bytes. */
const FILE_SHARE = 1 / 64
const MOST_TOGETHER = 64

/** Which segments side by side are best put together: from … to, both included. */
export const chooseRun = (
  candidates: readonly Candidate[],
  { segmentBytes, roomBytes, share }: CompactionLimits,
): { from: number; to: number } | undefined => {
  const fileBytes = segmentBytes * FILE_SHARE
  let best: { from: number; to: number } | undefined
  let bestGain = 0
  for (let from = 0; from < candidates.length; from++) {
    let cost = fileBytes + HEADER_BYTES
    let live = HEADER_BYTES
    let bytes = 0
    for (let to = from; to < candidates.length && to - from < MOST_TOGETHER; to++) {
      const candidate = candidates[to]!
      bytes += candidate.bytes + fileBytes
      live += candidate.liveBytes
      cost += candidate.liveBytes
      if (!candidate.isMovable || live > segmentBytes || live > roomBytes) break
      const gain = bytes - cost
      // A byte written must earn its keep: of two runs the one that gains more for what it writes.
      if (gain < share * bytes || gain / cost <= bestGain) continue
      bestGain = gain / cost
      best = { from, to }
    }
  }
  return best
}
