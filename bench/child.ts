import type { ContenderName, Place, Question, QuestionName, Requester, Sender, SideName } from './question.ts'
import { importContender, importQuestion } from './question.ts'

/** What the parent asks of one side of a sample, and what comes back. */
export interface Asks {
  start: { ask: { place: Place }; answer: { address: string } }
  ready: { ask: object; answer: object }
  publish: { ask: { ms: number }; answer: { sent: number } }
  count: { ask: object; answer: Count }
  request: { ask: { warmUpMs: number; measureMs: number }; answer: Requests }
  close: { ask: object; answer: object }
}

export interface Count {
  received: number
  reportedLost: Record<string, number>
  /** `performance.now()` of the receiver when it counted. */
  at: number
}

export interface Requests {
  requests: number
  perSecond: number
  p50Us: number
  p99Us: number
}

type Handlers = { [K in keyof Asks]?: (ask: Asks[K]['ask']) => Promise<Asks[K]['answer']> }

const publishFor = async (sender: Sender, question: Question, ms: number): Promise<{ sent: number }> => {
  const endAt = performance.now() + ms
  let sent = 0
  do {
    await sender.publish(question.value(sent))
    sent++
  } while ((sent & 0xff) !== 0 || performance.now() < endAt)
  await sender.drain()
  return { sent }
}

const percentile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

const requestFor = async (
  requester: Requester,
  question: Question,
  warmUpMs: number,
  measureMs: number,
): Promise<Requests> => {
  const startAt = performance.now() + warmUpMs
  const endAt = startAt + measureMs
  const tripsMs: number[] = []
  let weight = 0
  const keepAsking = async () => {
    for (let sentAt = performance.now(); sentAt < endAt; ) {
      weight += question.weigh(await requester.request(question.value(tripsMs.length)))
      const now = performance.now()
      if (now >= startAt && now < endAt) tripsMs.push(now - sentAt)
      sentAt = now
    }
  }
  await Promise.all(Array.from({ length: question.inFlight }, keepAsking))
  if (!(weight > 0)) throw new Error(`no reply of "${question.name}" carried its value`)
  const sorted = Float64Array.from(tripsMs).sort()
  return {
    requests: sorted.length,
    perSecond: (sorted.length / measureMs) * 1000,
    p50Us: percentile(sorted, 0.5) * 1000,
    p99Us: percentile(sorted, 0.99) * 1000,
  }
}

const [questionName, contenderName, side] = process.argv.slice(2) as [QuestionName, ContenderName, SideName]
const question = await importQuestion(questionName)
const contender = await importContender(contenderName)

const start = async (place: Place): Promise<Handlers & { address: string }> => {
  switch (side) {
    case 'send': {
      const sender = await contender.send(question, place)
      return {
        address: sender.address,
        ready: async () => {
          await sender.ready()
          return {}
        },
        publish: ({ ms }) => publishFor(sender, question, ms),
        close: async () => {
          await sender.close()
          return {}
        },
      }
    }
    case 'receive': {
      const receiver = await contender.receive(question, place)
      return {
        address: receiver.address,
        count: async () => ({
          received: receiver.received(),
          reportedLost: receiver.reportedLost(),
          at: performance.now(),
        }),
        close: async () => {
          if (!(receiver.weight() > 0)) throw new Error(`no message of "${question.name}" carried its value`)
          await receiver.close()
          return {}
        },
      }
    }
    case 'respond': {
      const responder = await contender.respond(question, place)
      return {
        address: responder.address,
        close: async () => {
          await responder.close()
          return {}
        },
      }
    }
    case 'request': {
      const requester = await contender.request(question, place)
      return {
        address: requester.address,
        request: ({ warmUpMs, measureMs }) => requestFor(requester, question, warmUpMs, measureMs),
        close: async () => {
          await requester.close()
          return {}
        },
      }
    }
  }
}

let handlers: Handlers = {
  start: async ({ place }) => {
    const started = await start(place)
    handlers = started
    return { address: started.address }
  },
}

process.on('message', (message: { name: keyof Asks; ask: object }) => {
  const answer = async () => {
    const handler = handlers[message.name] as ((ask: object) => Promise<object>) | undefined
    if (handler === undefined)
      throw new Error(`side "${side}" was asked to "${message.name}", which it cannot`)
    return handler(message.ask)
  }
  answer().then(
    (result) => process.send?.({ answer: result }),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.stack : String(error) }),
  )
})
process.once('disconnect', () => process.exit())
process.send?.({ answer: 'loaded' })
