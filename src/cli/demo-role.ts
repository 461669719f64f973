import { createNode, isSkeinError, type Node } from '../index.ts'
import { type OrderAsks, type OrderTold, playPacker, playShop } from './demo-orders.ts'

export const ROLES = ['sensors', 'forecast', 'desk'] as const
/** Those of the second half. */
export const ORDER_ROLES = ['shop', 'anna', 'ben'] as const
export type Role = (typeof ROLES)[number] | (typeof ORDER_ROLES)[number]

export interface Reading {
  room: string
  celsius: number
  sequence: number
}

export interface Followed {
  latest: Reading[]
  outOfOrder: number
  missed: number
}

export interface Asked {
  right: number
  tripsMs: number[]
}

export interface Failed {
  code: string
  afterMs: number
}

/** What the demo asks of its processes, and what they answer. */
export interface Asks extends OrderAsks {
  meet: { ask: { names: string[] }; answer: Record<string, string> }
  follow: { ask: { count: number }; answer: Followed }
  ask: { ask: { count: number }; answer: Asked }
  askInVain: { ask: { slow: boolean }; answer: Failed }
  notice: { ask: { boot: string }; answer: object }
  leave: { ask: object; answer: object }
}

/** What a process tells without being asked. */
export type Told = { told: 'started' } | { told: 'working' } | OrderTold

export const FORECAST = 'forecast.get'

type Handlers = { [K in keyof Asks]?: (ask: Asks[K]['ask']) => Promise<Asks[K]['answer']> }

const tell = (message: object): void => void process.send?.(message)

const ROOMS = ['kitchen', 'hall', 'cellar']
const EVERY_MS = 20

const playSensors = (node: Node): Handlers => {
  let sequence = 0
  const publish = async (): Promise<void> => {
    sequence++
    for (const [index, room] of ROOMS.entries()) {
      const celsius = Math.round((20 + 3 * index + Math.sin(sequence / 20)) * 10) / 10
      await node.publish(`sensors.${room}.temp`, { room, celsius, sequence } satisfies Reading)
    }
  }
  // A node that closes while a reading leaves is how this role ends.
  const timer = setInterval(() => void publish().catch(() => clearInterval(timer)), EVERY_MS)
  return {
    leave: async () => {
      clearInterval(timer)
      return {}
    },
  }
}

const playForecast = async (node: Node): Promise<Handlers> => {
  const responder = node.respond(
    FORECAST,
    async (query, message) => {
      const { celsius, slow } = query as { celsius: number; slow: boolean }
      if (slow) {
        tell({ told: 'working' } satisfies Told)
        await new Promise((_resolve, reject) => {
          message.signal.addEventListener('abort', () => reject(message.signal.reason))
        })
      }
      return { celsius: celsius + 1 }
    },
    { concurrency: 8 },
  )
  await responder.ready
  return {}
}

const playDesk = async (node: Node): Promise<Handlers> => {
  const lastSequence = new Map<string, number>()
  const watchers = new Set<(reading: Reading) => void>()
  let outOfOrder = 0
  let missed = 0
  node.on('gap', ({ count }) => {
    missed += count ?? 1
  })
  const subscription = node.subscribe('sensors.>', (value) => {
    const reading = value as Reading
    const last = lastSequence.get(reading.room)
    if (last !== undefined && reading.sequence !== last + 1) outOfOrder++
    lastSequence.set(reading.room, reading.sequence)
    for (const watcher of watchers) watcher(reading)
  })
  await subscription.ready
  return {
    follow: ({ count }) =>
      new Promise((resolve) => {
        const latest: Reading[] = []
        const watcher = (reading: Reading): void => {
          if (latest.push(reading) < count) return
          watchers.delete(watcher)
          resolve({ latest, outOfOrder, missed })
        }
        watchers.add(watcher)
      }),
    ask: async ({ count }) => {
      const tripsMs: number[] = []
      let right = 0
      for (let celsius = 0; celsius < count; celsius++) {
        const askedAt = performance.now()
        const answer = await node.request(FORECAST, { celsius, slow: false }, { waitMs: 3000 })
        tripsMs.push(performance.now() - askedAt)
        if ((answer as { celsius: number }).celsius === celsius + 1) right++
      }
      return { right, tripsMs }
    },
    askInVain: async ({ slow }) => {
      const askedAt = performance.now()
      try {
        await node.request(FORECAST, { celsius: 0, slow }, { timeoutMs: 10_000 })
        return { code: 'none: it was answered', afterMs: performance.now() - askedAt }
      } catch (error) {
        const code = isSkeinError(error) ? error.code : String(error)
        return { code, afterMs: performance.now() - askedAt }
      }
    },
  }
}

const play = async (role: Role, node: Node): Promise<Handlers> => {
  switch (role) {
    case 'sensors':
      return playSensors(node)
    case 'forecast':
      return playForecast(node)
    case 'desk':
      return playDesk(node)
    case 'shop':
      return playShop(node)
    case 'anna':
    case 'ben':
      return playPacker(node, tell)
  }
}

/** Resolves as soon as `happened` is true of the roster. */
const rosterIs = (node: Node, happened: () => boolean): Promise<void> =>
  new Promise((resolve) => {
    const look = (): void => {
      if (!happened()) return
      node.off('peer-up', look)
      node.off('peer-down', look)
      resolve()
    }
    node.on('peer-up', look)
    node.on('peer-down', look)
    look()
  })

/** What fails is tried twice: a demo is short. */
const MAX_ATTEMPTS = 2

/** One of the processes of the demo; it ends when it is told to, or with its parent. */
export const demoRole = async (role: string, mesh: string, directory: string): Promise<void> => {
  process.once('disconnect', () => process.exit(1))
  const owing = role === 'shop' ? { dataDir: `${directory}/${role}`, maxAttempts: MAX_ATTEMPTS } : {}
  const node = await createNode({ name: role, mesh, ...owing })
  const up = () => node.peers.filter(({ state }) => state === 'up')
  const played = await play(role as Role, node)
  const handlers: Handlers = {
    ...played,
    meet: async ({ names }) => {
      await rosterIs(node, () => names.every((name) => up().some((peer) => peer.name === name)))
      return Object.fromEntries(up().map((peer) => [peer.name, peer.boot]))
    },
    notice: async ({ boot }) => {
      await rosterIs(node, () => up().every((peer) => peer.boot !== boot))
      return {}
    },
    leave: async () => {
      await played.leave?.({})
      await node.close()
      return {}
    },
  }
  process.on('message', (message: { id: number; name: keyof Asks; ask: object }) => {
    const { id } = message
    const handler = handlers[message.name] as ((ask: object) => Promise<object>) | undefined
    if (handler === undefined) throw new Error(`role "${role}" does not know "${message.name}"`)
    handler(message.ask).then(
      (answer) => {
        tell({ id, answer })
        if (message.name !== 'leave') return
        process.removeAllListeners('disconnect')
        process.disconnect()
      },
      (error: unknown) => tell({ id, error: String(error) }),
    )
  })
  tell({ told: 'started' } satisfies Told)
}
