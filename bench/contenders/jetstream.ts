import { connect as load } from '../brokers/clients.ts'
import type { Contender, Question } from '../question.ts'

const SUBJECT = 'bench'
const STREAM = 'BENCH'

const connect = async () => {
  const nats = await load('nats')
  return { nats, connection: await nats.connect({ servers: `127.0.0.1:${process.env.BROKER_PORT}` }) }
}

const none = (): never => {
  throw new Error('this contender only passes streams on')
}

/**
 * NATS JetStream as its guide shows it: a stream on files with the retention of a work queue, publishes that are acked,
 * a pull consumer that acks each message. As it comes, a publish is acked before it is synced.
 */
export const contender: Contender = {
  async send(question: Question) {
    const { connection } = await connect()
    const manager = await connection.jetstreamManager()
    await manager.streams.add({
      ...{ name: STREAM, subjects: [SUBJECT], storage: 'file', retention: 'workqueue' },
    })
    const stream = connection.jetstream()
    const open = new Set<Promise<unknown>>()
    let room: (() => void) | undefined
    return {
      address: '',
      ready: async () => {},
      async publish(value) {
        const acked = stream.publish(SUBJECT, value as Uint8Array)
        open.add(acked)
        void acked.then(() => {
          open.delete(acked)
          room?.()
        })
        if (open.size < question.inFlight) return
        await new Promise<void>((resolve) => {
          room = resolve
        })
      },
      drain: async () => void (await Promise.all(open)),
      close: () => connection.close(),
    }
  },

  async receive(question: Question) {
    const { connection, nats } = await connect()
    const manager = await connection.jetstreamManager()
    await manager.consumers.add(STREAM, {
      ...{
        durable_name: 'worker',
        ack_policy: nats.AckPolicy.Explicit,
        max_ack_pending: 2 * question.inFlight,
      },
    })
    const consumer = await connection.jetstream().consumers.get(STREAM, 'worker')
    const messages = await consumer.consume({ max_messages: question.inFlight })
    let received = 0
    let weight = 0
    const read = async () => {
      for await (const message of messages) {
        received++
        weight += question.weigh(message.data)
        message.ack()
      }
    }
    const reading = read()
    return {
      address: '',
      received: () => received,
      reportedLost: () => ({}),
      weight: () => weight,
      close: async () => {
        messages.stop()
        await connection.drain()
        await reading.catch(() => {})
      },
    }
  },

  respond: async () => none(),
  request: async () => none(),
}
