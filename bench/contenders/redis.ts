import { connect as load } from '../brokers/clients.ts'
import type { Contender, Question } from '../question.ts'

const STREAM = 'bench'
const GROUP = 'workers'
const READ_AT_ONCE = 500

const connect = async (isPipelined: boolean) => {
  const { Redis } = await load('ioredis')
  return new Redis({
    host: '127.0.0.1',
    port: Number(process.env.BROKER_PORT),
    enableAutoPipelining: isPipelined,
  })
}

const none = (): never => {
  throw new Error('this contender only passes streams on')
}

/**
 * A Redis stream with a consumer group: XADD in pipelines, XREADGROUP of up to 500 at once, XACK and XDEL of what was
 * handled. Appends go to its file and are synced once a second.
 */
export const contender: Contender = {
  async send(question: Question) {
    const redis = await connect(true)
    await redis.xgroup('CREATE', STREAM, GROUP, '$', 'MKSTREAM')
    const open = new Set<Promise<unknown>>()
    let room: (() => void) | undefined
    return {
      address: '',
      ready: async () => {},
      async publish(value) {
        const added = redis.xadd(STREAM, '*', 'v', value)
        open.add(added)
        void added.then(() => {
          open.delete(added)
          room?.()
        })
        if (open.size < question.inFlight) return
        await new Promise<void>((resolve) => {
          room = resolve
        })
      },
      drain: async () => void (await Promise.all(open)),
      close: async () => redis.disconnect(),
    }
  },

  async receive(question: Question) {
    const reader = await connect(false)
    const acker = await connect(true)
    let received = 0
    let weight = 0
    let isOpen = true
    const read = async () => {
      while (isOpen) {
        const found = await reader.xreadgroupBuffer(
          ...['GROUP', GROUP, 'worker', 'COUNT', READ_AT_ONCE, 'BLOCK', 100, 'STREAMS', STREAM, '>'],
        )
        if (found === null) continue
        const ids: Buffer[] = []
        for (const [id, fields] of found[0][1]) {
          received++
          weight += question.weigh(fields[1])
          ids.push(id)
        }
        void acker.xack(STREAM, GROUP, ...ids)
        void acker.xdel(STREAM, ...ids)
      }
    }
    const reading = read()
    return {
      address: '',
      received: () => received,
      reportedLost: () => ({}),
      weight: () => weight,
      close: async () => {
        isOpen = false
        await reading
        for (const connection of [reader, acker]) connection.disconnect()
      },
    }
  },

  respond: async () => none(),
  request: async () => none(),
}
