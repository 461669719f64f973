/** Sequences as ranges: `[from, to, from, to, …]`, both ends included, ascending and apart from each other. */
export type Ranges = readonly number[]

/** Puts ranges in order, and those together that touch. */
export const normalise = (pairs: readonly number[]): number[] => {
  let sorted = true
  for (let at = 2; at < pairs.length && sorted; at += 2) sorted = pairs[at]! >= pairs[at - 2]!
  if (sorted) return joined(pairs)
  const order = Array.from({ length: pairs.length / 2 }, (_, index) => 2 * index)
  order.sort((a, b) => pairs[a]! - pairs[b]!)
  return joined(order.flatMap((at) => [pairs[at]!, pairs[at + 1]!]))
}

const joined = (pairs: readonly number[]): number[] => {
  const ranges: number[] = []
  for (let at = 0; at < pairs.length; at += 2) addRange(ranges, pairs[at]!, pairs[at + 1]!)
  return ranges
}

/** Adds a range that begins no earlier than the last one. */
export const addRange = (ranges: number[], from: number, to: number): void => {
  const last = ranges.length - 1
  if (last >= 0 && from <= ranges[last]! + 1) ranges[last] = Math.max(ranges[last]!, to)
  else ranges.push(from, to)
}

export const subtract = (from: Ranges, what: Ranges): number[] => {
  const left: number[] = []
  let next = 0
  for (let at = 0; at < from.length; at += 2) {
    let start = from[at]!
    const end = from[at + 1]!
    while (next < what.length && what[next + 1]! < start) next += 2
    for (let other = next; other < what.length && what[other]! <= end && start <= end; other += 2) {
      if (what[other]! > start) left.push(start, what[other]! - 1)
      start = Math.max(start, what[other + 1]! + 1)
    }
    if (start <= end) left.push(start, end)
  }
  return left
}

export const countIn = (ranges: Ranges): number => {
  let count = 0
  for (let at = 0; at < ranges.length; at += 2) count += ranges[at + 1]! - ranges[at]! + 1
  return count
}

/** The bytes that `putRanges` needs at most. */
export const boundOf = (ranges: Ranges): number => 4 + 7 * ranges.length

/** count u32 · for each, as varints: how far it begins behind the end of the one before, how much longer than one. */
export const putRanges = (buffer: Buffer, at: number, ranges: Ranges): number => {
  buffer.writeUInt32LE(ranges.length / 2, at)
  at += 4
  let end = 0
  for (let index = 0; index < ranges.length; index += 2) {
    at = putVarint(buffer, at, ranges[index]! - end)
    at = putVarint(buffer, at, ranges[index + 1]! - ranges[index]!)
    end = ranges[index + 1]!
  }
  return at
}

/** Undefined where the bytes are no ranges, which a right CRC all but rules out. */
export const getRanges = (buffer: Buffer, at: number, end: number): number[] | undefined => {
  if (end - at < 4) return undefined
  const count = buffer.readUInt32LE(at)
  at += 4
  if (2 * count > end - at) return undefined
  const ranges: number[] = []
  let value = 0
  for (let left = 2 * count; left > 0; left--) {
    let scale = 1
    let byte = 0x80
    while ((byte & 0x80) !== 0) {
      if (at >= end || scale > 2 ** 49) return undefined
      byte = buffer[at++]!
      value += (byte & 0x7f) * scale
      scale *= 128
    }
    ranges.push(value)
  }
  return value < 2 ** 48 ? ranges : undefined
}

const putVarint = (buffer: Buffer, at: number, value: number): number => {
  while (value >= 0x80) {
    buffer[at++] = (value % 0x80) | 0x80
    value = Math.floor(value / 0x80)
  }
  buffer[at++] = value
  return at
}
