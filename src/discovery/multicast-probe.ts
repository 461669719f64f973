import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'

const GROUP = '224.0.0.251'
const PORT = 5353
/** A packet may be lost where very many are sent, so it is said again. */
const SAID_AT_MS = [0, 100, 250]
const HEARD_MS = 600

/** What became of a packet that was sent to the group of mDNS on one interface, and should come back to this host. */
export interface MulticastProbe {
  readonly interface: string
  readonly address: string
  /** Silent: it was sent and did not come back. Failed: it could not be sent, or the group could not be joined. */
  readonly outcome: 'heard' | 'silent' | 'failed'
  /** The error code of the socket, where it failed. */
  readonly code?: string
}

export interface Probed {
  readonly interface: string
  readonly address: string
}

/** Asks on one interface for a name that nobody has, as any program that speaks mDNS may, and listens for the question. */
export const probeMulticast = (at: Probed, port: number = PORT): Promise<MulticastProbe> => {
  const question = randomQuestion()
  return new Promise((resolve) => {
    const socket = createSocket({ type: 'udp4', reuseAddr: true })
    const timers: NodeJS.Timeout[] = []
    const end = (outcome: MulticastProbe['outcome'], code?: string): void => {
      for (const timer of timers) clearTimeout(timer)
      socket.removeAllListeners()
      // What it still has to say concerns nobody.
      socket.on('error', () => {})
      socket.close()
      const { interface: name, address } = at
      resolve({ interface: name, address, outcome, ...(code === undefined ? {} : { code }) })
    }
    const fail = (error: Error): void => end('failed', codeOf(error))
    socket.on('error', fail)
    socket.on('message', (bytes) => {
      if (bytes.equals(question)) end('heard')
    })
    // Bound to the address itself it would be deaf on Linux.
    socket.bind(port, '0.0.0.0', () => {
      try {
        join(socket, at.address)
      } catch (error) {
        fail(error as Error)
        return
      }
      const say = (): void => socket.send(question, port, GROUP, (error) => error && fail(error))
      for (const delayMs of SAID_AT_MS) timers.push(setTimeout(say, delayMs))
      timers.push(setTimeout(() => end('silent'), HEARD_MS))
    })
  })
}

/**
 * Whether this host has a route for multicast, which programs need that leave the choice of the interface to it. Nothing
 * is sent.
 */
export const hasMulticastRoute = (): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4')
    const end = (has: boolean): void => {
      socket.close()
      resolve(has)
    }
    socket.on('error', () => {})
    socket.connect(PORT, GROUP, (error?: Error) => end(error === undefined || !isUnreachable(error)))
  })

const join = (socket: Socket, address: string): void => {
  socket.addMembership(GROUP, address)
  socket.setMulticastInterface(address)
  socket.setMulticastLoopback(true)
}

const codeOf = (error: Error): string => (error as NodeJS.ErrnoException).code ?? error.message

const isUnreachable = (error: Error): boolean => ['ENETUNREACH', 'EHOSTUNREACH'].includes(codeOf(error))

/** One question of DNS, PTR and class IN. */
const randomQuestion = (): Buffer => {
  const token = randomBytes(12).toString('hex')
  const labels = [`skein-probe-${token}`, 'local']
  const name = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  const head = Buffer.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([head, ...name, Buffer.from([0, 0, 12, 0, 1])])
}
