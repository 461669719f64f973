import { MemoryNetwork } from '../../src/transport/memory.ts'
import type { Transport } from '../../src/transport/transport.ts'
import { ZeromqTransport } from '../../src/transport/zeromq.ts'
import { threeFreePorts } from './ports.ts'
import { TcpProxy } from './proxy.ts'

const LIMITS = { maxFrameBytes: 4 << 20, maxControlBytes: 4 << 20 }

/** A way to a port of this host. */
export interface Way {
  readonly endpoint: string
  /** Breaks every connection that took it. */
  reset(): void
}

/** What a suite needs of one kind of transport, and of its time. */
export interface Bench {
  /** A node's end, which is closed with the bench. */
  open(limits?: Partial<typeof LIMITS>): Transport
  /** The first of three in a row that are free. */
  freePort(): Promise<number>
  way(port: number): Promise<Way>
  /** Resolves when the condition holds; fails after 10 s, whichever they are. */
  eventually(holds: () => unknown): Promise<void>
  close(): Promise<void>
}

const LIMIT_MS = 10_000

const tooLate = (holds: () => unknown): Error =>
  new Error(`after ${LIMIT_MS} ms this does not hold: ${holds.toString()}`)

/** Real sockets on 127.0.0.1, real time. */
export class ZeromqBench implements Bench {
  readonly #closing: { close(): Promise<void> }[] = []

  open(limits: Partial<typeof LIMITS> = {}): Transport {
    const transport = new ZeromqTransport({ ...LIMITS, ...limits })
    this.#closing.push(transport)
    return transport
  }

  freePort(): Promise<number> {
    return threeFreePorts(['127.0.0.1'])
  }

  async way(targetPort: number): Promise<Way> {
    const proxy = await TcpProxy.listen({ targetPort })
    this.#closing.push(proxy)
    return proxy
  }

  async eventually(holds: () => unknown): Promise<void> {
    const until = performance.now() + LIMIT_MS
    while (!(await holds())) {
      if (performance.now() > until) throw tooLate(holds)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing.splice(0).map((each) => each.close()))
  }
}

/** One host of a network in memory, and its time. */
export class MemoryBench implements Bench {
  readonly network = new MemoryNetwork({ seed: 3 })
  readonly #host = this.network.host()
  readonly #open: Transport[] = []
  #port = 7400

  open(limits: Partial<typeof LIMITS> = {}): Transport {
    const transport = this.#host.transport({ ...LIMITS, ...limits })
    this.#open.push(transport)
    return transport
  }

  async freePort(): Promise<number> {
    this.#port += 10
    return this.#port
  }

  async way(port: number): Promise<Way> {
    return { endpoint: `tcp://127.0.0.1:${port}`, reset: () => this.network.reset() }
  }

  async eventually(holds: () => unknown): Promise<void> {
    const { clock } = this.network
    const until = clock.now() + LIMIT_MS
    while (!(await holds())) {
      if (clock.now() > until) throw tooLate(holds)
      await clock.advance(0.1)
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((transport) => transport.close()))
  }
}
