import { lookup } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import { Context, Dealer, Pull, Push, Router, type Socket, Subscriber, XPublisher } from 'zeromq'
import { messageOf, SkeinError } from '../errors.ts'
import {
  type Dial,
  type DialEvents,
  type FeedDial,
  GIVEN_UP_MS,
  givenUp,
  type HostAddress,
  type Listener,
  type Ports,
  type Sent,
  type Transport,
  WRONG_SOCKET,
} from './transport.ts'

/**
 * High-water mark of every socket, in messages, so in batches: with batches of at most 256 KiB it keeps a
 * subscriber that does not read within 16 MiB.
 */
const HIGH_WATER_BATCHES = 64

const MAX_SUBSCRIPTION_BYTES = 512

/** A reader gives the event loop a turn after this long, or a flood would starve timers (G3). */
const TURN_MS = 5

/**
 * Contexts of closed nodes, for the next ones: zeromq.js has no way to end a context, and each keeps five file
 * descriptors and a thread (G10). All sockets of such a context are closed, its authentication among them.
 */
const spareContexts: Context[] = []

export interface ZeromqOptions {
  /** Frames above this size make libzmq cut the connection; senders refuse such values long before. */
  maxFrameBytes: number
  /** The same for control batches. */
  maxControlBytes: number
}

export class ZeromqTransport implements Transport {
  readonly #options: ZeromqOptions
  readonly #context: Context
  readonly #sockets = new Set<Socket>()
  #router: Router | undefined
  #xpub: XPublisher | undefined
  #patient = true
  #closed = false

  constructor(options: ZeromqOptions) {
    this.#options = options
    // `blocky` would hang the exit of a process that still has something queued for a dead peer.
    this.#context = spareContexts.pop() ?? new Context({ blocky: false, maxSockets: 8192 })
  }

  addresses(): HostAddress[] {
    return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
      addresses.map(({ address, family, internal }) => ({ interface: name, address, family, internal })),
    )
  }

  async resolve(host: string): Promise<string[]> {
    return (await lookup(host, { all: true })).map(({ address }) => address)
  }

  async listen(at: { host: string; port: number }, on: Listener): Promise<Ports> {
    const router = this.#make(Router, {
      mandatory: true,
      sendTimeout: 0,
      maxMessageSize: this.#options.maxControlBytes,
    })
    // It receives nothing but subscriptions, whose prefixes stay in memory: a peer must not make them long.
    const xpub = this.#make(XPublisher, {
      noDrop: true,
      sendTimeout: 0,
      maxMessageSize: MAX_SUBSCRIPTION_BYTES,
    })
    const pull = this.#make(Pull, {})
    const ports: number[] = []
    for (const [offset, socket] of [router, xpub, pull].entries()) {
      // With it, '::' takes IPv4 as well.
      socket.ipv6 = at.host.includes(':')
      ports.push(await bind(socket, at.host, at.port === 0 ? 0 : at.port + offset))
    }
    this.#router = router
    this.#xpub = xpub
    // Some knock already: first of all this node has to know its ports, which it tells them.
    setImmediate(() => {
      void this.#read(router, on.fault, ([id, ...frames]) => {
        const route = id!.toString('latin1')
        if (frames.length === 1) on.control(route, frames[0]!)
        else if (frames.length > 1 && frames[0]!.length === 0) on.plain(route, frames.slice(1))
        else
          on.fault(
            new SkeinError('MALFORMED', `a message of ${frames.length} frames came on the control road`),
          )
      })
      void this.#read(xpub, on.fault, ([frame]) => {
        const mark = frame?.[0]
        if (frame !== undefined && (mark === 0 || mark === 1)) on.subscription(frame.subarray(1), mark === 1)
      })
      void this.#read(pull, on.fault, on.delivery)
    })
    return { host: at.host, control: ports[0]!, feed: ports[1]!, delivery: ports[2]! }
  }

  answer(route: string, batch: Buffer): Promise<Sent> {
    return this.#route([Buffer.from(route, 'latin1'), batch])
  }

  answerPlain(route: string, frames: (Buffer | string)[]): Promise<Sent> {
    return this.#route([Buffer.from(route, 'latin1'), '', ...frames])
  }

  async #route(frames: (Buffer | string)[]): Promise<Sent> {
    if (this.#router === undefined || this.#router.closed) return 'gone'
    try {
      await this.#router.send(frames)
      return 'sent'
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 'full' : 'gone'
    }
  }

  async publish(frames: Buffer[], patient: boolean): Promise<Sent> {
    const xpub = this.#xpub
    if (xpub === undefined || xpub.closed) return 'gone'
    if (patient !== this.#patient) {
      setQuietly(xpub, patient)
      this.#patient = patient
    }
    try {
      await xpub.send(frames)
      return 'sent'
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 'full' : 'gone'
    }
  }

  dialControl(endpoint: string, on: DialEvents): Dial {
    const dial = (): Dial => {
      // Not `immediate`: with it libzmq throws away what has arrived and was not yet read when a connection ends, and
      // the last acks and the goodbye of a peer that exits would be lost.
      const dealer = this.#dialled(Dealer, { immediate: false }, endpoint, on)
      void this.#read(dealer, on.fault, (frames) => on.frames?.(frames))
      return this.#dial(dealer)
    }
    return this.#attempt(endpoint, on, dial, inertDial(endpoint))
  }

  dialDelivery(endpoint: string, on: DialEvents): Dial {
    // Not `immediate` either: a send that waits for a connection was seen to wait for ever when connections broke again and
    // again. What the pipe keeps over a break may come twice, and is dropped by its number.
    const dial = (): Dial => this.#dial(this.#dialled(Push, { immediate: false }, endpoint, on))
    return this.#attempt(endpoint, on, dial, inertDial(endpoint))
  }

  dialFeed(endpoint: string, on: DialEvents): FeedDial {
    const dial = (): FeedDial => {
      const sub = this.#dialled(Subscriber, {}, endpoint, on)
      void this.#read(sub, on.fault, (frames) => on.frames?.(frames))
      return {
        subscribe: (prefix) => sub.closed || sub.subscribe(prefix),
        unsubscribe: (prefix) => sub.closed || sub.unsubscribe(prefix),
        close: () => this.#close(sub),
      }
    }
    return this.#attempt(endpoint, on, dial, (close) => ({
      subscribe: () => {},
      unsubscribe: () => {},
      close,
    }))
  }

  /** A socket that cannot be made, for want of file descriptors or for a bad address, is a refusal and no crash. */
  #attempt<D>(endpoint: string, on: DialEvents, dial: () => D, inert: (close: () => void) => D): D {
    try {
      return dial()
    } catch (error) {
      let isClosed = false
      setImmediate(() => {
        if (isClosed || this.#closed) return
        on.fault(
          new SkeinError('PEER_UNKNOWN', `cannot dial ${endpoint}: ${messageOf(error)}`, { cause: error }),
        )
        on.refused?.()
      })
      return inert(() => {
        isClosed = true
      })
    }
  }

  #dialled<S extends Dealer | Push | Subscriber>(
    Kind: new (options: { context: Context }) => S,
    options: Partial<Omit<S, 'context'>>,
    endpoint: string,
    on: DialEvents,
  ): S {
    const socket = this.#make(Kind as never, options as never) as S
    try {
      watch(socket, endpoint, on)
      socket.ipv6 = endpoint.includes('[')
      socket.connect(endpoint)
    } catch (error) {
      this.#close(socket)
      throw error
    }
    return socket
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const socket of this.#sockets) this.#close(socket)
    spareContexts.push(this.#context)
  }

  #dial(socket: Dealer | Push): Dial {
    return {
      send: async (frames) => socket.send(frames),
      close: () => this.#close(socket),
    }
  }

  #close(socket: Socket): void {
    this.#sockets.delete(socket)
    if (!socket.closed) socket.close()
  }

  /**
   * Constructs with the context alone and sets options one by one: a constructor that throws makes the process
   * crash at exit (zeromq.js 6.8). ZMTP heartbeats and tcpMaxRetransmitTimeout stay unset: they cut healthy
   * links under back-pressure, and the former can abort the process.
   */
  #make<S extends Router | XPublisher | Pull | Push | Dealer | Subscriber>(
    Kind: new (options: { context: Context }) => S,
    options: Partial<Omit<S, 'context'>>,
  ): S {
    if (this.#closed) throw new SkeinError('CLOSED', 'a socket was asked for after the node was closed')
    const socket = new Kind({ context: this.#context })
    try {
      Object.assign(socket, {
        linger: 0,
        maxMessageSize: this.#options.maxFrameBytes,
        reconnectInterval: 100,
        reconnectMaxInterval: 5000,
        connectTimeout: 3000,
        handshakeInterval: 5000,
        tcpKeepalive: 1,
        tcpKeepaliveIdle: 15,
        tcpKeepaliveInterval: 5,
        tcpKeepaliveCount: 3,
        ...(socket instanceof Push ||
        socket instanceof Dealer ||
        socket instanceof XPublisher ||
        socket instanceof Router
          ? { sendHighWaterMark: HIGH_WATER_BATCHES }
          : {}),
        ...(socket instanceof Push || socket instanceof XPublisher
          ? {}
          : { receiveHighWaterMark: HIGH_WATER_BATCHES }),
        ...options,
      })
    } catch (error) {
      socket.close()
      throw error
    }
    this.#sockets.add(socket)
    return socket
  }

  /** Reads until the socket closes. User code never runs in the await: a SUB must always have a receive pending. */
  async #read(
    socket: Router | XPublisher | Pull | Dealer | Subscriber,
    fault: (error: unknown) => void,
    take: (frames: Buffer[]) => unknown,
  ): Promise<void> {
    let turnAt = performance.now()
    while (!socket.closed) {
      let frames: Buffer[]
      try {
        frames = (await socket.receive()) as Buffer[]
      } catch (error) {
        if (!socket.closed) fault(error)
        return
      }
      let pressed: unknown
      try {
        pressed = take(frames)
      } catch (error) {
        fault(error)
      }
      if (pressed !== true && performance.now() - turnAt < TURN_MS) continue
      await new Promise<void>((resolve) => setImmediate(resolve))
      turnAt = performance.now()
    }
  }
}

const inertDial =
  (endpoint: string) =>
  (close: () => void): Dial => ({
    send: () => Promise.reject(new SkeinError('PEER_LOST', `${endpoint} could not be dialled`)),
    close,
  })

/**
 * zeromq.js warns on stderr that an option set after bind takes no effect before the next one. This one does at once
 * (a test asserts it), and a library has nothing to print.
 */
const setQuietly = (xpub: XPublisher, noDrop: boolean): void => {
  const emitWarning = process.emitWarning
  process.emitWarning = () => {}
  try {
    xpub.noDrop = noDrop
  } finally {
    process.emitWarning = emitWarning
  }
}

/**
 * ZeroMQ gives a port back some time after its socket was closed: one that is taken is tried again for so long, or a node
 * that is closed and started again would not get its own.
 */
const TAKEN_MS = 500
const TAKEN_AGAIN_MS = 20

const bind = async (socket: Router | XPublisher | Pull, host: string, port: number): Promise<number> => {
  const address = `tcp://${host.includes(':') ? `[${host}]` : host}:${port === 0 ? '*' : port}`
  const until = performance.now() + TAKEN_MS
  try {
    for (;;) {
      try {
        await socket.bind(address)
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || performance.now() >= until) throw error
        await new Promise((resolve) => setTimeout(resolve, TAKEN_AGAIN_MS))
      }
    }
  } catch (error) {
    throw new SkeinError(
      (error as NodeJS.ErrnoException).code === 'EADDRINUSE' ? 'ADDRESS_IN_USE' : 'OPTION_INVALID',
      `cannot listen on ${address}: ${messageOf(error)}; choose another 'port' (three in a row are needed) or 'bind'`,
      { cause: error },
    )
  }
  return Number(socket.lastEndpoint!.slice(socket.lastEndpoint!.lastIndexOf(':') + 1))
}

/** Attached before connect, because late listeners miss events; a listener that throws would end the monitor. */
const watch = (socket: Dealer | Push | Subscriber, endpoint: string, on: DialEvents): void => {
  const guard = (run: (() => void) | undefined) => () => {
    try {
      if (!socket.closed) run?.()
    } catch (error) {
      on.fault(error)
    }
  }
  if (on.up) socket.events.on('handshake', guard(on.up))
  if (on.down) socket.events.on('disconnect', guard(on.down))
  watchForGivenUp(socket, endpoint, on, guard)
  // A connection that stood ends with `disconnect`; `close` alone is an attempt that failed.
  if (on.refused)
    socket.events.on(
      'close',
      guard(() => on.refused?.()),
    )
}

/** ZeroMQ says that it dials again, or says nothing and never does. */
const watchForGivenUp = (
  socket: Dealer | Push | Subscriber,
  endpoint: string,
  on: DialEvents,
  guard: (run: (() => void) | undefined) => () => void,
): void => {
  let timer: NodeJS.Timeout | undefined
  let stood = false
  const giveUp = guard(() => {
    if (stood) on.fault(givenUp(endpoint))
    on.refused?.(stood ? undefined : WRONG_SOCKET)
  })
  socket.events.on('handshake', () => {
    stood = true
  })
  socket.events.on('disconnect', () => {
    clearTimeout(timer)
    timer = setTimeout(giveUp, GIVEN_UP_MS).unref()
  })
  socket.events.on('connect:retry', () => clearTimeout(timer))
}
