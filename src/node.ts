import { hostname } from 'node:os'
import {
  checkPublishOptions,
  checkRequestManyOptions,
  checkRequestOptions,
  checkRespondOptions,
  checkSubscribeOptions,
} from './calls.ts'
import { Changes } from './changes.ts'
import type { Clock } from './clock.ts'
import { Answers } from './delivery/answers.ts'
import { dispatch } from './delivery/dispatch.ts'
import { Following } from './delivery/following.ts'
import { Inbox } from './delivery/inbox.ts'
import type { Gap, Message } from './delivery/message.ts'
import { Outbox } from './delivery/outbox.ts'
import { Publisher, type PublishOptions } from './delivery/publisher.ts'
import { type Reply, type RequestManyOptions, type RequestOptions, Requests } from './delivery/requests.ts'
import {
  type Responder,
  Responders,
  type RespondHandler,
  type RespondOptions,
} from './delivery/responders.ts'
import { Stated } from './delivery/stated.ts'
import {
  type SubscribeHandler,
  type SubscribeOptions,
  type Subscription,
  Subscriptions,
} from './delivery/subscriptions.ts'
import { Gossip } from './discovery/gossip.ts'
import { SkeinError } from './errors.ts'
import { type Events, Reports } from './observe/reports.ts'
import { type NodeStatus, STATUS, type StatusQuery } from './observe/status.ts'
import {
  count,
  duration,
  type NodeOptions,
  type ResolvedOptions,
  resolveOptions,
  unsupported,
} from './options.ts'
import { Greeter } from './peers/greeter.ts'
import type { PeerInfo } from './peers/peer.ts'
import { Roster } from './peers/roster.ts'
import { Presence } from './presence.ts'
import { FRAME } from './protocol/control-frames.ts'
import { VERSION } from './protocol/header.ts'
import { validateTopic } from './protocol/topics.ts'
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
  readonly #greeter: Greeter
  readonly #gossip: Gossip
  readonly #presence: Presence
  readonly #feed: Feed
  readonly #subscriptions: Subscriptions
  readonly #following: Following
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
  constructor(options: ResolvedOptions, surroundings: Surroundings) {
    const { clock } = surroundings
    this.#clock = clock
    const { id, name, mesh, limits, patienceMs, goneMs, listen, roomTimeoutMs } = options
    const boot = surroundings.newId()
    const changes = new Changes(clock)
    this.#changes = changes
    const self = { id, boot }
    this.#options = options
    this.id = id
    this.name = name
    this.mesh = mesh
    this.boot = boot
    const reports = new Reports(clock, options.logger, name)
    this.#reports = reports
    const fault = (error: unknown): void => reports.fault(error)
    const gap = (missed: Gap): void => reports.gap(missed)
    const maxFrameBytes = Math.max(limits.maxValueBytes, limits.maxRequestBytes) + FRAME_OVERHEAD_BYTES
    const maxControlBytes = limits.maxRequestBytes + CONTROL_OVERHEAD_BYTES
    const transport = surroundings.transport({ maxFrameBytes, maxControlBytes })
    this.#transport = transport
    this.#subscriptions = new Subscriptions({ clock, changed: () => this.#stated.subscribed(), gap, fault })
    this.#responders = new Responders({
      clock,
      maxReplyBytes: limits.maxRequestBytes,
      own: { [STATUS]: (query) => this.#status(query as StatusQuery | undefined) },
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
    this.#outbox = new Outbox({ boot, transport, clock, queueBytes: limits.feedBytes, fault })
    this.#inbox = new Inbox({
      clock,
      peerOf: (token) => this.#roster.byToken(token),
      heard: (peer) => this.#roster.heard(peer),
      deliver: (topic, origin, generation, sequence, record, settle) =>
        this.#subscriptions.deliver(topic, origin, generation, sequence, record, settle),
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
      sentTo: (peer) => this.#outbox.sentTo(peer),
      awaits: (peer) => this.#requests.awaits(peer) || this.#outbox.awaits(peer),
      up: (peer) => {
        this.#requests.changed()
        this.#following.up(peer)
        this.#outbox.up(peer)
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
        this.#outbox.down(peer)
        this.#inbox.down(peer)
        this.#gossip.lost(peer.id)
        this.#presence.lost(peer.id)
        if (peer.announced) reports.emit('peer-down', peer.info())
      },
      gone: (peer) => {
        this.#following.gone(peer)
        this.#outbox.gone(peer)
      },
      interested: (peer) => {
        this.#requests.changed()
        this.#feed.follow(peer.id, peer.interest.revision, peer.interest.patterns)
      },
      lost: (peer) => this.#greeter.redial(peer),
    })
    this.#greeter = new Greeter({
      ...self,
      name,
      mesh,
      transport,
      clock,
      changes,
      queueBytes: limits.feedBytes,
      roster: this.#roster,
      interest: () => this.#stated.interest(),
      frame: (peer, type, reader, onLink) =>
        dispatch(peer, type, reader, onLink, {
          feed: this.#feed,
          following: this.#following,
          outbox: this.#outbox,
          requests: this.#requests,
          answers: this.#answers,
          gossip: this.#gossip,
          gap,
        }),
      takenFrom: (peer) => this.#inbox.takenFrom(peer),
      pinged: (peer, sent) => this.#inbox.pinged(peer, sent),
      ponged: (peer, taken) => this.#outbox.ponged(peer, taken),
      resumed: (peer, taken) => {
        this.#requests.resumed(peer)
        this.#outbox.resume(peer, taken)
      },
      tried: (sighting, endpoint, outcome) => this.#presence.tried(sighting, endpoint, outcome),
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
      greeter: this.#greeter,
      gossip: this.#gossip,
      listener: this.#listener(),
      warning: (error) => reports.warn(error),
    })
    this.#stated = new Stated({
      subscriptions: this.#subscriptions,
      responders: this.#responders,
      requests: this.#requests,
      following: this.#following,
      roster: () => this.#roster,
    })
    this.#publisher = new Publisher({
      self,
      maxValueBytes: limits.maxValueBytes,
      feedValueBytes: limits.feedValueBytes,
      roomTimeoutMs,
      hasFeed: listen,
      feed: this.#feed,
      outbox: this.#outbox,
      subscriptions: this.#subscriptions,
      members: () => this.#roster.members(),
      peer: (peer) => this.#roster.get(peer),
    })
  }

  /** @internal Binds, announces and waits for those who are there. */
  async start(): Promise<void> {
    try {
      this.#undo.push(() => this.#transport.close())
      // Sockets that listen keep the process alive, as a server does; a node that only dials does so until it is closed.
      const alive = setInterval(() => {}, 2 ** 30)
      this.#undo.push(() => clearInterval(alive))
      this.#undo.push(() => this.#roster.close())
      this.#undo.push(() => this.#greeter.close())
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
   * Publishes to every subscriber of the topic, at most once. Resolves when there is room for the next; rejects
   * TOPIC_INVALID, VALUE_UNSUPPORTED, VALUE_TOO_LARGE, NOT_SUPPORTED, CLOSED, and OUTBOX_FULL for a caller that
   * does not wait.
   *
   * @example
   * await node.publish('sensors.kitchen.temp', { c: 21.5 }, { headers: { unit: 'celsius' } })
   */
  publish(topic: string, value?: unknown, options?: PublishOptions): Promise<void> {
    try {
      this.#assertOpen(`publish to '${topic}'`)
      if (options !== undefined) checkPublishOptions(options)
      return this.#publisher.publish(topic, value, options)
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
    this.#assertOpen(`subscribe to '${pattern}'`)
    if (first !== undefined && typeof first !== 'function' && (typeof first !== 'object' || first === null)) {
      throw new SkeinError('OPTION_INVALID', `subscribe to '${pattern}': the handler is no function`)
    }
    const handler = typeof first === 'function' ? (first as SubscribeHandler) : undefined
    const options = (handler === undefined ? (first as SubscribeOptions | undefined) : second) ?? {}
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
    this.#assertOpen(`respond to '${name}'`)
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
      this.#assertOpen(`request '${name}'`)
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
    this.#assertOpen(`request '${name}'`)
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

  /** Not in this version. @throws SkeinError NOT_SUPPORTED */
  async push(): Promise<never> {
    throw unsupported('push', 'publish and request are')
  }

  /** Not in this version. @throws SkeinError NOT_SUPPORTED */
  pull(): never {
    throw unsupported('pull', 'subscribe and respond are')
  }

  stats(): Stats {
    const { topics, published, refused, lossy, missed, batches, queuedBytes } = this.#feed.stats()
    return {
      peers: this.#roster.members().length,
      published,
      refused,
      lossy: lossy + this.#outbox.dropped,
      missed,
      batches,
      topics,
      queuedBytes,
      requestsPending: this.#requests.pending,
      repliesLate: this.#requests.late,
      load: this.#responders.load,
      gaps: this.#reports.gaps,
      malformed: this.#reports.malformed,
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
    await Promise.all([this.#feed.drain(closeTimeoutMs), this.#outbox.drain(closeTimeoutMs)])
  }

  /**
   * Lets what was published leave, says goodbye, and releases everything; the process then ends by itself. Calling
   * it again answers the same. `unsettled` is the number of requests and hand-overs given up.
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
    await this.#presence.leave()
    this.#responders.close()
    await this.#drained()
    const unsettled = this.#requests.pending + this.#outbox.unsettled
    await this.#roster.leave((peer) => this.#feed.tails(peer.id), closeTimeoutMs)
    this.#requests.close()
    this.#outbox.close()
    this.#feed.close()
    this.#following.close()
    await this.#subscriptions.close()
    await this.#undoAll()
    if (unsettled > 0)
      this.#reports.warn(
        new SkeinError('CLOSED', `the node was closed with ${unsettled} requests or hand-overs unsettled`),
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

  #assertOpen(what: string): void {
    if (this.#closing !== undefined)
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
  const node = new Node(resolveOptions(options), surroundings)
  await node.start()
  return node
}
