import { SkeinError } from '../errors.ts'

/**
 * What a node needs of a network, and all that `delivery` and `peers` know of it: three sockets that listen
 * (control, feed, delivery) and dialled ones to the same three of a peer. Bytes may be lost and connections may
 * break at any moment; nothing here promises more than ZeroMQ does.
 */
export interface Transport {
  /** The addresses that this host has at this moment. */
  addresses(): HostAddress[]
  /** The addresses behind a host name; rejects where there are none. */
  resolve(host: string): Promise<string[]>
  /** Binds control, feed and delivery. Rejects ADDRESS_IN_USE where a wanted port is taken. */
  listen(at: { host: string; port: number }, on: Listener): Promise<Ports>
  /** Answers on the connection that dialled us. Never waits. */
  answer(route: string, batch: Buffer): Promise<Sent>
  /** Sends on the feed: 'full' if a subscriber has no room and `patient` is set; else it loses the batch. */
  publish(frames: Buffer[], patient: boolean): Promise<Sent>
  /** Answers a plain ZeroMQ REQ socket. */
  answerPlain(route: string, frames: (Buffer | string)[]): Promise<Sent>
  dialControl(endpoint: string, on: DialEvents): Dial
  dialDelivery(endpoint: string, on: DialEvents): Dial
  dialFeed(endpoint: string, on: DialEvents): FeedDial
  close(): Promise<void>
}

export interface HostAddress {
  /** Name of the interface. */
  readonly interface: string
  readonly address: string
  readonly family: 'IPv4' | 'IPv6'
  /** Of the loopback interface. */
  readonly internal: boolean
}

/** A dial that broke and was not taken up again by then never is: ZeroMQ gives up on who sends frames above our limit. */
export const GIVEN_UP_MS = 500

/** What is said of one that never stood. */
export const WRONG_SOCKET =
  'what listens there is no control socket of a node: of the three ports of a node that is the first'

/** What is said of one that stood. */
export const givenUp = (endpoint: string): SkeinError =>
  new SkeinError(
    'VALUE_TOO_LARGE',
    `the connection to ${endpoint} ended, because a frame came that is larger than this node takes: raise 'limits' here, or lower them there`,
  )

export type Sent = 'sent' | 'full' | 'gone'

export interface Ports {
  readonly host: string
  readonly control: number
  readonly feed: number
  readonly delivery: number
}

export interface Listener {
  /** A batch from whoever dialled our control socket; the route names the connection. */
  control(route: string, batch: Buffer): void
  /** What a plain ZeroMQ REQ socket asked: frames behind its empty delimiter. */
  plain(route: string, frames: Buffer[]): void
  /** A first subscriber to a prefix came, or the last one left. */
  subscription(prefix: Buffer, present: boolean): void
  delivery(frames: Buffer[]): void
  /** A frame that cannot be one of ours, or a fault of a socket. */
  fault(error: unknown): void
}

export interface DialEvents {
  /** The connection stands, for the first time or again: all that was under way before may be lost. */
  up?(): void
  /** It broke, and is dialled again; unless the other end is to blame: then a fault says so, and `refused` follows. */
  down?(): void
  /** Nobody listens there, nobody answers, or no socket could be made for it. Called later, never within the dial. */
  refused?(reason?: string): void
  /** Answers true if more should be read only when this turn of the event loop has ended. */
  frames?(frames: Buffer[]): boolean | undefined
  fault(error: unknown): void
}

export interface Dial {
  /** Resolves when the network took the frames; waits while the peer is away or full; rejects once closed. */
  send(frames: Buffer[]): Promise<void>
  close(): void
}

export interface FeedDial {
  subscribe(prefix: Buffer): void
  unsubscribe(prefix: Buffer): void
  close(): void
}
