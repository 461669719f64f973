import { messageOf, SkeinError } from '../errors.ts'
import { addresseeKey, readAddressee, writeAddressee } from './addressee.ts'
import type { Reader, Writer } from './bytes.ts'
import { pack, unpack } from './codec.ts'
import { readTopicLast, type TopicLast, writeTopicLast } from './feed-batch.ts'
import { isId, VERSION } from './header.ts'
import { topicFrame, validatePattern, validateTopic } from './topics.ts'

/** What a control batch may hold: prefix(4) · hello number u32 · frames of type u8, length u32, body. */
export const FRAME = {
  hello: 1,
  welcome: 2,
  refuse: 3,
  who: 4,
  ping: 5,
  pong: 6,
  bye: 7,
  interest: 8,
  report: 9,
  askReport: 10,
  taken: 11,
  resume: 12,
  settled: 13,
  withdraw: 14,
  missed: 15,
  request: 16,
  reply: 17,
  cancel: 18,
  pending: 19,
  known: 20,
  gossip: 21,
  moved: 22,
  window: 23,
} as const

/** Where a node listens; a node that only dials has none. */
export interface Address {
  /** Addresses and names of its host, likeliest first. */
  readonly hosts: readonly string[]
  readonly control: number
  readonly feed: number
  readonly delivery: number
}

/** A group or queue that a node does a part of the work of, and how much of it one sender may give it at a time. */
export interface Service {
  readonly kind: 'group' | 'queue'
  readonly name: string
  /** Of a group: which messages this member handles. */
  readonly patterns: readonly string[]
  /** Messages and bytes that may be unsettled: totals, so that none is lost or counted twice with a connection. */
  readonly messages: number
  readonly bytes: number
  readonly leaseMs: number
}

/** What a node subscribes and responds to, as a whole; a higher revision replaces a lower one. */
export interface Interest {
  readonly revision: number
  readonly patterns: readonly string[]
  readonly responders: readonly string[]
  readonly services: readonly Service[]
}

/** A hello and its answer, the welcome: everything that the other end must know, in totals. */
export interface Hello {
  readonly mesh: string
  readonly id: string
  readonly boot: string
  readonly name: string
  /** Number of this hello; the frames that follow it carry it, and so does the welcome. */
  readonly number: number
  readonly address: Address | null
  readonly interest: Interest
  /** In a welcome: what delivery batches to the welcoming node must begin with. */
  readonly token: string
  /** In a welcome: the last delivery batch taken from the other end in this boot. */
  readonly taken: number
  /** In a welcome: the revision of the other end's interest that is known. */
  readonly known: number
  /** In a welcome: the address given cannot be dialled from here, and why. */
  readonly unreachable: string
}

const MAX_PATTERNS = 65_536
const MAX_NAME_BYTES = 255
/** Of why an address cannot be dialled, in UTF-16 units. */
const MAX_WORDS = 512
/** Addresses of one node that are told to others. */
export const MAX_HOSTS = 8
/** An IPv4 or IPv6 address or a host name, and nothing that ZeroMQ would read as something else. */
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9]+)?)$/

export const writeHello = (writer: Writer, hello: Hello): void =>
  writer.bytes(pack({ version: VERSION, ...hello }))

/** Reads and checks a hello; unknown fields are ignored, so that later versions may add some. */
export const readHello = (body: Buffer): Hello => {
  const fields = unpack(body) as Record<string, unknown> | null
  if (typeof fields !== 'object' || fields === null) throw malformed('hello')
  const { mesh, id, boot, name, number, token, taken, known, unreachable } = fields
  if (!isText(mesh) || !isText(name) || !isId(id) || !isId(boot) || !isCount(number)) throw malformed('hello')
  if (!isText(token) || !isCount(taken) || !isCount(known) || typeof unreachable !== 'string')
    throw malformed('hello')
  return {
    mesh,
    id,
    boot,
    name,
    number,
    token,
    taken,
    known,
    unreachable: beginningOf(unreachable),
    address: fields.address === null ? null : readAddressFields(fields.address),
    interest: readInterestFields(fields.interest),
  }
}

/** A copy, since a slice would keep the whole of what a stranger has sent alive. */
const beginningOf = (words: string): string => Buffer.from(words.slice(0, MAX_WORDS)).toString()

export const writeInterest = (writer: Writer, interest: Interest): void => writer.bytes(pack(interest))

export const readInterest = (body: Buffer): Interest => readInterestFields(unpack(body))

const readInterestFields = (value: unknown): Interest => {
  const { revision, patterns, responders, services = [] } = (value ?? {}) as Record<string, unknown>
  if (
    !isCount(revision) ||
    !Array.isArray(patterns) ||
    !Array.isArray(responders) ||
    !Array.isArray(services)
  )
    throw malformed('interest')
  if (patterns.length + responders.length + services.length > MAX_PATTERNS) throw malformed('interest')
  try {
    return {
      revision,
      patterns: patterns.map(validatePattern),
      responders: responders.map(validateTopic),
      services: services.map(readService),
    }
  } catch (cause) {
    throw new SkeinError('MALFORMED', `an interest was refused: ${messageOf(cause)}`, { cause })
  }
}

const readService = (value: unknown): Service => {
  const { kind, name, patterns, messages, bytes, leaseMs } = (value ?? {}) as Record<string, unknown>
  if ((kind !== 'group' && kind !== 'queue') || !Array.isArray(patterns) || patterns.length > MAX_PATTERNS)
    throw malformed('service')
  if (!isCount(messages) || !isCount(bytes) || !isCount(leaseMs)) throw malformed('service')
  return {
    kind,
    name: validateTopic(name),
    patterns: patterns.map(validatePattern),
    messages,
    bytes,
    leaseMs,
  }
}

/** window: (kind u8 · name · messages u32 · bytes u48)…, of every service of the sender. */
export const writeWindows = (writer: Writer, services: readonly Service[]): void => {
  for (const service of services) {
    writeAddressee(writer, service)
    writer.u32(service.messages)
    writer.u48(service.bytes)
  }
}

/**
 * The services with the windows that are stated now. A frame that names fewer than are known goes with another interest,
 * which brings its windows itself; and so a few bytes never cost a look at very many services.
 */
export const readWindows = (reader: Reader, known: readonly Service[]): readonly Service[] => {
  const windows = new Map<string, { messages: number; bytes: number }>()
  while (reader.left > 0) {
    const key = addresseeKey(readAddressee(reader))
    windows.set(key, { messages: reader.u32(), bytes: reader.u48() })
  }
  if (windows.size < known.length) return known
  return known.map((service) => ({ ...service, ...windows.get(addresseeKey(service)) }))
}

export const writeAddress = (writer: Writer, address: Address): void => writer.bytes(pack(address))

export const readAddress = (body: Buffer): Address => readAddressFields(unpack(body))

const readAddressFields = (value: unknown): Address => {
  const { hosts, control, feed, delivery } = (value ?? {}) as Record<string, unknown>
  if (!Array.isArray(hosts) || hosts.length === 0 || hosts.length > MAX_HOSTS) throw malformed('address')
  for (const host of hosts) if (!isText(host) || !HOST.test(host)) throw malformed('address')
  if (!isPort(control) || !isPort(feed) || !isPort(delivery)) throw malformed('address')
  return { hosts: hosts as string[], control, feed, delivery }
}

export const endpointOf = (host: string, port: number): string =>
  `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`

/** bye: the topics that were active lately and where they end, so that a lost tail is noticed. */
export const writeTails = (writer: Writer, tails: readonly TopicLast[]): void => {
  writer.u32(tails.length)
  for (const { topic, generation, last } of tails) writeTopicLast(writer, topicFrame(topic), generation, last)
}

export const readTails = (reader: Reader): TopicLast[] => {
  const tails: TopicLast[] = []
  for (let left = reader.u32(); left > 0; left--) tails.push(readTopicLast(reader))
  return tails
}

const malformed = (what: string): SkeinError =>
  new SkeinError('MALFORMED', `a ${what} has fields that cannot be`)

const isText = (value: unknown): value is string =>
  typeof value === 'string' && value.length <= MAX_NAME_BYTES && Buffer.byteLength(value) <= MAX_NAME_BYTES

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const isPort = (value: unknown): value is number => isCount(value) && value > 0 && value < 65_536
