import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { pack, unpack } from 'msgpackr'
import { Dealer, Publisher, Pull, Push, Router, Subscriber } from 'zeromq'
import type { Contender, Question, Sender } from '../question.ts'

const TOPIC = 'bench.topic'

const encoderOf = (question: Question): ((value: unknown) => Uint8Array) =>
  question.packed ? pack : (value) => value as Uint8Array

const decoderOf = (question: Question): ((bytes: Uint8Array) => unknown) =>
  question.packed ? unpack : (bytes) => bytes

// Ten times the default; measured to be the quicker of the two for this contender.
const HIGH_WATER_MARK = 10_000

const isFull = (error: unknown): boolean => (error as { code?: unknown }).code === 'EAGAIN'

/**
 * zeromq.js by hand, as its guide shows it: PUB/SUB with one message of two parts for each value, and
 * DEALER/ROUTER with a correlation id. A PUB drops silently at its high-water mark, and what is lost does not
 * count; `noDrop` makes `send` fail there instead, so the loop waits a turn and tries again.
 */
export const contender: Contender = {
  async send(question) {
    if (question.receivers !== undefined) return sendShared(question)
    const socket = new Publisher()
    socket.noDrop = true
    socket.sendHighWaterMark = HIGH_WATER_MARK
    socket.linger = 0
    await socket.bind('tcp://127.0.0.1:*')
    const encode = encoderOf(question)
    return {
      address: socket.lastEndpoint!,
      // A PUB cannot know who is there: by hand one waits and hopes.
      ready: () => sleep(300),
      async publish(value) {
        const parts = [TOPIC, encode(value)]
        for (;;) {
          try {
            return await socket.send(parts)
          } catch (error) {
            if (!isFull(error)) throw error
            await turn()
          }
        }
      },
      drain: async () => {},
      close: async () => socket.close(),
    }
  },

  async receive(question, place) {
    const socket = question.receivers === undefined ? new Subscriber() : new Pull()
    socket.receiveHighWaterMark = HIGH_WATER_MARK
    socket.linger = 0
    socket.connect(place.address)
    if (socket instanceof Subscriber) socket.subscribe(TOPIC)
    const decode = decoderOf(question)
    let received = 0
    let weight = 0
    const read = async () => {
      for await (const frames of socket) {
        received++
        weight += question.weigh(decode(frames.at(-1)!))
      }
    }
    const reading = read()
    return {
      address: '',
      received: () => received,
      reportedLost: () => ({}),
      weight: () => weight,
      close: async () => {
        socket.close()
        await reading.catch(() => {})
      },
    }
  },

  async respond() {
    const socket = new Router()
    socket.linger = 0
    await socket.bind('tcp://127.0.0.1:*')
    const serve = async () => {
      for await (const [requester, id, payload] of socket) await socket.send([requester!, id!, payload!])
    }
    const serving = serve()
    return {
      address: socket.lastEndpoint!,
      close: async () => {
        socket.close()
        await serving.catch(() => {})
      },
    }
  },

  async request(question, place) {
    const socket = new Dealer()
    socket.linger = 0
    socket.connect(place.address)
    const encode = encoderOf(question)
    const decode = decoderOf(question)
    const waiting = new Map<number, (value: unknown) => void>()
    const read = async () => {
      for await (const [id, payload] of socket) {
        const key = id!.readUInt32LE()
        const resolve = waiting.get(key)
        waiting.delete(key)
        resolve?.(decode(payload!))
      }
    }
    const reading = read()

    // A socket takes one pending send at a time: what comes meanwhile waits in a queue.
    const queue: [Buffer, Uint8Array][] = []
    let writing = false
    const write = async () => {
      writing = true
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await socket.send(next)
      writing = false
    }

    let lastId = 0
    const log = question.owed ? await openLog() : undefined
    const ask = (value: unknown): Promise<unknown> =>
      new Promise((resolve, reject) => {
        lastId = (lastId + 1) >>> 0
        const id = Buffer.allocUnsafe(4)
        id.writeUInt32LE(lastId)
        waiting.set(lastId, resolve)
        queue.push([id, encode(value)])
        if (!writing) write().catch(reject)
      })
    return {
      address: '',
      request: async (value) => {
        await log?.append(encode(value))
        return await ask(value)
      },
      close: async () => {
        socket.close()
        await reading.catch(() => {})
        await log?.close()
      },
    }
  },
}

/** PUSH gives each message to one of several PULL sockets, in turn, and waits where all are full. */
const sendShared = async (question: Question): Promise<Sender> => {
  const socket = new Push()
  socket.sendHighWaterMark = HIGH_WATER_MARK
  // What was sent goes out: this contender promises nothing, but is not made to lose the tail.
  await socket.bind('tcp://127.0.0.1:*')
  const encode = encoderOf(question)
  return {
    address: socket.lastEndpoint!,
    ready: () => sleep(300),
    publish: (value) => socket.send(encode(value)),
    drain: async () => {},
    close: async () => socket.close(),
  }
}

/** A file to which each value is appended and synced before it is sent. */
const openLog = async (): Promise<{ append(bytes: Uint8Array): Promise<void>; close(): Promise<void> }> => {
  const path = join(process.env.BENCH_DIR ?? tmpdir(), `bare-bench-${process.pid}`)
  const file = await open(path, 'a')
  return {
    append: async (bytes) => {
      await file.write(bytes)
      await file.datasync()
    },
    close: async () => {
      await file.close()
      await rm(path)
    },
  }
}
