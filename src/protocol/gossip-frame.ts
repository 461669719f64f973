import { isUtf8 } from 'node:buffer'
import { SkeinError } from '../errors.ts'
import type { Reader, Writer } from './bytes.ts'
import { endpointOf } from './control-frames.ts'
import { isEndpoint, parseEndpoint } from './endpoint.ts'
import { ID_BYTES } from './header.ts'

/** Another member of the mesh, as one node tells of it to the next. */
export interface Member {
  readonly id: string
  readonly boot: string
  readonly name: string
  /** Control endpoints, `tcp://host:port`, likeliest first. */
  readonly endpoints: readonly string[]
}

/** Whom a node knows, in a few bytes: two that know the same have nothing to tell. */
export interface Digest {
  readonly count: number
  readonly hash: number
}

/**
 * The body of a gossip frame: kind u8, then
 * ask: count u32 · hash u48, or
 * tell: done u8 · count u16 · (id(16) · boot(16) · name (u8 length) · endpoints u8 · (host (u8 length) · port u16)…)…
 */
export type GossipMessage =
  | { readonly kind: 'ask'; readonly digest: Digest }
  /** `done`: nothing of this answer follows. */
  | { readonly kind: 'tell'; readonly members: readonly Member[]; readonly done: boolean }

const ASK = 1
const TELL = 2

/** Members in one answer, at most. */
export const MAX_MEMBERS = 4096
const MAX_ENDPOINTS = 8
const HIGH = 0x1_0000_0000

/** Endpoints that others cannot dial, such as those with a zone of this host, are left out. */
export const writeGossip = (writer: Writer, message: GossipMessage): void => {
  if (message.kind === 'ask') {
    writer.u8(ASK)
    writer.u32(message.digest.count)
    return writer.u48(message.digest.hash)
  }
  writer.u8(TELL)
  writer.u8(message.done ? 1 : 0)
  writer.u16(message.members.length)
  for (const member of message.members) writeMember(writer, member)
}

const writeMember = (writer: Writer, { id, boot, name, endpoints }: Member): void => {
  writer.bytes(Buffer.from(id, 'hex'))
  writer.bytes(Buffer.from(boot, 'hex'))
  writer.text8(name)
  const told = endpoints.map(parseEndpoint).filter((endpoint) => endpoint !== undefined)
  writer.u8(Math.min(told.length, MAX_ENDPOINTS))
  for (const { host, port } of told.slice(0, MAX_ENDPOINTS)) {
    writer.text8(host)
    writer.u16(port)
  }
}

/** Reads and checks what a peer says; what follows the last field is of a later version, and ignored. */
export const readGossip = (reader: Reader): GossipMessage => {
  const kind = reader.u8()
  if (kind === ASK) return { kind: 'ask', digest: { count: reader.u32(), hash: reader.u48() } }
  if (kind !== TELL) throw malformed(`is of kind ${kind}`)
  const done = reader.u8()
  if (done > 1) throw malformed(`says ${done} where only 0 or 1 can stand`)
  const members: Member[] = []
  const count = reader.u16()
  if (count > MAX_MEMBERS) throw malformed(`tells of ${count} members, and ${MAX_MEMBERS} are the limit`)
  while (members.length < count) members.push(readMember(reader))
  return { kind: 'tell', members, done: done === 1 }
}

const readMember = (reader: Reader): Member => {
  const id = reader.bytes(ID_BYTES).toString('hex')
  const boot = reader.bytes(ID_BYTES).toString('hex')
  const name = reader.bytes(reader.u8())
  // What is not UTF-8 grows when it is read, and would no longer fit into its length when it is told on.
  if (!isUtf8(name)) throw malformed('names a member in bytes that are not UTF-8')
  const count = reader.u8()
  if (count > MAX_ENDPOINTS)
    throw malformed(`tells of ${count} endpoints, and ${MAX_ENDPOINTS} are the limit`)
  const endpoints: string[] = []
  while (endpoints.length < count) endpoints.push(readEndpoint(reader))
  return { id, boot, name: name.toString(), endpoints }
}

const readEndpoint = (reader: Reader): string => {
  const endpoint = endpointOf(reader.text8(), reader.u16())
  if (!isEndpoint(endpoint)) throw malformed('holds an endpoint that cannot be dialled')
  return endpoint
}

/**
 * Count and hash of some members, the same for all who know the same boots of the same nodes. The hash is the XOR over
 * all of them of 48 bits: the upper 16 of FNV-1a-32 of boot and id, then the 32 of id and boot, both as hex digits.
 */
export const digestOf = (members: readonly Pick<Member, 'id' | 'boot'>[]): Digest => {
  let low = 0
  let high = 0
  for (const { id, boot } of members) {
    low ^= fnv1a(id + boot)
    high ^= fnv1a(boot + id) >>> 16
  }
  return { count: members.length, hash: high * HIGH + (low >>> 0) }
}

const fnv1a = (text: string): number => {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash
}

const malformed = (what: string): SkeinError => new SkeinError('MALFORMED', `a gossip frame ${what}`)
