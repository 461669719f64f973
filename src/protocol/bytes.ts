import { SkeinError } from '../errors.ts'
import { Frame } from './frame.ts'

/** Numbers on the wire are little-endian; sequences are 48 bits, which JavaScript counts exactly. */
const HIGH = 0x1_0000_0000

/** A batch is full at this size: large enough to amortise a ZeroMQ message, small enough to stay in cache. */
export const BATCH_BYTES = 64 * 1024
const SMALLEST_SLAB = 512

/** Most lanes of a large mesh never carry anything: a slab is made for the first byte. */
const NOTHING = Buffer.alloc(0)

/**
 * Writes one batch after the other into slabs that only move forward: ZeroMQ sends straight from this memory, so
 * what was taken is never written again. Slabs grow and shrink with the batches that were last taken.
 */
export class Writer {
  buffer: Buffer
  at = 0
  #start = 0
  #slabBytes: number

  constructor(slabBytes: number = SMALLEST_SLAB) {
    this.#slabBytes = slabBytes
    this.buffer = NOTHING
  }

  /** Bytes written since the last take. */
  get length(): number {
    return this.at - this.#start
  }

  /** Makes room for `bytes` more. */
  reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return
    const length = this.at - this.#start
    const grown = Math.max(this.#slabBytes, 2 * length, length + bytes)
    const slab = Buffer.allocUnsafe(grown)
    slab.set(this.buffer.subarray(this.#start, this.at), 0)
    this.buffer = slab
    this.at = length
    this.#start = 0
  }

  /** Hands the batch over; its memory is the taker's from now on. */
  take(): Buffer {
    const batch = this.buffer.subarray(this.#start, this.at)
    this.#slabBytes = Math.max(SMALLEST_SLAB, Math.min(BATCH_BYTES + 4096, 2 * batch.length))
    if (this.buffer.length - this.at < batch.length) {
      this.buffer = NOTHING
      this.at = 0
    }
    this.#start = this.at
    return batch
  }

  /** Where the open batch begins: its header is filled in when the batch is sealed. */
  get start(): number {
    return this.#start
  }

  u8(value: number): void {
    this.reserve(1)
    this.buffer[this.at++] = value
  }

  u16(value: number): void {
    this.reserve(2)
    this.at = putU16(this.buffer, this.at, value)
  }

  u32(value: number): void {
    this.reserve(4)
    this.at = putU32(this.buffer, this.at, value)
  }

  u48(value: number): void {
    this.reserve(6)
    this.at = putU48(this.buffer, this.at, value)
  }

  bytes(value: Uint8Array): void {
    this.reserve(value.length)
    this.buffer.set(value, this.at)
    this.at += value.length
  }

  /** UTF-8 behind its length in 32 bits. */
  text32(value: string): void {
    this.reserve(4 + 3 * value.length)
    const written = this.buffer.write(value, this.at + 4, 'utf8')
    putU32(this.buffer, this.at, written)
    this.at += 4 + written
  }

  /** UTF-8 behind its length in 8 bits: names and topics, which are at most 255 bytes. */
  text8(value: string): void {
    this.reserve(1 + 3 * value.length)
    const written = putAscii(this.buffer, this.at + 1, value) ?? this.buffer.write(value, this.at + 1, 'utf8')
    this.buffer[this.at] = written
    this.at += 1 + written
  }
}

/** Beyond this a call into Node is quicker. */
const ASCII_BY_HAND = 24

/** Undefined where the text is long, or more than ASCII. */
const putAscii = (buffer: Uint8Array, at: number, text: string): number | undefined => {
  if (text.length > ASCII_BY_HAND) return undefined
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code > 0x7f) return undefined
    buffer[at + index] = code
  }
  return text.length
}

export const putU16 = (buffer: Uint8Array, at: number, value: number): number => {
  buffer[at] = value
  buffer[at + 1] = value >>> 8
  return at + 2
}

export const putU32 = (buffer: Uint8Array, at: number, value: number): number => {
  buffer[at] = value
  buffer[at + 1] = value >>> 8
  buffer[at + 2] = value >>> 16
  buffer[at + 3] = value >>> 24
  return at + 4
}

export const putU48 = (buffer: Uint8Array, at: number, value: number): number => {
  putU32(buffer, at, value % HIGH)
  return putU16(buffer, at + 4, Math.floor(value / HIGH))
}

/** Reads fields in order; whatever does not fit is MALFORMED, so that no decoder checks lengths by hand. */
export class Reader {
  readonly buffer: Buffer
  at: number
  end: number
  #frame: Frame | undefined

  constructor(buffer: Buffer, at = 0, end: number = buffer.length) {
    this.buffer = buffer
    this.at = at
    this.end = end
  }

  get left(): number {
    return this.end - this.at
  }

  /** The frame that is read: one for all values in it, because it copies neighbours together. */
  get frame(): Frame {
    this.#frame ??= new Frame(this.buffer)
    return this.#frame
  }

  /** Steps over `bytes` and answers where they begin. */
  skip(bytes: number): number {
    const at = this.at
    if (bytes > this.end - at)
      throw new SkeinError('MALFORMED', `a frame ends ${bytes - this.left} bytes too early`)
    this.at = at + bytes
    return at
  }

  u8(): number {
    return this.buffer[this.skip(1)]!
  }

  u16(): number {
    return this.buffer.readUInt16LE(this.skip(2))
  }

  u32(): number {
    return getU32(this.buffer, this.skip(4))
  }

  u48(): number {
    const at = this.skip(6)
    return getU32(this.buffer, at) + HIGH * (this.buffer[at + 4]! | (this.buffer[at + 5]! << 8))
  }

  bytes(length: number): Buffer {
    const at = this.skip(length)
    return this.buffer.subarray(at, at + length)
  }

  text(length: number): string {
    const at = this.skip(length)
    return this.buffer.toString('utf8', at, at + length)
  }

  text8(): string {
    return this.text(this.u8())
  }

  text32(): string {
    return this.text(this.u32())
  }

  /** What a stranger says for people to read: the beginning of it, so that no more than that is ever kept. */
  words32(maxBytes: number): string {
    const length = this.u32()
    const at = this.skip(length)
    return this.buffer.toString('utf8', at, at + Math.min(length, maxBytes))
  }
}

export const getU32 = (buffer: Uint8Array, at: number): number =>
  (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
