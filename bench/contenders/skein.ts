import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNode } from 'skein'
import type { Contender, Place, Question, Requester, Sender } from '../question.ts'

const TOPIC = 'bench.topic'
const NAME = 'bench.echo'

/** On the disk that BENCH_DIR names: the temporary directory is often in memory, where a sync costs nothing. */
const ownDirectory = (): string => mkdtempSync(join(process.env.BENCH_DIR ?? tmpdir(), 'skein-bench-'))

/** Pushes as fast as at most `inFlight` messages that are not handled allow. */
const sendOwed = async (question: Question, place: Place): Promise<Sender> => {
  const dataDir = ownDirectory()
  const node = await createNode({ name: 'sender', mesh: place.mesh, dataDir })
  const open = new Set<Promise<unknown>>()
  let room: (() => void) | undefined
  return {
    address: '',
    ready: () => node.waitForPeers(question.receivers ?? 1),
    async publish(value) {
      const handled = node.push(TOPIC, value).then((receipt) => receipt.settled)
      open.add(handled)
      void handled.then(() => {
        open.delete(handled)
        room?.()
      })
      if (open.size < question.inFlight) return
      await new Promise<void>((resolve) => {
        room = resolve
      })
    },
    drain: async () => void (await Promise.all(open)),
    close: async () => {
      await node.close()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

const pushLone = async (place: Place): Promise<Requester> => {
  const dataDir = ownDirectory()
  const node = await createNode({ name: 'sender', mesh: place.mesh, dataDir })
  await node.waitForPeers(1)
  return {
    address: '',
    request: async (value) => {
      await (await node.push(NAME, value)).settled
      return value
    },
    close: async () => {
      await node.close()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

export const contender: Contender = {
  async send(question, place) {
    if (question.owed) return sendOwed(question, place)
    const node = await createNode({ name: 'sender', mesh: place.mesh })
    return {
      address: '',
      ready: () => node.waitForSubscribers(TOPIC),
      publish: (value) => node.publish(TOPIC, value),
      drain: () => node.drain(),
      close: async () => void (await node.close()),
    }
  },

  async receive(question, place) {
    const node = await createNode({ name: 'receiver', mesh: place.mesh })
    let received = 0
    const lost: Record<string, number> = {}
    let weight = 0
    node.on('gap', (gap) => {
      lost[gap.reason] = (lost[gap.reason] ?? 0) + (gap.count ?? Number.NaN)
    })
    const take = (value: unknown): void => {
      received++
      weight += question.weigh(value)
    }
    const subscription = question.owed ? node.pull(TOPIC, take) : node.subscribe(TOPIC, take)
    await node.waitForPeers(1)
    await subscription.ready
    return {
      address: '',
      received: () => received,
      reportedLost: () => lost,
      weight: () => weight,
      close: async () => void (await node.close()),
    }
  },

  async respond(question, place) {
    const node = await createNode({ name: 'responder', mesh: place.mesh })
    if (question.owed) {
      await node.pull(NAME, () => {}).ready
      return { address: '', close: async () => void (await node.close()) }
    }
    const responder = node.respond(NAME, (query) => query, { concurrency: 64 })
    await responder.ready
    return { address: '', close: async () => void (await node.close()) }
  },

  async request(question, place) {
    if (question.owed) return pushLone(place)
    const node = await createNode({ name: 'requester', mesh: place.mesh })
    await node.waitForPeers(1)
    await node.request(NAME, question.value(0), { waitMs: 5000 })
    return {
      address: '',
      request: (value) => node.request(NAME, value, { timeoutMs: 5000 }),
      close: async () => void (await node.close()),
    }
  },
}
