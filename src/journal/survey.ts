import { SkeinError } from '../errors.ts'
import { type File, type Files, readAll, TEMPORARY } from './files.ts'
import { FORMAT_VERSION, HEADER_BYTES, type Header, isSuperseded, placeOf, readHeader } from './header.ts'
import { addRange, normalise, type Ranges, subtract } from './ranges.ts'
import { HEAD_BYTES } from './record.ts'
import { type Hole, type Scan, scanSegment, sequencesOf } from './scan.ts'
import { Segment, Segments } from './segments.ts'

/** A part of a segment that cannot be used. */
export interface Damage {
  readonly segment: string
  readonly offset: number
  readonly bytes: number
  /** The disk did not show it; otherwise it showed something that was not written there. */
  readonly isUnreadable: boolean
}

/** All that a journal's directory says. */
export interface Survey {
  /** In order, with what is settled marked as such; the last one is where the writer was when it ended. */
  readonly segments: Segments
  /** The last segment's end, if it was cut short while it was written: it was never accepted. */
  readonly torn: { readonly segment: Segment; readonly from: number; readonly to: number } | undefined
  readonly damage: readonly Damage[]
  /** Owed, and not there. */
  readonly lost: Ranges
  /** Sequences above this may be lost as well, if the end of the last segment is damaged: nothing says how many. */
  readonly lostAfter: number | undefined
  /** No sequence above this was ever given out, as far as the bytes allow to say. */
  readonly lastSequence: number
  readonly lastNumber: number
  /** The time of day that was recorded last, or 0. */
  readonly lastWallMs: number
  /** Names of files that were begun and never finished. */
  readonly unfinished: readonly string[]
  /** Names of segments that were put together in another one, which must not go before them. */
  readonly superseded: readonly string[]
}

interface Found {
  readonly segment: Segment
  readonly header: Header | undefined
  readonly isHeaderDamaged: boolean
  readonly fileBytes: number
}

/** Reads a journal without changing it. Files in `held` stay open, so that they can be read though removed. */
export const surveyJournal = async (
  files: Files,
  directory: string,
  nodeId: string,
  held?: Segment[],
): Promise<Survey> => {
  const names = await files.list(directory)
  const places = names.flatMap((name) => placeOf(name) ?? [])
  const superseded = names.filter((name) => {
    const place = placeOf(name)
    return place !== undefined && places.some((other) => isSuperseded(place, other))
  })
  const found: Found[] = []
  for (const name of names) {
    const place = placeOf(name)
    if (place === undefined) continue
    const segment = new Segment(files, directory, nodeId, place, 0)
    if (held !== undefined && !superseded.includes(name)) {
      segment.keep(await files.open(segment.path, 'read'))
      held.push(segment)
    }
    const entry = await readEntry(segment, nodeId)
    if (!superseded.includes(name)) found.push(entry)
  }
  found.sort((a, b) => a.segment.place.first - b.segment.place.first)
  return {
    ...(await new Surveyor(found).survey()),
    superseded,
    unfinished: names.filter((name) => name.endsWith(TEMPORARY)),
  }
}

const readEntry = (segment: Segment, nodeId: string): Promise<Found> =>
  segment.use(async (file) => {
    const buffer = Buffer.alloc(HEADER_BYTES)
    const length = await readAll(file, buffer, 0).catch(() => 0)
    const read = readHeader(buffer.subarray(0, length))
    if (typeof read === 'number') {
      throw new SkeinError(
        'VERSION_MISMATCH',
        `open the journal: "${segment.path}" is written in format ${read}, this skein reads format ${FORMAT_VERSION}; ` +
          'use the skein that wrote it, nothing was changed',
      )
    }
    const isOwn =
      read !== undefined &&
      read.header.nodeId === nodeId &&
      read.header.first === segment.place.first &&
      read.header.last === segment.place.last &&
      read.header.generation === segment.place.generation
    return {
      segment,
      header: isOwn ? read.header : undefined,
      isHeaderDamaged: !isOwn || read.damaged,
      fileBytes: await file.size(),
    }
  })

/** Goes through the segments in order and keeps what the latest ones say about all. */
class Surveyor {
  readonly #found: readonly Found[]
  readonly #segments = new Segments()
  readonly #damage: Damage[] = []
  readonly #damaged: Segment[] = []
  #torn: Survey['torn']
  /** What was owed when the latest readable segment was begun, and what has happened since. */
  #owed: Ranges = []
  #isOwedKnown = false
  #since = 0
  #settled: number[] = []
  #gaps: number[] = []
  #last = 0
  #wallMs = 0
  /** Of the last segment, what cannot be read or was torn: sequences in there must not be given out again. */
  #hiddenBytes = 0
  #lostAfter: number | undefined

  constructor(found: readonly Found[]) {
    this.#found = found
  }

  async survey(): Promise<Omit<Survey, 'superseded' | 'unfinished'>> {
    for (const entry of this.#found) await this.#look(entry)
    const lost = this.#conclude()
    return {
      segments: this.#segments,
      torn: this.#torn,
      damage: this.#damage,
      lost,
      lostAfter: this.#lostAfter,
      lastSequence: Math.max(this.#last, lost.at(-1) ?? 0) + Math.ceil(this.#hiddenBytes / HEAD_BYTES),
      lastNumber: this.#found.at(-1)?.segment.place.last ?? 0,
      lastWallMs: this.#wallMs,
    }
  }

  async #look(entry: Found): Promise<void> {
    const { segment, header, fileBytes } = entry
    const known = this.#endOf(entry)
    const end = known ?? fileBytes
    segment.bytes = end
    segment.previous = header?.previous ?? 0
    const isLast = entry === this.#found.at(-1)
    const scan = await segment.use((file: File) =>
      scanSegment(file, segment.salt, end, segment.index, this.#last),
    )
    this.#segments.add(segment)
    const tornAt = isLast && known === undefined ? tornFrom(scan) : undefined
    if (tornAt !== undefined) {
      this.#torn = { segment, from: tornAt, to: end }
      segment.index.cut(tornAt)
      this.#segments.grow(segment, tornAt - end)
    }
    segment.isOverlong = segment.bytes < fileBytes
    const holes: Hole[] = scan.holes.filter(({ from }) => tornAt === undefined || from < tornAt)
    if (entry.isHeaderDamaged) holes.unshift({ from: 0, to: Math.min(HEADER_BYTES, fileBytes) })
    if (holes.length > 0) {
      segment.isDamaged = header === undefined || holes.some(({ from }) => from > 0)
      if (segment.isDamaged) this.#damaged.push(segment)
      for (const { from, to } of holes) {
        const { isUnreadable } = scan
        this.#damage.push({ segment: segment.name, offset: from, bytes: to - from, isUnreadable })
      }
    }
    this.#follow(segment, scan, tornAt ?? Number.POSITIVE_INFINITY)
    if (!isLast) return
    const hole = holes.at(-1)
    if (hole !== undefined && hole.to === segment.bytes) this.#lostAfter = this.#last
    this.#hiddenBytes =
      (tornAt === undefined ? 0 : end - tornAt) + (hole === undefined ? 0 : hole.to - hole.from)
  }

  /** Where a segment ends, if it says so itself or the next one does. */
  #endOf({ segment, header }: Found): number | undefined {
    if (segment.place.generation > 0) return header?.bytes
    return this.#found.find((other) => other.header?.previous === segment.place.first)?.header?.previousEnd
  }

  #follow(segment: Segment, scan: Scan, cut: number): void {
    const { index } = segment
    if (scan.owed !== undefined) {
      this.#owed = scan.owed.ranges
      this.#since = scan.owed.sequence
      this.#isOwedKnown = true
      this.#settled = []
      this.#gaps = []
      this.#last = Math.max(this.#last, scan.owed.sequence)
    }
    // Where segments were put together, what is not there was settled.
    const isDense = segment.place.generation === 0
    for (let at = 0; at < index.count; at++) {
      const sequence = index.sequenceAt(at)
      if (isDense && this.#last > 0 && sequence > this.#last + 1)
        addRange(this.#gaps, this.#last + 1, sequence - 1)
      this.#last = Math.max(this.#last, sequence)
    }
    for (let at = 0; at < scan.marks.length && scan.marks[at]! < cut; at += 2) {
      const sequence = scan.marks[at + 1]!
      if (sequence <= this.#last) continue
      if (isDense && this.#last > 0) addRange(this.#gaps, this.#last + 1, sequence)
      this.#last = sequence
    }
    for (let at = 0; at < scan.settled.length && scan.settled[at]! < cut; at += 3) {
      this.#settled.push(scan.settled[at + 1]!, scan.settled[at + 2]!)
    }
    if (scan.wallMs > 0) this.#wallMs = scan.wallMs
  }

  /** Marks what is settled; answers what is lost. */
  #conclude(): Ranges {
    const segments = this.#segments
    if (this.#isOwedKnown) {
      const settled = subtract([0, this.#since], this.#owed)
      for (let at = 0; at < settled.length; at += 2) segments.settle(settled[at]!, settled[at + 1]!)
    }
    const settled = normalise(this.#settled)
    for (let at = 0; at < settled.length; at += 2) segments.settle(settled[at]!, settled[at + 1]!)
    const there = normalise(segments.list.flatMap(({ index }) => sequencesOf(index)))
    const lost = subtract(subtract(normalise([...this.#owed, ...this.#gaps]), there), settled)
    this.#assign(lost)
    return lost
  }

  /** Says of each damaged segment which of the lost sequences may stand in it. */
  #assign(lost: Ranges): void {
    const { list } = this.#segments
    for (const segment of this.#damaged) {
      const at = list.indexOf(segment)
      const before = Math.max(0, ...list.slice(0, at).map(({ index }) => index.lastSequence))
      const behind = list.slice(at + 1).find(({ index }) => index.count > 0)?.index.firstSequence
      const elsewhere = subtract(lost, [before + 1, (behind ?? Number.MAX_SAFE_INTEGER) - 1])
      this.#segments.lose(segment, subtract(lost, elsewhere))
    }
  }
}

/** Where the last segment is torn: at the first hole behind all that was accepted for good. */
const tornFrom = (scan: Scan): number | undefined => {
  // What the disk does not show today it may show tomorrow: nothing is cut for that.
  if (scan.isUnreadable) return undefined
  // The first notes were there before the segment had its name.
  const accepted = Math.max(scan.accepted, HEADER_BYTES + 1)
  return scan.holes.find(({ from }) => from >= accepted)?.from
}
