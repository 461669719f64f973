import { type Addressee, readAddressee, writeAddressee } from '../protocol/addressee.ts'
import { Reader, Writer } from '../protocol/bytes.ts'
import { Frame } from '../protocol/frame.ts'
import { ID_BYTES, idBytes } from '../protocol/header.ts'
import { type Payload, readBodyBytes, readRecord, writeRecord } from '../protocol/record.ts'

/** The kinds of record in the journal. The disk's numbers: never change one. */
export const RECORD = { message: 1, progress: 2, dead: 3, remembered: 4, sent: 5 } as const

const KEY_FLAG = 0x01
const DEDUPE_FLAG = 0x02
const DELAY_FLAG = 0x04
const EXPIRY_FLAG = 0x08
const RETRY_FLAG = 0x10

/** Everything that is kept of a message beside its value. Times are ms since 1970. */
export interface Envelope {
  /** The boot that accepted it. */
  readonly boot: string
  readonly acceptedAt: number
  readonly topic: string
  readonly key: string | undefined
  readonly dedupeId: string | undefined
  readonly notBefore: number | undefined
  readonly expiresAt: number | undefined
  /** The id of the message whose dead letter it was. */
  readonly retryOf: string | undefined
  readonly addressees: readonly Addressee[]
}

/** What is left of one addressee's part. */
export interface Part {
  readonly index: number
  readonly isSettled: boolean
  readonly failures: number
  readonly lastError: string
}

/** Why a message was given up. */
export type DeathReason = 'attempts' | 'rejected'
const REASONS: readonly DeathReason[] = ['attempts', 'rejected']

export interface Burial {
  readonly diedAt: number
  readonly reason: DeathReason
  readonly attempts: number
  readonly lastError: string
  /** Of the message: its sequence when it was owed. */
  readonly sequence: number
  readonly addressee: Addressee
}

/** flags u8 · boot(16) · accepted u48 · [not before u48] · [expires u48] · topic · [key] · [dedupe id] · [retry of] · count u16 · addressees · record */
export const writeMessage = (writer: Writer, envelope: Envelope, payload: Payload): void => {
  const { boot, acceptedAt, topic, key, dedupeId, notBefore, expiresAt, retryOf, addressees } = envelope
  writer.u8(
    (key === undefined ? 0 : KEY_FLAG) |
      (dedupeId === undefined ? 0 : DEDUPE_FLAG) |
      (notBefore === undefined ? 0 : DELAY_FLAG) |
      (expiresAt === undefined ? 0 : EXPIRY_FLAG) |
      (retryOf === undefined ? 0 : RETRY_FLAG),
  )
  writer.bytes(idBytes(boot))
  writer.u48(acceptedAt)
  if (notBefore !== undefined) writer.u48(notBefore)
  if (expiresAt !== undefined) writer.u48(expiresAt)
  writer.text8(topic)
  if (key !== undefined) writer.text8(key)
  if (dedupeId !== undefined) writer.text8(dedupeId)
  if (retryOf !== undefined) writer.text8(retryOf)
  writer.u16(addressees.length)
  for (const addressee of addressees) writeAddressee(writer, addressee)
  writeRecord(writer, payload)
}

export const readEnvelope = (reader: Reader): Envelope => {
  const flags = reader.u8()
  const boot = reader.bytes(ID_BYTES).toString('hex')
  const acceptedAt = reader.u48()
  const notBefore = flags & DELAY_FLAG ? reader.u48() : undefined
  const expiresAt = flags & EXPIRY_FLAG ? reader.u48() : undefined
  const topic = reader.text8()
  const key = flags & KEY_FLAG ? reader.text8() : undefined
  const dedupeId = flags & DEDUPE_FLAG ? reader.text8() : undefined
  const retryOf = flags & RETRY_FLAG ? reader.text8() : undefined
  const addressees: Addressee[] = []
  for (let left = reader.u16(); left > 0; left--) addressees.push(readAddressee(reader))
  return { boot, acceptedAt, topic, key, dedupeId, notBefore, expiresAt, retryOf, addressees }
}

/** What must be known of a message before its turn comes. */
export interface Glimpse {
  readonly addressees: readonly Addressee[]
  readonly expiresAt: number | undefined
  readonly dedupeId: string | undefined
  /** Read only where there is a dedupe id. */
  readonly boot: string
  /** Of the value. */
  readonly bytes: number
}

/**
 * Reads of very many messages only what must be known of them at once: a million are owed to a few addressees, so those
 * are decoded anew only where their bytes differ from the ones before.
 */
export class Glance {
  #bytes = Buffer.alloc(0)
  #addressees: readonly Addressee[] = []

  read(reader: Reader): Glimpse {
    const flags = reader.u8()
    const boot = flags & DEDUPE_FLAG ? reader.bytes(ID_BYTES).toString('hex') : ''
    reader.skip(boot === '' ? ID_BYTES + 6 : 6)
    if (flags & DELAY_FLAG) reader.skip(6)
    const expiresAt = flags & EXPIRY_FLAG ? reader.u48() : undefined
    reader.skip(reader.u8())
    if (flags & KEY_FLAG) reader.skip(reader.u8())
    const dedupeId = flags & DEDUPE_FLAG ? reader.text8() : undefined
    if (flags & RETRY_FLAG) reader.skip(reader.u8())
    const addressees = this.#read(reader)
    return { addressees, expiresAt, dedupeId, boot, bytes: readBodyBytes(reader) }
  }

  #read(reader: Reader): readonly Addressee[] {
    const { buffer, at } = reader
    const known = this.#bytes
    if (known.length > 0 && reader.left >= known.length) {
      let same = 0
      while (same < known.length && buffer[at + same] === known[same]) same++
      if (same === known.length) {
        reader.skip(same)
        return this.#addressees
      }
    }
    const addressees: Addressee[] = []
    for (let left = reader.u16(); left > 0; left--) addressees.push(readAddressee(reader))
    this.#bytes = Buffer.from(buffer.subarray(at, reader.at))
    this.#addressees = addressees
    return addressees
  }
}

/** The value behind an envelope, in memory of its own. */
export const readPayload = (reader: Reader): Payload => {
  const { content, headers, frame, start, end } = readRecord(reader, new Frame(reader.buffer))
  const body = Buffer.from(frame.bytes.subarray(start, end))
  return { content, headers, body, sizeBytes: body.length }
}

/** message u48 · (index u16 · settled u8 · failures u16 · last error)… */
export const writeProgress = (writer: Writer, sequence: number, parts: readonly Part[]): void => {
  writer.u48(sequence)
  for (const { index, isSettled, failures, lastError } of parts) {
    writer.u16(index)
    writer.u8(isSettled ? 1 : 0)
    writer.u16(failures)
    writer.text32(lastError)
  }
}

export const readProgress = (reader: Reader): { sequence: number; parts: Part[] } => {
  const sequence = reader.u48()
  const parts: Part[] = []
  while (reader.left > 0) {
    const index = reader.u16()
    const isSettled = reader.u8() === 1
    parts.push({ index, isSettled, failures: reader.u16(), lastError: reader.text32() })
  }
  return { sequence, parts }
}

/** died u48 · reason u8 · attempts u16 · last error · sequence u48 · addressee · message */
export const writeBurial = (writer: Writer, burial: Burial, envelope: Envelope, payload: Payload): void => {
  writer.u48(burial.diedAt)
  writer.u8(REASONS.indexOf(burial.reason))
  writer.u16(burial.attempts)
  writer.text32(burial.lastError)
  writer.u48(burial.sequence)
  writeAddressee(writer, burial.addressee)
  writeMessage(writer, envelope, payload)
}

export const readBurial = (reader: Reader): Burial => {
  const diedAt = reader.u48()
  const reason = REASONS[reader.u8()] ?? 'attempts'
  const attempts = reader.u16()
  const lastError = reader.text32()
  return { diedAt, reason, attempts, lastError, sequence: reader.u48(), addressee: readAddressee(reader) }
}

/** last seen u48 · group · patterns */
export const writeRemembered = (
  writer: Writer,
  group: string,
  patterns: readonly string[],
  seenAt: number,
): void => {
  writer.u48(seenAt)
  writer.text8(group)
  for (const pattern of patterns) writer.text8(pattern)
}

export const readRemembered = (reader: Reader): { group: string; patterns: string[]; seenAt: number } => {
  const seenAt = reader.u48()
  const group = reader.text8()
  const patterns: string[] = []
  while (reader.left > 0) patterns.push(reader.text8())
  return { group, patterns, seenAt }
}

/** A dedupe id whose message has ended. */
export interface EndedId {
  readonly id: string
  readonly boot: string
  readonly sequence: number
}

export const dedupeOf = ({ dedupeId: id, boot }: Envelope, sequence: number): EndedId | undefined =>
  id === undefined ? undefined : { id, boot, sequence }

export interface SentId extends EndedId {
  /** It is remembered until then: ms since 1970. */
  readonly until: number
}

/** until u48 · boot(16) · sequence u48 · dedupe id */
export const writeSent = (writer: Writer, { id, boot, sequence, until }: SentId): void => {
  writer.u48(until)
  writer.bytes(idBytes(boot))
  writer.u48(sequence)
  writer.text8(id)
}

export const readSent = (reader: Reader): SentId => {
  const until = reader.u48()
  const boot = reader.bytes(ID_BYTES).toString('hex')
  return { until, boot, sequence: reader.u48(), id: reader.text8() }
}

/** The bytes of a record, written at once. */
export const bytesOf = (write: (writer: Writer) => void): Buffer => {
  const writer = new Writer()
  write(writer)
  return writer.take()
}

export const readerOf = (body: Buffer): Reader => new Reader(body)
