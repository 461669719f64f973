import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export interface ProxyOptions {
  host?: string
  port?: number
  targetHost?: string
  targetPort: number
}

/**
 * A wire that can be cut: forwards each connection to a target until told otherwise. A target that refuses shows as a
 * connection that breaks at once, as behind any load balancer; `refuse` is what a dead host looks like.
 */
export class TcpProxy {
  readonly host: string
  /** How many connections were ever accepted. */
  accepted = 0
  /** How many bytes were handed on, in both directions together. */
  forwarded = 0
  readonly #server: Server
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  #port: number
  #paused = false

  private constructor(host: string, port: number, targetHost: string, targetPort: number) {
    this.host = host
    this.#port = port
    this.#server = createServer({ noDelay: true }, (near) => {
      this.accepted += 1
      this.#join(near, connect({ host: targetHost, port: targetPort, noDelay: true }))
    })
  }

  static async listen(options: ProxyOptions): Promise<TcpProxy> {
    const { host = '127.0.0.1', port = 0, targetHost = '127.0.0.1', targetPort } = options
    const proxy = new TcpProxy(host, port, targetHost, targetPort)
    await proxy.accept()
    return proxy
  }

  get port(): number {
    return this.#port
  }

  get endpoint(): string {
    return `tcp://${this.host}:${this.#port}`
  }

  /** How many connections are open. */
  get connections(): number {
    return this.#pairs.size
  }

  /** Listens, on the same port as before after `refuse`. */
  async accept(): Promise<void> {
    this.#server.listen(this.#port, this.host)
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Stops listening: new connections are refused, those that are open go on. */
  refuse(): void {
    this.#server.close()
  }

  /** Breaks every open connection with a TCP reset on both sides; what was under way is lost. Says how many. */
  reset(): number {
    const pairs = [...this.#pairs]
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy()
    return pairs.length
  }

  /** Forwards nothing in either direction, as a host that has vanished; connections are still accepted. */
  pause(): void {
    this.#paused = true
    for (const pair of this.#pairs) for (const socket of pair) socket.pause()
  }

  resume(): void {
    this.#paused = false
    for (const pair of this.#pairs) for (const socket of pair) socket.resume()
  }

  async close(): Promise<void> {
    const closed = this.#server.listening ? once(this.#server, 'close') : undefined
    this.#server.close()
    this.reset()
    await closed
  }

  #join(near: Socket, far: Socket): void {
    const pair = [near, far] as const
    this.#pairs.add(pair)
    near.once('close', () => this.#pairs.delete(pair))
    this.#pump(near, far)
    this.#pump(far, near)
  }

  #pump(from: Socket, to: Socket): void {
    from.on('data', (bytes) => {
      this.forwarded += bytes.length
      if (!to.write(bytes)) from.pause()
    })
    to.on('drain', () => {
      if (!this.#paused) from.resume()
    })
    // Node would raise it as uncaught; what matters is the close that follows.
    from.on('error', () => {})
    from.once('close', (failed) => {
      if (failed) to.resetAndDestroy()
      else to.end()
    })
    if (this.#paused) from.pause()
  }
}
