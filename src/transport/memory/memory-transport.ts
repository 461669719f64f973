import { isIP } from 'node:net'
import { messageOf, SkeinError } from '../../errors.ts'
import type {
  Dial,
  DialEvents,
  FeedDial,
  HostAddress,
  Listener,
  Ports,
  Sent,
  Transport,
} from '../transport.ts'
import { Bound, BoundFeed } from './bound.ts'
import { Dialer, type Home } from './dialer.ts'
import type { Fabric } from './fabric.ts'
import type { Machine } from './machine.ts'
import type { Pipe, Road } from './pipe.ts'
import { Prefixes } from './prefixes.ts'
import { type Faulted, Reader } from './reader.ts'

const MAX_SUBSCRIPTION_BYTES = 512
const LAST_PORT = 65_535
const EMPTY = Buffer.alloc(0)

const ENDPOINT = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})$/

export interface MemoryTransportOptions {
  /** Frames above this size make the receiver cut the connection. */
  readonly maxFrameBytes: number
  /** The same for control batches. */
  readonly maxControlBytes: number
}

/** What one node has of the network: the sockets of ZeroMQ as far as nodes use them, without ZeroMQ. */
export class MemoryTransport implements Transport {
  readonly #options: MemoryTransportOptions
  readonly #home: Home
  readonly #bound: { readonly port: number; readonly socket: Bound }[] = []
  #control: Bound | undefined
  #feed: BoundFeed | undefined
  readonly #closed: () => void
  #isClosed = false

  constructor(fabric: Fabric, machine: Machine, options: MemoryTransportOptions, closed: () => void) {
    this.#closed = closed
    this.#home = { fabric, machine, dialers: new Set() }
    this.#options = options
  }

  addresses(): HostAddress[] {
    return this.#home.machine.hostAddresses()
  }

  async resolve(host: string): Promise<string[]> {
    if (isIP(host) !== 0) return [host]
    const found = host === 'localhost' ? ['127.0.0.1'] : (this.#home.fabric.names.get(host) ?? [])
    if (found.length > 0) return [...found]
    // As node:dns says it.
    throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' })
  }

  async listen(at: { host: string; port: number }, on: Listener): Promise<Ports> {
    if (this.#isClosed) throw new SkeinError('CLOSED', 'a socket was asked for after the node was closed')
    const { maxControlBytes, maxFrameBytes } = this.#options
    const control = new Bound(
      'control',
      this.#reader(maxControlBytes, (frames, pipe) => asked(pipe.line.route, frames, on), on),
    )
    const feed: BoundFeed = new BoundFeed(
      this.#reader(MAX_SUBSCRIPTION_BYTES, (frames, pipe) => feed.told(pipe, frames), on),
      guarded(on),
    )
    const delivery = new Bound(
      'delivery',
      this.#reader(maxFrameBytes, (frames) => on.delivery(frames), on),
    )
    const ports = this.#bind(at, [control, feed, delivery])
    this.#control = control
    this.#feed = feed
    return { host: at.host, control: ports[0]!, feed: ports[1]!, delivery: ports[2]! }
  }

  async answer(route: string, batch: Buffer): Promise<Sent> {
    return this.#control?.answer(route, [batch]) ?? 'gone'
  }

  async answerPlain(route: string, frames: (Buffer | string)[]): Promise<Sent> {
    return (
      this.#control?.answer(route, [EMPTY, ...frames.map((frame) => Buffer.from(frame as string))]) ?? 'gone'
    )
  }

  async publish(frames: Buffer[], patient: boolean): Promise<Sent> {
    return this.#feed?.publish(frames, patient) ?? 'gone'
  }

  dialControl(endpoint: string, on: DialEvents): Dial {
    return this.#dial('control', endpoint, on, (frames) => on.frames?.(frames))
  }

  dialDelivery(endpoint: string, on: DialEvents): Dial {
    return this.#dial('delivery', endpoint, on, () => undefined)
  }

  dialFeed(endpoint: string, on: DialEvents): FeedDial {
    /** How often each prefix was subscribed to. */
    const wanted = new Prefixes<number>()
    const dialer = this.#dial(
      'feed',
      endpoint,
      on,
      (frames) => wanted.matching(frames[0]!).length > 0 && on.frames?.(frames),
      (pipe) => {
        for (const prefix of wanted.keys().sort()) pipe.write([subscription(1, prefix)])
      },
    )
    return {
      subscribe: (prefix) => {
        const key = prefix.toString('latin1')
        wanted.set(key, (wanted.get(key) ?? 0) + 1)
        dialer.pipe?.write([subscription(1, key)])
      },
      unsubscribe: (prefix) => {
        const key = prefix.toString('latin1')
        const count = wanted.get(key) ?? 0
        if (count > 1) wanted.set(key, count - 1)
        else wanted.delete(key)
        if (count === 1) dialer.pipe?.write([subscription(0, key)])
      },
      close: () => dialer.close(),
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const { port, socket } of this.#bound.splice(0)) {
      this.#home.machine.unbind(port, socket)
      socket.close()
    }
    this.#control = undefined
    this.#feed = undefined
    for (const dialer of this.#home.dialers) dialer.close()
    this.#closed()
  }

  #reader(maxFrameBytes: number, take: (frames: Buffer[], pipe: Pipe) => unknown, on: Faulted): Reader {
    return new Reader(this.#home.fabric.clock, this.#home.machine, maxFrameBytes, take, on)
  }

  /** Three ports, or none. */
  #bind({ host, port }: { host: string; port: number }, sockets: readonly Bound[]): number[] {
    const { machine } = this.#home
    const address = machine.bindable(host)
    const ports: number[] = []
    try {
      if (address === undefined) throw new SkeinError('OPTION_INVALID', 'this host has no such address')
      for (const [offset, socket] of sockets.entries()) {
        const wanted = port === 0 ? machine.freePort(address) : port + offset
        if (wanted === 0 || machine.isTaken(address, wanted))
          throw new SkeinError('ADDRESS_IN_USE', 'address already in use')
        if (wanted > LAST_PORT) throw new SkeinError('OPTION_INVALID', 'there is no such port')
        machine.bind(address, wanted, socket)
        ports.push(wanted)
      }
    } catch (error) {
      for (const [index, taken] of ports.entries()) machine.unbind(taken, sockets[index]!)
      const where = `tcp://${host.includes(':') ? `[${host}]` : host}:${port === 0 ? '*' : port + ports.length}`
      throw new SkeinError(
        (error as SkeinError).code,
        `cannot listen on ${where}: ${messageOf(error)}; choose another 'port' (three in a row are needed) or 'bind'`,
      )
    }
    for (const [index, taken] of ports.entries()) this.#bound.push({ port: taken, socket: sockets[index]! })
    return ports
  }

  #dial(
    road: Road,
    endpoint: string,
    on: DialEvents,
    take: (frames: Buffer[]) => unknown,
    restate?: (pipe: Pipe) => void,
  ): Dialer {
    const dialer = new Dialer(
      this.#home,
      road,
      parse(endpoint),
      this.#reader(this.#options.maxFrameBytes, take, on),
      on,
      restate,
    )
    if (this.#isClosed) dialer.close()
    else dialer.open()
    return dialer
  }
}

/** What is no endpoint stays whole: it fails when it is dialled. */
const parse = (endpoint: string): { host: string; port: number } => {
  const [, ipv6, host = ipv6, port] = ENDPOINT.exec(endpoint) ?? []
  return host === undefined ? { host: endpoint, port: -1 } : { host, port: Number(port) }
}

/** Sorts what comes on the control road: our batches, and what a plain REQ socket asks. */
const asked = (route: string, frames: Buffer[], on: Listener): void => {
  if (frames.length === 1) on.control(route, frames[0]!)
  else if (frames.length > 1 && frames[0]!.length === 0) on.plain(route, frames.slice(1))
  else on.fault(new SkeinError('MALFORMED', `a message of ${frames.length} frames came on the control road`))
}

/** A lost connection ends subscriptions, too, and nobody above would catch what is thrown then. */
const guarded =
  (on: Listener) =>
  (prefix: Buffer, present: boolean): void => {
    try {
      on.subscription(prefix, present)
    } catch (error) {
      on.fault(error)
    }
  }

const subscription = (mark: 0 | 1, prefix: string): Buffer =>
  Buffer.from(String.fromCharCode(mark) + prefix, 'latin1')
