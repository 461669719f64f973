import { crc32 as zlibCrc32 } from 'node:zlib'

/** A call into zlib costs as much as about 200 bytes of this loop (measured: 116 B 0.20 µs against 0.34 µs). */
const SMALL_BYTES = 192

const tablesOf = (): readonly Int32Array[] => {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
    return crc
  })
  const tables = [first]
  for (let depth = 1; depth < 8; depth++)
    tables.push(tables.at(-1)!.map((crc) => (crc >>> 8) ^ first[crc & 0xff]!))
  return tables
}

const [T0, T1, T2, T3, T4, T5, T6, T7] = tablesOf() as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
]

/** CRC-32 as zlib computes it (IEEE 802.3), of a part of a buffer, begun with the CRC of what went before. */
export const crc32 = (buffer: Buffer, start: number, end: number, before: number): number => {
  if (end - start > SMALL_BYTES) return zlibCrc32(buffer.subarray(start, end), before)
  let crc = ~before
  let at = start
  for (; at + 8 <= end; at += 8) {
    const low =
      crc ^ (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24))
    crc =
      T7[low & 0xff]! ^
      T6[(low >>> 8) & 0xff]! ^
      T5[(low >>> 16) & 0xff]! ^
      T4[low >>> 24]! ^
      T3[buffer[at + 4]!]! ^
      T2[buffer[at + 5]!]! ^
      T1[buffer[at + 6]!]! ^
      T0[buffer[at + 7]!]!
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ T0[(crc ^ buffer[at]!) & 0xff]!
  return ~crc >>> 0
}
