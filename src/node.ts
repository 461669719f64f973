import { hostname } from 'node:os'
import {
  checkPublishOptions,
  checkPullOptions,
  checkPushOptions,
  checkRequestManyOptions,
  checkRequestOptions,
  checkRespondOptions,
  checkSubscribeOptions,
  NO_OPTIONS,
} from './calls.ts'
import { Changes } from './changes.ts'
import type { Clock } from './clock.ts'
import { Answers } from './delivery/answers.ts'
import type { DeadLetters } from './delivery/dead-letters.ts'
import { dispatch } from './delivery/dispatch.ts'
import { Following } from './delivery/following.ts'
import { Inbox } from './delivery/inbox.ts'
import { Lanes } from './delivery/lanes.ts'
import type { Gap, Message } from './delivery/message.ts'
import { Missed } from './delivery/missed.ts'
import { Outbox } from './delivery/outbox.ts'
import {
  Publisher,
  type PublishOptions,
  type PublishOwedOptions,
  type PushOptions,
} from './delivery/publisher.ts'
import type { Receipt } from './delivery/receipt.ts'
import { type Reply, type RequestManyOptions, type RequestOptions, Requests } from './delivery/requests.ts'
import {
  type Responder,
  Responders,
  type RespondHandler,
  type RespondOptions,
} from './delivery/responders.ts'
import { Stated } from './delivery/stated.ts'
import type {
  PullOptions,
  SubscribeHandler,
  SubscribeOptions,
  Subscription,
} from './delivery/subscription.ts'
import { Subscriptions } from './delivery/subscriptions.ts'
import { Gossip } from './discovery/gossip.ts'
import { SkeinError } from './errors.ts'
import { Journal } from './journal/journal.ts'
import { answerDeadLetters, DEAD_LETTERS } from './observe/dead-letter-desk.ts'
import { type Events, Reports } from './observe/reports.ts'
import { type NodeStatus, STATUS, type StatusQuery } from './observe/status.ts'
import { count, duration, type NodeOptions, type ResolvedOptions, resolveOptions } from './options.ts'
import { Dialler } from './peers/dialler.ts'
import { Greeter } from './peers/greeter.ts'
import type { PeerInfo } from './peers/peer.ts'
import { Roster } from './peers/roster.ts'
import { Presence } from './presence.ts'
import { FRAME } from './protocol/control-frames.ts'
import { VERSION } from './protocol/header.ts'
import { validateQueue, validateTopic } from './protocol/topics.ts'
import { realSurroundings, type Surroundings } from './surroundings.ts'
import { Feed } from './transport/feed.ts'
import type { Listener, Transport } from './transport/transport.ts'

/** Counts since the node was started. */
export interface Stats {
  readonly peers: number
  readonly published: number
  /** Publishes refused because too much waited already. */
  readonly refused: number
  /** Messages sent while a subscriber was too far behind: that one may have lost them. */
  readonly lossy: number
  /** Messages that subscribers report to have missed. */
  readonly missed: number
  readonly batches: number
  readonly topics: number
  readonly queuedBytes: number
  readonly requestsPending: number
  readonly repliesLate: number
  readonly load: number
  readonly gaps: number
  readonly malformed: number
  /** Messages owed at least once, each once for each addressee. */
  readonly owed: number
  readonly deadLetters: number
}

/** Of subscriptions, responders and peers each: a status has to fit into a reply. */
const MAX_LISTED = 1000
const FRAME_OVERHEAD_BYTES = 64 * 1024
/** Beside the largest request: what was gathered before it, or the interest of a node with very many patterns. */
const CONTROL_OVERHEAD_BYTES = 2 * 1024 * 1024

/**
 * One member of a mesh. It wires the modules together and delegates; what is promised and how is theirs.
 *
 * @example
 * const node = await createNode({ name: 'orders' })
 * node.subscribe('sensors.*.temp', (value, message) => console.log(message.topic, value))
 * await node.publish('sensors.kitchen.temp', { c: 21.5 })
 * await node.close()
 */
export class Node {
  readonly id: string
  readonly name: string
  readonly mesh: string
  readonly boot: string
  readonly #options: ResolvedOptions
  readonly #reports: Reports
  readonly #clock: Clock
  readonly #transport: Transport
  readonly #changes: Changes
  readonly #roster: Roster
  readonly #dialler: Dialler
  readonly #greeter: Greeter
  readonly #gossip: Gossip
  readonly #presence: Presence
  readonly #feed: Feed
  readonly #subscriptions: Subscriptions
  readonly #following: Following
  readonly #journal: Journal
  readonly #lastWallMs: number
  readonly #lanes: Lanes
  readonly #outbox: Outbox
  readonly #inbox: Inbox
  readonly #responders: Responders
  readonly #requests: Requests
  readonly #answers: Answers
  readonly #publisher: Publisher
  readonly #stated: Stated
  readonly #undo: (() => void | Promise<void>)[] = []
  #closing: Promise<{ unsettled: number }> | undefined

  /** @internal Use createNode. */
  constructor(
    options: ResolvedOptions,
    surroundings: Surroundings,
    { journal, recovery }: Opened,
    reports: Reports,
  ) {
    const { clock } = surroundings
    this.#clock = clock
    this.#journal = journal
    this.#lastWallMs = recovery.lastWallMs
    const id = journal.nodeId
    const { name, mesh, limits, patienceMs, goneMs, listen, roomTimeoutMs } = options
    const boot = surroundings.newId()
    const changes = new Changes(clock)
    this.#changes = changes
    const self = { id, boot }
    this.#options = options
    this.id = id
    this.name = name
    this.mesh = mesh
    this.boot = boot
    this.#reports = reports
    const fault = (error: unknown): void => reports.fault(error)
    const gap = (missed: Gap): void => reports.gap(missed)
    const maxFrameBytes = Math.max(limits.maxValueBytes, limits.maxRequestBytes) + FRAME_OVERHEAD_BYTES
    const maxControlBytes = limits.maxRequestBytes + CONTROL_OVERHEAD_BYTES
    const transport = surroundings.transport({ maxFrameBytes, maxControlBytes })
    this.#transport = transport
    this.#subscriptions = new Subscriptions({
      clock,
      changed: () => this.#stated.subscribed(),
      paced: () => this.#stated.paced(),
      withdrawn: (group, pattern) => this.#stated.withdrawn(group, pattern),
      gap,
      fault,
    })
    this.#responders = new Responders({
      clock,
      maxReplyBytes: limits.maxRequestBytes,
      own: {
        [STATUS]: (query) => this.#status(query as StatusQuery | undefined),
        [DEAD_LETTERS]: (query) => answerDeadLetters(query, options.dataDir, this.#outbox.deadLetters),
      },
      changed: () => this.#stated.responding(),
    })
    this.#feed = new Feed({
      id,
      boot,
      clock,
      patienceMs,
      queueBytes: limits.feedBytes,
      maxTopics: limits.maxTopics,
      publish: (frames, patient) => transport.publish(frames, patient),
      confirmed: () => changes.notify(),
      askReport: (peer, number) => this.#roster.askReport(peer, number),
    })
    this.#following = new Following({
      id,
      transport,
      clock,
      changes,
      maxTopics: limits.maxTopics,
      wants: (topic) => this.#subscriptions.match(topic).length > 0,
      deliver: (topic, origin, generation, sequence, record) =>
        this.#subscriptions.deliver(topic, origin, generation, sequence, record),
      gap,
      isPressed: () => this.#subscriptions.isPressed,
      heard: (peer) => this.#roster.heard(peer),
      fault,
    })
    const missed = new Missed()
    this.#lanes = new Lanes({
      missed,
      boot,
      transport,
      clock,
      queueBytes: limits.feedBytes,
      handledBefore: (peer, said, after) => this.#outbox.handledBefore(peer, said, after),
      applied: () => this.#outbox.applied(),
      fault,
    })
    this.#outbox = new Outbox({
      missed,
      self,
      clock,
      changes,
      lanes: this.#lanes,
      maxAttempts: options.maxAttempts,
      goneMs,
      rememberMs: options.rememberMs,
      roomTimeoutMs,
      quotaBytes: limits.quotaBytes,
      maxDeadLetters: limits.maxDeadLetters,
      peers: () => this.#roster.members(),
      services: () => this.#subscriptions.services(),
      deliver: (addressee, message, record, settle) =>
        this.#subscriptions.hand(addressee, message, record, undefined, settle),
      dead: (letter) => reports.emit('dead-letter', letter),
      fault,
    })
    this.#inbox = new Inbox({
      clock,
      selfId: self.id,
      died: (letter) => reports.emit('dead-letter', letter),
      peerOf: (token) => this.#roster.byToken(token),
      heard: (peer) => this.#roster.heard(peer),
      deliver: (addressee, message, record, held, settle) =>
        this.#subscriptions.hand(addressee, message, record, held, settle),
    })
    this.#requests = new Requests({
      clock,
      self,
      maxRequestBytes: limits.maxRequestBytes,
      responders: this.#responders,
      peer: (peer) => this.#roster.get(peer),
      members: () => this.#roster.members(),
      changes,
    })
    this.#answers = new Answers({ responders: this.#responders, maxRequestBytes: limits.maxRequestBytes })
    this.#roster = new Roster({
      id,
      clock,
      changes,
      goneMs,
      address: () => this.#presence.address,
      interest: () => this.#stated.interest(),
      sentTo: (peer) => this.#lanes.sentTo(peer),
      awaits: (peer) => this.#requests.awaits(peer) || this.#lanes.awaits(peer),
      up: (peer) => {
        this.#requests.changed()
        this.#following.up(peer)
        this.#outbox.interested(peer)
        if (peer.visitor) return
        this.#gossip.met(peer.id)
        peer.announced = true
        reports.emit('peer-up', peer.info())
      },
      down: (peer, tails) => {
        this.#feed.unfollow(peer.id)
        this.#following.down(peer, tails)
        this.#requests.down(peer)
        this.#answers.down(peer)
        const handed = this.#lanes.down(peer)
        if (tails !== undefined) this.#outbox.left(peer, handed)
        else this.#outbox.down(peer, handed, peer.mayLive)
        this.#inbox.down(peer)
        this.#gossip.lost(peer.id)
        this.#presence.lost(peer.id)
        if (peer.announced) reports.emit('peer-down', peer.info())
      },
      gone: (peer) => {
        this.#following.gone(peer)
        this.#outbox.gone(peer)
        this.#inbox.down(peer)
      },
      interested: (peer) => {
        this.#requests.changed()
        this.#outbox.interested(peer)
        this.#feed.follow(peer.id, peer.interest.revision, peer.interest.patterns)
      },
      lost: (peer) => this.#dialler.redial(peer),
    })
    this.#dialler = new Dialler({
      ...self,
      mesh,
      transport,
      clock,
      changes,
      queueBytes: limits.feedBytes,
      roster: this.#roster,
      hello: (number, extra) => this.#greeter.self(number, extra),
      frame: (peer, type, reader, link) => this.#greeter.frame(peer, type, reader, link),
      oneWay: (peer, cause) => this.#greeter.oneWay(peer, cause),
      resumed: (peer, taken) => {
        this.#requests.resumed(peer)
        this.#lanes.resume(peer, taken)
      },
      tried: (sighting, endpoint, outcome) => this.#presence.tried(sighting, endpoint, outcome),
      warning: (error) => reports.warn(error),
      fault,
    })
    this.#greeter = new Greeter({
      ...self,
      name,
      mesh,
      transport,
      clock,
      queueBytes: limits.feedBytes,
      roster: this.#roster,
      dialler: this.#dialler,
      interest: () => this.#stated.interest(),
      frame: (peer, type, reader, onLink) =>
        dispatch(peer, type, reader, onLink, {
          feed: this.#feed,
          following: this.#following,
          lanes: this.#lanes,
          outbox: this.#outbox,
          windowed: (from, window) => this.#roster.windowed(from, window),
          requests: this.#requests,
          answers: this.#answers,
          gossip: this.#gossip,
          gap,
        }),
      takenFrom: (peer) => this.#inbox.takenFrom(peer),
      pinged: (peer, sent) => this.#inbox.pinged(peer, sent),
      ponged: (peer, taken) => this.#lanes.ponged(peer, taken),
      greeted: (peer) => this.#inbox.greeted(peer),
      warning: (error) => reports.warn(error),
      fault,
    })
    this.#gossip = new Gossip({
      clock,
      members: (to) => this.#roster.toldTo(to),
      send: (to, write) => this.#roster.tell(to, FRAME.gossip, write),
    })
    this.#presence = new Presence({
      ...self,
      options,
      surroundings,
      transport,
      roster: this.#roster,
      dialler: this.#dialler,
      greeter: this.#greeter,
      gossip: this.#gossip,
      listener: this.#listener(),
      warning: (error) => reports.warn(error),
    })
    this.#stated = new Stated({
      clock,
      subscriptions: this.#subscriptions,
      responders: this.#responders,
      requests: this.#requests,
      following: this.#following,
      outbox: this.#outbox,
      roster: () => this.#roster,
    })
    this.#publisher = new Publisher({
      self,
      maxValueBytes: limits.maxValueBytes,
      feedValueBytes: limits.feedValueBytes,
      roomTimeoutMs,
      hasFeed: listen,
      feed: this.#feed,
      lanes: this.#lanes,
      outbox: this.#outbox,
      subscriptions: this.#subscriptions,
      members: () => this.#roster.members(),
      peer: (peer) => this.#roster.get(peer),
    })
  }

  /** @internal Binds, announces and waits for those who are there. */
  async start(): Promise<void> {
    try {
      // Sockets that listen keep the process alive, as a server does; a node that only dials does so until it is closed,
      // and each until its journal is: the timers of that let a process end.
      const alive = setInterval(() => {}, 2 ** 30)
      this.#undo.push(() => clearInterval(alive))
      this.#undo.push(() => this.#outbox.close())
      this.#undo.push(() => this.#transport.close())
      await this.#outbox.open(this.#journal, this.#lastWallMs)
      this.#undo.push(() => this.#roster.close())
      this.#undo.push(() => this.#greeter.close())
      this.#undo.push(() => this.#dialler.close())
      this.#undo.push(() => this.#presence.leave())
      this.#roster.start()
      await this.#presence.start()
      this.#clock.turn(() => this.#reports.open())
    } catch (error) {
      await this.#undoAll()
      throw error
    }
  }

  /** The other nodes of the mesh as this one sees them. */
  get peers(): PeerInfo[] {
    return this.#presence.peers()
  }

  /**
   * Publishes to every subscriber of the topic. At most once it resolves when there is room for the next; at least once
   * with a receipt, when the message is owed to everybody who wants it. Rejects TOPIC_INVALID, VALUE_UNSUPPORTED,
   * VALUE_TOO_LARGE, OPTION_INVALID, CLOSED, and at least once NO_SUBSCRIBERS, OUTBOX_FULL, JOURNAL_FULL, JOURNAL_FAILED
   * and JOURNAL_UNCERTAIN.
   *
   * @example
   * await node.publish('sensors.kitchen.temp', { c: 21.5 }, { headers: { unit: 'celsius' } })
   * const receipt = await node.publish('order.created', order, { delivery: 'at-least-once' })
   * await receipt.settled
   */
  publish(topic: string, value: unknown, options: PublishOwedOptions): Promise<Receipt>
  publish(topic: string, value?: unknown, options?: PublishOptions): Promise<void>
  publish(topic: string, value?: unknown, options?: PublishOptions | PublishOwedOptions): Promise<unknown> {
    try {
      this.#assertOpen('publish to', topic)
      if (options === undefined) return this.#publisher.publish(topic, value, options)
      checkPublishOptions(options)
      if (options.delivery === 'at-least-once')
        return this.#publisher.publishOwed(topic, value, options as PublishOwedOptions)
      return this.#publisher.publish(topic, value, options as PublishOptions)
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  /**
   * Subscribes to a pattern: `*` stands for one level, a last `>` for one or more. With a handler it is called for
   * each message; without one the subscription is looped over. Throws PATTERN_INVALID, OPTION_INVALID,
   * NOT_SUPPORTED, CLOSED.
   *
   * @example
   * const subscription = node.subscribe('sensors.*.temp', (value, message) => console.log(message.topic, value))
   * await subscription.ready
   */
  subscribe<T = unknown>(
    pattern: string,
    handler: SubscribeHandler<T>,
    options?: SubscribeOptions,
  ): Subscription<T>
  subscribe<T = unknown>(pattern: string, options?: SubscribeOptions): Subscription<T>
  subscribe(
    pattern: string,
    first?: SubscribeHandler | SubscribeOptions,
    second?: SubscribeOptions,
  ): Subscription {
    this.#assertOpen('subscribe to', pattern)
    const { handler, options } = handlerAndOptions<SubscribeOptions>(
      `subscribe to '${pattern}'`,
      first,
      second,
    )
    checkSubscribeOptions(options)
    return this.#subscriptions.add(pattern, handler, options)
  }

  /**
   * Answers requests of this name with what the handler returns. What it throws reaches the asker as a code and a
   * message. Throws TOPIC_INVALID, OPTION_INVALID, CLOSED.
   *
   * @example
   * node.respond('price.get', async ({ sku }, message) => prices.find(sku, { signal: message.signal }))
   */
  respond(
    name: string,
    // biome-ignore lint/suspicious/noExplicitAny: the handler's author knows what is asked, as with JSON.parse
    handler: (query: any, message: Message) => unknown,
    options: RespondOptions = {},
  ): Responder {
    this.#assertOpen('respond to', name)
    if (typeof handler !== 'function')
      throw new SkeinError('OPTION_INVALID', `respond to '${name}': the handler is no function`)
    checkRespondOptions(options)
    return this.#responders.add(name, handler as RespondHandler, options)
  }

  /**
   * Asks the least loaded responder and resolves to its reply. Rejects NO_RESPONDER, PEER_LOST, BUSY at once,
   * REQUEST_TIMEOUT, REMOTE_ERROR, PEER_UNKNOWN, PEER_SLOW, VALUE_UNSUPPORTED, VALUE_TOO_LARGE, CLOSED, or with the
   * reason of `signal`; `error.mayHaveRun` says whether asking again could do it twice.
   *
   * @example
   * const price = await node.request('price.get', { sku: 'a1' }, { timeoutMs: 500 })
   */
  // biome-ignore lint/suspicious/noExplicitAny: the caller knows what is answered, as with JSON.parse
  request<T = any>(name: string, value?: unknown, options?: RequestOptions): Promise<T> {
    try {
      this.#assertOpen('request', name)
      if (options !== undefined) checkRequestOptions(options)
      return this.#requests.request(name, value, options ?? {}) as Promise<T>
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  /**
   * Asks every responder and yields the replies as they come, until all have answered, `max` have, or the time is
   * over. Throws as `request`; what one responder fails with is the `error` of its reply.
   *
   * @example
   * for await (const reply of node.requestMany('inventory.count', { sku })) console.log(reply.from, reply.value)
   */
  async *requestMany<T = unknown>(
    name: string,
    value?: unknown,
    options: RequestManyOptions = {},
  ): AsyncGenerator<Reply<T>> {
    this.#assertOpen('request', name)
    checkRequestManyOptions(options)
    yield* this.#requests.requestMany(name, value, options) as AsyncGenerator<Reply<T>>
  }

  /** Resolves when at least `least` other nodes are up. @throws SkeinError WAIT_TIMEOUT after `timeoutMs` (10,000) */
  async waitForPeers(least: number, options: { timeoutMs?: number } = {}): Promise<void> {
    count('count', least, 0)
    const missing = (found: number): string =>
      `${found} of ${least} peers are up; see node.peers for why others are not`
    await this.#wait(options.timeoutMs, () => this.#roster.members().length, least, missing)
  }

  /**
   * Resolves when at least `count` (1) other nodes are confirmed to get messages of this topic.
   * @throws SkeinError WAIT_TIMEOUT after `timeoutMs` (10,000)
   */
  async waitForSubscribers(
    topic: string,
    options: { count?: number; timeoutMs?: number } = {},
  ): Promise<void> {
    validateTopic(topic)
    const least = count('count', options.count ?? 1, 0)
    const missing = (found: number): string => `${found} of ${least} subscribers of '${topic}' are there`
    await this.#wait(options.timeoutMs, () => this.#publisher.subscribersOf(topic), least, missing)
  }

  on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#reports.events.on(event, listener as never)
    return this
  }

  once<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#reports.events.once(event, listener as never)
    return this
  }

  off<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this {
    this.#reports.events.off(event, listener as never)
    return this
  }

  /**
   * Puts work into a queue: it goes to one worker, is journaled until that has done it, and waits where nobody works.
   * Resolves with a receipt when it is owed. Rejects as `publish` at least once, but never NO_SUBSCRIBERS.
   *
   * @example
   * await node.push('resize', { image: 'cat.png' }, { key: 'cat.png', ttlMs: 3_600_000 })
   */
  push(queue: string, value?: unknown, options: PushOptions = NO_OPTIONS): Promise<Receipt> {
    try {
      this.#assertOpen('push to', queue)
      checkPushOptions(options)
      return this.#publisher.push(queue, value, options)
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  /**
   * Works off a queue. A handler that resolves has done its work; one that throws gets it again later, at another time
   * or another worker, and after `maxAttempts` failures it is a dead letter of its sender.
   *
   * @example
   * node.pull('resize', async (job) => resize(job.image), { concurrency: 4 })
   */
  pull<T = unknown>(queue: string, handler: SubscribeHandler<T>, options?: PullOptions): Subscription<T>
  pull<T = unknown>(queue: string, options?: PullOptions): Subscription<T>
  pull(queue: string, first?: SubscribeHandler | PullOptions, second?: PullOptions): Subscription {
    this.#assertOpen('pull', queue)
    validateQueue(queue)
    const { handler, options } = handlerAndOptions<PullOptions>(`pull '${queue}'`, first, second)
    checkPullOptions(options)
    return this.#subscriptions.pull(queue, handler, options)
  }

  /** What this node has sent at least once and given up. */
  get deadLetters(): DeadLetters {
    return this.#outbox.deadLetters
  }

  stats(): Stats {
    const { topics, published, refused, lossy, missed, batches, queuedBytes } = this.#feed.stats()
    return {
      peers: this.#roster.members().length,
      published,
      refused,
      lossy: lossy + this.#lanes.dropped,
      missed,
      batches,
      topics,
      queuedBytes,
      requestsPending: this.#requests.pending,
      repliesLate: this.#requests.late,
      load: this.#responders.load,
      gaps: this.#reports.gaps,
      malformed: this.#reports.malformed,
      owed: this.#outbox.unsettled,
      deadLetters: this.#outbox.deadLetters.size,
    }
  }

  #status(query: StatusQuery | undefined): NodeStatus {
    const { id, name, boot, mesh } = this
    const topic = query?.topic
    return {
      ...{ id, name, boot, mesh },
      protocol: VERSION,
      runtime: process.version,
      host: hostname(),
      pid: process.pid,
      open: this.#options.open,
      address: this.#presence.address,
      wallMs: this.#clock.wall(),
      lagMs: this.#roster.lagMs,
      missed: this.#reports.gaps,
      subscriptions: this.#subscriptions.status().slice(0, MAX_LISTED),
      responders: this.#responders.names().slice(0, MAX_LISTED),
      peers: this.peers.slice(0, MAX_LISTED),
      ...(typeof topic === 'string' && { wanting: this.#roster.wanting(topic).slice(0, MAX_LISTED) }),
    }
  }

  /** Resolves when what was published has reached the subscribers that keep up, at the latest after closeTimeoutMs. */
  async drain(): Promise<void> {
    this.#assertOpen('drain')
    await this.#drained()
  }

  async #drained(): Promise<void> {
    const { closeTimeoutMs } = this.#options
    await Promise.all([this.#feed.drain(closeTimeoutMs), this.#lanes.drain(closeTimeoutMs)])
  }

  /**
   * Lets what was published leave and handlers finish, hands back what they had not begun, says goodbye, and releases
   * everything, within `closeTimeoutMs`; the process then ends by itself. Calling it again answers the same. `unsettled`
   * is the number of requests and messages given up: what a data directory keeps is owed on.
   */
  close(): Promise<{ unsettled: number }> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<{ unsettled: number }> {
    this.#stated.close()
    const { closeTimeoutMs } = this.#options
    const worked = this.#subscriptions.drain(closeTimeoutMs)
    await this.#presence.leave()
    this.#responders.close()
    await Promise.all([worked, this.#outbox.drain(closeTimeoutMs), this.#drained()])
    // What was settled in this turn leaves before the goodbye.
    await new Promise<void>((resolve) => this.#clock.turn(resolve))
    const owed = this.#outbox.isVolatile ? this.#outbox.unsettled : 0
    const unsettled = this.#requests.pending + this.#lanes.unsettled + owed
    await this.#roster.leave((peer) => this.#feed.tails(peer.id), closeTimeoutMs)
    this.#requests.close()
    this.#lanes.close()
    this.#feed.close()
    this.#following.close()
    await this.#subscriptions.close()
    await this.#undoAll()
    if (unsettled > 0)
      this.#reports.warn(
        new SkeinError(
          'CLOSED',
          `the node was closed with ${unsettled} requests or messages unsettled, which are given up; a data directory keeps what is owed`,
        ),
      )
    return { unsettled }
  }

  async #undoAll(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) await undo()
  }

  #listener(): Listener {
    return {
      control: (route, batch) => this.#greeter.control(route, batch),
      plain: (route, frames) =>
        this.#answers.plain(
          frames,
          (status, payload) => void this.#transport.answerPlain(route, [status, payload]),
        ),
      subscription: (prefix, present) => this.#feed.listeners(prefix, present),
      delivery: (frames) => this.#inbox.take(frames),
      fault: (error) => this.#reports.fault(error),
    }
  }

  async #wait(
    timeoutMs: number | undefined,
    found: () => number,
    least: number,
    missing: (found: number) => string,
  ): Promise<void> {
    const limitMs = duration('timeoutMs', timeoutMs ?? 10_000)
    const enough = (): boolean => this.#closing !== undefined || found() >= least
    const came = await this.#changes.until(enough, limitMs)
    this.#assertOpen('wait')
    if (!came) throw new SkeinError('WAIT_TIMEOUT', `after ${limitMs} ms ${missing(found())}`)
  }

  #assertOpen(verb: string, name?: string): void {
    if (this.#closing === undefined) return
    const what = name === undefined ? verb : `${verb} '${name}'`
    throw new SkeinError('CLOSED', `${what}: node '${this.name}' is closed`, { mayHaveRun: false })
  }
}

/**
 * Starts a node: it listens, finds the nodes of its mesh and resolves when those that are there have answered.
 * Rejects OPTION_INVALID, NOT_SUPPORTED, ADDRESS_IN_USE, NODE_ID_IN_USE.
 *
 * @example
 * const node = await createNode({ name: 'orders', mesh: 'shop' })
 */
export const createNode = (options: NodeOptions = {}): Promise<Node> => startNode(options, realSurroundings)

/** @internal Starts a node in other surroundings than this host. */
export const startNode = async (options: NodeOptions, surroundings: Surroundings): Promise<Node> => {
  const resolved = resolveOptions(options)
  const { dataDir, durability, limits, id, name } = resolved
  const { clock } = surroundings
  const reports = new Reports(clock, resolved.logger, name)
  const opened = await Journal.open({
    durability,
    clock,
    limits: { totalBytes: limits.journalBytes },
    fault: (error) => reports.warn(error),
    ...(durability === 'memory' ? { nodeId: id ?? surroundings.newId() } : { directory: dataDir! }),
    ...(durability !== 'memory' && id !== undefined && { nodeId: id }),
  })
  reportRecovery(opened, reports)
  const node = new Node(resolved, surroundings, opened, reports)
  await node.start()
  return node
}

/** What the journal has lost is said, and then forgotten, or each start would say it again (G2). */
const reportRecovery = ({ journal, recovery }: Opened, reports: Reports): void => {
  const { cut, damage, lost, lostAfter } = recovery
  const say = (what: string): void => reports.warn(new SkeinError('JOURNAL_DAMAGED', what))
  if (cut !== undefined)
    say(
      `the journal ended in ${cut.bytes} bytes that were never finished (segment ${cut.segment}, byte ${cut.offset}): they were cut, which loses nothing that was accepted` +
        (cut.copy === undefined ? '' : `; a copy is in ${cut.copy}`),
    )
  for (const { segment, offset, bytes } of damage)
    say(
      `the journal is damaged: ${bytes} bytes of segment ${segment} from byte ${offset} on; they were put aside`,
    )
  for (let at = 0; at < lost.length; at += 2) {
    const [from, to] = [lost[at]!, lost[at + 1]!]
    say(`the journal has lost what was owed under the numbers ${from} to ${to}; look at the disk`)
    void journal.settle(from, to)
  }
  if (lostAfter !== undefined) say(`the journal may have lost what was owed after number ${lostAfter}`)
}

type Opened = Awaited<ReturnType<typeof Journal.open>>

const handlerAndOptions = <O extends object>(
  what: string,
  first: SubscribeHandler | O | undefined,
  second: O | undefined,
): { handler: SubscribeHandler | undefined; options: O } => {
  if (first !== undefined && typeof first !== 'function' && (typeof first !== 'object' || first === null))
    throw new SkeinError('OPTION_INVALID', `${what}: the handler is no function`)
  const handler = typeof first === 'function' ? (first as SubscribeHandler) : undefined
  return { handler, options: (handler === undefined ? (first as O | undefined) : second) ?? ({} as O) }
}
