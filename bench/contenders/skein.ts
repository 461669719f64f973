import { createNode } from 'skein'
import type { Contender } from '../question.ts'

const TOPIC = 'bench.topic'
const NAME = 'bench.echo'

export const contender: Contender = {
  async send(_question, place) {
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
    const subscription = node.subscribe(TOPIC, (value) => {
      received++
      weight += question.weigh(value)
    })
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

  async respond(_question, place) {
    const node = await createNode({ name: 'responder', mesh: place.mesh })
    const responder = node.respond(NAME, (query) => query, { concurrency: 64 })
    await responder.ready
    return { address: '', close: async () => void (await node.close()) }
  },

  async request(question, place) {
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
