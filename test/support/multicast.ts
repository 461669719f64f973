import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

const GROUP = '224.0.0.251'
const TYPES = { PTR: 12, TXT: 16, SRV: 33 } as const

export const SERVICE = '_skein._tcp.local'

export interface DnsRecord {
  readonly name: string
  readonly type: keyof typeof TYPES
  readonly ttl?: number
  /** Of a PTR record its target, of a TXT record its items, of an SRV record its port. */
  readonly data: string | readonly (string | Buffer)[] | number
}

/** A packet on the wire: names are never compressed, as bonjour-service writes them. */
export interface Heard {
  readonly isQuery: boolean
  readonly questions: readonly string[]
  readonly records: readonly DnsRecord[]
  readonly from: string
  readonly at: number
}

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255])

const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)])

const withLength = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([bytes.length]), bytes])

const nameBytes = (name: string): Buffer =>
  Buffer.concat([...name.split('.').map((label) => withLength(Buffer.from(label))), Buffer.from([0])])

const dataBytes = ({ data }: DnsRecord): Buffer => {
  if (typeof data === 'string') return nameBytes(data)
  if (typeof data === 'number') return Buffer.concat([u32(0), u16(data), nameBytes('host.local')])
  return Buffer.concat(data.map((item) => withLength(Buffer.from(item))))
}

const recordBytes = (record: DnsRecord): Buffer => {
  const data = dataBytes(record)
  const head = [nameBytes(record.name), u16(TYPES[record.type]), u16(1), u32(record.ttl ?? 120)]
  return Buffer.concat([...head, u16(data.length), data])
}

/** An answer that nobody asked for. */
export const response = (records: readonly DnsRecord[]): Buffer =>
  Buffer.concat([
    ...[u16(0), u16(0x8400), u16(0), u16(records.length), u32(0)],
    ...records.map((record) => recordBytes(record)),
  ])

/** A question by somebody else, who numbers it 0 as everybody does, and may want the answer for himself. */
export const query = (names: readonly string[] = [SERVICE], forHimself = false): Buffer =>
  Buffer.concat([
    ...[u16(0), u16(0), u16(names.length), u16(0), u32(0)],
    ...names.flatMap((name) => [nameBytes(name), u16(TYPES.PTR), u16(forHimself ? 0x8001 : 1)]),
  ])

/** A service of our type as any program may announce it. */
export const announce = (instance: string, txt: readonly (string | Buffer)[], port = 7000): Buffer =>
  response([
    { name: SERVICE, type: 'PTR', data: `${instance}.${SERVICE}` },
    { name: `${instance}.${SERVICE}`, type: 'SRV', data: port },
    { name: `${instance}.${SERVICE}`, type: 'TXT', data: txt },
  ])

export const goodbye = (instance: string): Buffer =>
  response([{ name: SERVICE, type: 'PTR', ttl: 0, data: `${instance}.${SERVICE}` }])

const read = (bytes: Buffer, from: string): Heard => {
  let at = 12
  const number = (size: number): number => {
    at += size
    return bytes.readUIntBE(at - size, size)
  }
  const name = (): string => {
    const labels: string[] = []
    for (let length = number(1); length > 0; length = number(1)) {
      labels.push(bytes.toString('utf8', at, at + length))
      at += length
    }
    return labels.join('.')
  }
  const question = (): string => {
    const asked = name()
    at += 4
    return asked
  }
  const record = (): DnsRecord | undefined => {
    const owner = name()
    const code = number(2)
    at += 2
    const ttl = number(4)
    const end = number(2) + at
    const type = Object.entries(TYPES).find(([, value]) => value === code)?.[0] as
      | DnsRecord['type']
      | undefined
    let data: DnsRecord['data'] | undefined
    if (type === 'PTR') data = name()
    else if (type === 'SRV') {
      at += 4
      data = number(2)
    } else if (type === 'TXT') {
      const items: string[] = []
      while (at < end) {
        const length = number(1)
        items.push(bytes.toString('utf8', at, at + length))
        at += length
      }
      data = items
    }
    at = end
    return type === undefined || data === undefined ? undefined : { name: owner, type, ttl, data }
  }
  const several = <T>(count: number, one: () => T): T[] => Array.from({ length: count }, one)
  const count = (offset: number): number => bytes.readUInt16BE(offset)
  const questions = several(count(4), question)
  const records = several(count(6) + count(8) + count(10), record)
  return {
    isQuery: (bytes[2]! & 0x80) === 0,
    questions,
    records: records.filter((each) => each !== undefined),
    from,
    at: performance.now(),
  }
}

/** Somebody else who speaks multicast DNS on the loopback interface, from any of its addresses. */
export class Speaker {
  readonly heard: Heard[] = []
  readonly #socket: Socket
  readonly #port: number

  constructor(socket: Socket, port: number) {
    this.#socket = socket
    this.#port = port
  }

  /** What was asked about our type of service. */
  get queries(): Heard[] {
    return this.heard.filter(({ isQuery, questions }) => isQuery && questions.includes(SERVICE))
  }

  /** Adverts as they were sent. */
  get adverts(): { readonly txt: readonly string[]; readonly at: number }[] {
    return this.heard.flatMap(({ records, at }) =>
      records
        .filter(({ type, ttl }) => type === 'TXT' && ttl !== 0)
        .map(({ data }) => ({ txt: data as readonly string[], at })),
    )
  }

  /** Instances that have said goodbye. */
  get goodbyes(): string[] {
    return this.heard.flatMap(({ records }) =>
      records
        .filter(({ name, type, ttl }) => name === SERVICE && type === 'PTR' && ttl === 0)
        .map(({ data }) => (data as string).slice(0, -SERVICE.length - 1)),
    )
  }

  hear(bytes: Buffer, from: string): void {
    try {
      this.heard.push(read(bytes, from))
    } catch {
      // Broken on purpose.
    }
  }

  send(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(bytes, this.#port, GROUP, (error) => (error === null ? resolve() : reject(error)))
    })
  }

  async close(): Promise<void> {
    this.#socket.close()
    await once(this.#socket, 'close')
  }
}

/** A port on which a test is alone with its nodes. */
export const privatePort = async (): Promise<number> => {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  await once(socket, 'close')
  return port
}

/** It hears all that is said; bound to another address than `0.0.0.0`, it only speaks from that one. */
export const speaker = async (port: number, address = '0.0.0.0'): Promise<Speaker> => {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const made = new Speaker(socket, port)
  socket.on('message', (bytes, from) => made.hear(bytes, from.address))
  socket.bind(port, address)
  await once(socket, 'listening')
  socket.addMembership(GROUP, '127.0.0.1')
  socket.setMulticastInterface('127.0.0.1')
  return made
}

/** Why multicast does not come back on the loopback interface of this machine, if it does not. */
export const loopbackFault = async (): Promise<string | undefined> => {
  const port = await privatePort()
  let made: Speaker | undefined
  try {
    made = await speaker(port)
    for (let tries = 0; tries < 20; tries++) {
      await made.send(query())
      await new Promise((resolve) => setTimeout(resolve, 25))
      if (made.queries.length > 0) return undefined
    }
    return 'a packet to 224.0.0.251 does not come back on 127.0.0.1'
  } catch (error) {
    return `multicast cannot be used on 127.0.0.1: ${String(error)}`
  } finally {
    await made?.close()
  }
}
