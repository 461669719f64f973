import { isEndpoint } from '../protocol/endpoint.ts'

export const MAX_ENTRY_BYTES = 4096

/** One node as its file describes it. */
export interface Entry {
  readonly v: 1
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly mesh: string
  readonly endpoint: string
  readonly pid: number
  readonly host: string
  readonly netns: string
}

const isHex128 = (value: unknown): value is string =>
  typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)

const isShort = (value: unknown): value is string =>
  typeof value === 'string' && Buffer.byteLength(value) <= 255

/** The entry in the bytes of a file, or what is wrong with them; of this mesh, or where none is named of any. */
export const parseEntry = (bytes: Uint8Array, mesh?: string): Entry | string => {
  if (bytes.byteLength > MAX_ENTRY_BYTES) return `it is larger than ${MAX_ENTRY_BYTES} bytes`
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return 'it is not JSON'
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'it is not a JSON object'
  const { v, id, boot, name, mesh: named, endpoint, pid, host, netns } = value as { [key: string]: unknown }
  if (v !== 1) return 'it is of another version'
  if (!isHex128(id)) return 'its id is not 32 lower-case hex digits'
  if (!isHex128(boot)) return 'its boot is not 32 lower-case hex digits'
  if (!isShort(name)) return 'its name is not a string of at most 255 bytes'
  if (named !== (mesh ?? named) || !isShort(named)) return 'it belongs to another mesh'
  if (typeof endpoint !== 'string' || !isEndpoint(endpoint)) return 'its endpoint is not tcp://host:port'
  // A pid of 0 or below would address whole process groups.
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid < 1 || pid > 0x7fffffff)
    return 'its pid is none'
  if (!isShort(host)) return 'its host is not a string of at most 255 bytes'
  if (!isShort(netns)) return 'its netns is not a string of at most 255 bytes'
  return { v, id, boot, name, mesh: named, endpoint, pid, host, netns }
}
