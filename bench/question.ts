/** What is asked of both contenders, in the same words, and by how much skein has to win. */
export interface Question {
  name: string
  /** One sentence for the table's reader. */
  asks: string
  /** `stream`: publish until told to stop. `requests`: keep `inFlight` questions open. */
  kind: 'stream' | 'requests'
  inFlight: number
  /** The figure that is compared, and whether more of it is better. */
  measure: 'rate' | 'p50'
  /** At least once: skein journals to the disk, hands over to a worker, and counts what that has handled and acked. */
  owed?: boolean
  /** Processes that share the messages; 1 unless given. */
  receivers?: number
  /** The ratio skein ÷ bare: at least this for a rate, at most this for a latency. */
  must: number
  aim: number
  /** The nth value sent. */
  value(n: number): unknown
  /** True when the value is an object, which the bare contender has to pack by hand. */
  packed: boolean
  /** Uses a received value, so that a contender which decodes lazily pays for the decoding too. */
  weigh(value: unknown): number
}

export const QUESTIONS = [
  'publish',
  'publish-objects',
  'request',
  'request-64',
  'owed',
  'owed-objects',
  'owed-workers',
  'owed-lone',
] as const
export type QuestionName = (typeof QUESTIONS)[number]

export const CONTENDERS = ['skein', 'bare'] as const
/** Compared by `brokers/run.ts` only: they need servers. */
export const BROKERS = ['jetstream', 'redis'] as const
export type BrokerName = (typeof BROKERS)[number]
export type ContenderName = (typeof CONTENDERS)[number] | BrokerName

/** The processes of a sample, in the order in which they start: the first one binds. */
export const SIDES = { stream: ['send', 'receive'], requests: ['respond', 'request'] } as const
export type SideName = (typeof SIDES)[keyof typeof SIDES][number]

export interface Place {
  mesh: string
  /** What the first side bound, for a contender without discovery. */
  address: string
}

/** Publishes one value; resolves when the next may follow. */
export interface Sender {
  address: string
  /** Resolves when the receiver is known, or may be assumed, to be subscribed. */
  ready(): Promise<void>
  publish(value: unknown): Promise<void>
  /** Resolves when nothing that was published is still held by this process. */
  drain(): Promise<void>
  close(): Promise<void>
}

export interface Receiver {
  address: string
  received(): number
  /** What the contender itself reported as missed, by reason. */
  reportedLost(): Record<string, number>
  weight(): number
  close(): Promise<void>
}

export interface Responder {
  address: string
  close(): Promise<void>
}

export interface Requester {
  address: string
  request(value: unknown): Promise<unknown>
  close(): Promise<void>
}

export interface Contender {
  send(question: Question, place: Place): Promise<Sender>
  receive(question: Question, place: Place): Promise<Receiver>
  respond(question: Question, place: Place): Promise<Responder>
  request(question: Question, place: Place): Promise<Requester>
}

export const importQuestion = async (name: QuestionName): Promise<Question> => {
  const module = (await import(`./questions/${name}.ts`)) as { question: Question }
  return module.question
}

export const importContender = async (name: ContenderName): Promise<Contender> => {
  const module = (await import(`./contenders/${name}.ts`)) as { contender: Contender }
  return module.contender
}
