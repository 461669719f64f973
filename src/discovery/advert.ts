import { createHash } from 'node:crypto'
import { endpointOf } from '../protocol/control-frames.ts'
import { isId } from '../protocol/header.ts'
import { type Announcement, isEndpoint } from './discovery.ts'

/** Of the advert, not of the wire: the hello finds out about that one. */
const VERSION = '1'
/** A TXT item has its length in one byte, and bonjour-service does not look. */
const MAX_ITEM_BYTES = 255
const MAX_TXT_BYTES = 1200
const MAX_NAME_BYTES = 128
const MAX_PLAIN_MESH_BYTES = 64
const MAX_ENDPOINTS = 8
const MAX_HOSTS = MAX_ENDPOINTS - 1
/** Nobody can dial these without the name of an own interface. */
const LINK_LOCAL = /^fe[89ab][0-9a-f]:/i

/** What a node tells of itself in the TXT record of its service. */
export interface Advert {
  readonly id: string
  readonly boot: string
  readonly name: string
  /** The tag of its mesh. */
  readonly mesh: string
  readonly port: number
  readonly hosts: readonly string[]
}

/** A service as it is published: nothing in it can be encoded wrongly. */
export interface Service {
  readonly instance: string
  readonly port: number
  readonly txt: Readonly<Record<string, string>>
}

/** Unique, so that no two nodes ever quarrel about it: whoever loses such a quarrel says goodbye for the other. */
export const instanceOf = (id: string, boot: string): string => `${id}-${boot.slice(0, 8)}`

/** A mesh as adverts name it: the name itself, or its beginning and a hash where the name would not fit. */
export const meshTag = (mesh: string): string =>
  Buffer.byteLength(mesh) <= MAX_PLAIN_MESH_BYTES
    ? mesh
    : `${cut(mesh, 40)}~${createHash('sha256').update(mesh).digest('hex').slice(0, 32)}`

/** The service that announces a node, or what is wrong with it. */
export const serviceOf = (self: Announcement): Service | string => {
  const instance = instanceOf(self.id, self.boot)
  const txt = {
    v: VERSION,
    id: self.id,
    boot: self.boot,
    name: cut(self.name, MAX_NAME_BYTES),
    mesh: meshTag(self.mesh),
    port: String(self.port),
    hosts: fitting(self.hosts).join(','),
  }
  const items = Object.entries(txt).map(([key, value]) => Buffer.from(`${key}=${value}`))
  const advert = parseAdvert(instance, items)
  return typeof advert === 'string' ? advert : { instance, port: self.port, txt }
}

/** The advert in the items of a TXT record, or what is wrong with them. */
export const parseAdvert = (instance: string, items: unknown): Advert | string => {
  const txt = readTxt(items)
  if (typeof txt === 'string') return txt
  if (txt.get('v') !== VERSION) return 'it is of another version'
  const id = txt.get('id')
  if (!isId(id)) return 'its id is not 32 lower-case hex digits'
  const boot = txt.get('boot')
  if (!isId(boot)) return 'its boot is not 32 lower-case hex digits'
  if (instance.toLowerCase() !== instanceOf(id, boot))
    return 'its instance is not named after its id and boot'
  const name = txt.get('name')
  if (name === undefined || name === '') return 'it has no name'
  const mesh = txt.get('mesh')
  if (mesh === undefined || mesh === '') return 'it names no mesh'
  const port = txt.get('port') ?? ''
  if (!/^[1-9][0-9]{0,4}$/.test(port) || Number(port) > 65_535) return 'its port is none'
  const hosts = (txt.get('hosts') ?? '').split(',').filter((host) => host !== '')
  if (hosts.length > MAX_HOSTS) return `it names more than ${MAX_HOSTS} hosts`
  if (!hosts.every(isHost)) return 'one of its hosts is neither an address nor a name'
  return { id, boot, name, mesh, port: Number(port), hosts }
}

/** Where the node of an advert may be: first where its packets came from, then what it says itself. */
export const endpointsOf = ({ hosts, port }: Advert, sources: readonly string[]): string[] => {
  const endpoints = new Set([...sources, ...hosts].map((host) => endpointOf(host, port)).filter(isEndpoint))
  return [...endpoints].slice(0, MAX_ENDPOINTS)
}

const isHost = (host: string): boolean => isEndpoint(endpointOf(host, 1))

/** The likeliest hosts that find room together. */
const fitting = (hosts: readonly string[]): string[] => {
  const chosen: string[] = []
  let left = MAX_ITEM_BYTES - 'hosts='.length
  for (const host of new Set(hosts)) {
    if (chosen.length === MAX_HOSTS || host.length > left || !isHost(host) || LINK_LOCAL.test(host)) continue
    chosen.push(host)
    left -= host.length + 1
  }
  return chosen
}

/** At most so many bytes of UTF-8, and no half character at the end. */
const cut = (text: string, maxBytes: number): string => {
  const bytes = Buffer.from(text)
  let end = Math.min(bytes.length, maxBytes)
  while (end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

/** Keys in lower case; of two that are equal the first counts, and what has no `=` is none of ours (RFC 6763, 6.4). */
const readTxt = (items: unknown): ReadonlyMap<string, string> | string => {
  if (!Array.isArray(items)) return 'it is not a list of items'
  const txt = new Map<string, string>()
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let bytes = 0
  for (const item of items as unknown[]) {
    if (!(item instanceof Uint8Array)) return 'it is not a list of items'
    bytes += 1 + item.byteLength
    if (item.byteLength > MAX_ITEM_BYTES || bytes > MAX_TXT_BYTES)
      return `it is larger than ${MAX_TXT_BYTES} bytes`
    let text: string
    try {
      text = decoder.decode(item)
    } catch {
      return 'it is not UTF-8'
    }
    const equals = text.indexOf('=')
    const key = text.slice(0, equals).toLowerCase()
    if (equals > 0 && !txt.has(key)) txt.set(key, text.slice(equals + 1))
  }
  return txt
}
