import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { isSkeinError, SkeinError } from '../errors.ts'
import type { Journal } from '../journal/journal.ts'
import type { Peer } from '../peers/peer.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import { receivedLocally } from '../protocol/payload.ts'
import type { Headers, Payload, Received } from '../protocol/record.ts'
import type { Settlement } from '../protocol/settlement.ts'
import { matches } from '../protocol/topics.ts'
import { Backlog, type Copy, HandedCopy, type Member } from './backlog.ts'
import { type DeadLetter, DeadLetters } from './dead-letters.ts'
import type { Handed, Outgoing } from './delivery-lane.ts'
import { Groups, statedBy } from './groups.ts'
import type { Lanes } from './lanes.ts'
import { type Buried, Ledger, type Loaded, type Owing, type Recovered } from './ledger.ts'
import { Message, type Origin } from './message.ts'
import { NumberedItems } from './numbered.ts'
import type { Envelope } from './owed-record.ts'
import { type Ending, Receipt } from './receipt.ts'
import { Timeline } from './timeline.ts'
import { type Settle, verdictOn } from './verdict.ts'

const LEASE_LOOK_MS = 1000
/** A node's plain subscriptions: what one sender may have unsettled there. */
const PLAIN_WINDOW = 512
const PLAIN_WINDOW_BYTES = 4 * 1024 * 1024
const PLAIN_LEASE_MS = 60_000
const DEDUPE_MS = 300_000
const MAX_DEDUPE = 1_000_000
const MAX_FOUND = 10_000
/** How soon a send that finds no room looks again. */
const ROOM_AGAIN_MS = 20

export interface SendOptions {
  headers?: Headers
  key?: string
  /** Not before so many ms have passed. */
  delayMs?: number
  /** It expires after so many ms. */
  ttlMs?: number
  /** A second send of the same id, while the first is owed or within 5 min after, is the first. */
  dedupeId?: string
  /** Most that the send waits for room, in ms. */
  roomTimeoutMs?: number
}

export interface OutboxOptions {
  readonly self: Origin
  readonly clock: Clock
  readonly changes: Changes
  readonly lanes: Lanes
  readonly maxAttempts: number
  readonly goneMs: number
  readonly rememberMs: number
  readonly roomTimeoutMs: number
  /** Most that may be owed to one addressee. */
  readonly quotaBytes: number
  readonly maxDeadLetters: number
  peers(): Iterable<Peer>
  /** What this very node does a part of the work of. */
  services(): Service[]
  /** Gives a message to this very node. */
  deliver(addressee: Addressee, message: Message, record: Received, settle: Settle): void
  dead(letter: DeadLetter): void
  fault(error: unknown): void
}

/** What this node owes at least once: accepted, journaled, handed over, and settled or buried. */
export class Outbox {
  readonly #options: OutboxOptions
  readonly deadLetters: DeadLetters
  readonly #groups: Groups
  readonly #backlogs = new Map<string, Backlog>()
  /** Of messages that are not loaded. */
  readonly #receipts = new Map<number, Receipt>()
  readonly #awaited = new NumberedItems<Receipt>()
  readonly #dedupe = new Map<string, { receipt: Receipt | undefined; sequence: number; until: number }>()
  readonly #expiries: Timeline<number>
  /** Copies of messages that expire, as far as they are loaded. */
  readonly #mortal = new Map<number, Copy[]>()
  /** What the plain subscriptions of each node want that is there, or is waited for. */
  readonly #plain = new Map<string, readonly string[]>()
  /** To whom a topic goes, until somebody wants something else. */
  #found = new Map<string, readonly Addressee[]>()
  /** Peers that vanished without a word, with what they had in hand: it may run there still. */
  readonly #doubts = new Map<string, { peer: Peer; handed: HandedCopy[] }>()
  #journal: Journal | undefined
  #durability: 'disk' | 'os' | 'memory' = 'memory'
  #ledger!: Ledger
  #settling: Owing[] = []
  #settleDue: Promise<boolean> | undefined
  #timeOffset = 0
  #cancelLook: (() => void) | undefined
  #isClosed = false
  #isDraining = false

  constructor(options: OutboxOptions) {
    this.#options = options
    const { clock, rememberMs } = options
    this.#expiries = new Timeline(clock, (sequence) => void this.#expire(sequence).catch(options.fault))
    this.deadLetters = new DeadLetters({
      maxDeadLetters: options.maxDeadLetters,
      idOf: (boot, sequence) => this.#idOf(boot, sequence),
      revive: (letter) => this.#revive(letter),
      died: options.dead,
      warning: options.fault,
    })
    this.#groups = new Groups({
      clock,
      time: () => this.time(),
      rememberMs,
      stated: (group) => this.#stated(group),
      forgotten: (group) => {
        this.#found = new Map()
        this.#giveUp({ kind: 'group', name: group }, 'forgotten')
      },
      warning: options.fault,
    })
  }

  /** Takes the journal and what it holds: what is owed is handed over as members come. */
  async open(journal: Journal, lastWallMs: number): Promise<void> {
    const { clock, fault } = this.#options
    this.#journal = journal
    this.#durability = journal.stats().durability
    this.#timeOffset = Math.max(clock.wall(), lastWallMs) - clock.now()
    this.#ledger = new Ledger(journal, fault)
    const recovered = await this.#ledger.recover()
    this.#restore(recovered)
    this.#groups.restore(this.#ledger, recovered.groups)
    this.#look()
  }

  /** Ms since 1970, which do not jump while the node runs, and do not go back while it was down. */
  time(): number {
    return Math.round(this.#options.clock.now() + this.#timeOffset)
  }

  /** Publishes at least once to all that want it now or are remembered. */
  publish(
    topic: string,
    payload: Payload,
    options: SendOptions & { allowNobody?: boolean; owedTo?: readonly string[] },
    echo: boolean,
  ): Promise<Receipt> {
    const addressees = [...this.#wanting(topic)]
    const { self } = this.#options
    if (echo) addressees.push(nodeOf(self))
    for (const name of options.owedTo ?? [])
      if (!addressees.some((each) => each.kind === 'group' && each.name === name))
        addressees.push({ kind: 'group', name })
    if (addressees.length === 0 && options.allowNobody !== true) {
      throw new SkeinError(
        'NO_SUBSCRIBERS',
        `publish to '${topic}' at least once: nobody subscribes to it; wait for one, name groups in 'owedTo', or set 'allowNobody'`,
      )
    }
    return this.#send(topic, payload, addressees, options, `publish to '${topic}'`)
  }

  /** Gives a queue something to do. */
  push(queue: string, payload: Payload, options: SendOptions): Promise<Receipt> {
    return this.#send(queue, payload, [{ kind: 'queue', name: queue }], options, `push to '${queue}'`)
  }

  get hasGroups(): boolean {
    return this.#groups.size > 0
  }

  /** Live members of groups that want this topic, one of each: for what is published at most once. */
  membersFor(topic: string): { group: string; peer: Peer | undefined }[] {
    const found: { group: string; peer: Peer | undefined }[] = []
    for (const addressee of this.#wanting(topic)) {
      if (addressee.kind !== 'group') continue
      const places = [...this.#backlog(addressee).members].filter(({ member }) =>
        member.patterns?.some((pattern) => matches(pattern, topic)),
      )
      const place = places[Math.floor(this.#options.clock.random() * places.length)]
      if (place === undefined) continue
      const { id } = place.member
      const isSelf = id === this.#options.self.id
      const peer = isSelf ? undefined : [...this.#options.peers()].find((each) => each.id === id)
      if (isSelf || peer !== undefined) found.push({ group: addressee.name, peer })
    }
    return found
  }

  /** This node's own subscriptions have changed. */
  changed(): void {
    this.#found = new Map()
    this.#serve(this.#options.self.id, this.#options.services(), (addressee) => this.#ownMember(addressee))
  }

  /** What a peer subscribes to and works on has changed, or it is up. */
  interested(peer: Peer): void {
    if (!peer.isUp || peer.link === undefined || peer.address === null) return
    this.#found = new Map()
    this.#plain.set(nodeOf(peer).name, peer.interest.patterns)
    this.#serve(peer.id, peer.interest.services, (addressee, service) =>
      this.#peerMember(peer, addressee, service),
    )
    const own = this.#backlogs.get(addresseeKey(nodeOf(peer)))
    own?.join(this.#plainMember(peer))
    const doubt = this.#doubts.get(peer.id)
    if (doubt === undefined) return
    this.#doubts.delete(peer.id)
    for (const handed of doubt.handed)
      if (doubt.peer.boot === peer.boot) handed.backlog.rehand(handed)
      else handed.backlog.lost(handed)
  }

  withdrawn(group: string, pattern: string): void {
    this.#found = new Map()
    this.#groups.withdrawn(group, pattern)
  }

  /** A member has handled this before it knew the present numbers. When this resolves, it counts as settled here. */
  async handledBefore(
    peer: Peer,
    { boot, sequence, addressee }: Extract<Settlement, { kind: 'handled-before' }>,
  ): Promise<void> {
    const of = addressee.kind === 'node' ? nodeOf(peer) : addressee
    const key = addresseeKey(of)
    const backlog = this.#backlogs.get(key)
    if (backlog === undefined) return
    backlog.handledBefore(boot, sequence, peer.id)
    const [loaded] = await this.#ledger.load([sequence])
    if (!backlog.takeHandledBefore(sequence) || loaded?.envelope.boot !== boot) return
    const index = loaded.envelope.addressees.findIndex((each) => addresseeKey(each) === key)
    if (index === -1 || this.#ledger.failuresOf(sequence, index)?.isSettled) return
    const isIt = (each: Handed): each is HandedCopy =>
      each instanceof HandedCopy && each.backlog === backlog && each.copy.loaded.sequence === sequence
    const inHand = this.#options.lanes.handedTo(peer).find(isIt)
    let copy = inHand?.copy ?? backlog.find(sequence)
    if (copy === undefined && backlog.isUnloaded(sequence)) copy = this.#copy(loaded, index, true)
    // Where another member has it in hand by now, that one's word counts.
    if (copy === undefined || copy.state === 'settled') return
    backlog.drop(copy)
    this.#end(copy, { outcome: 'handled', by: peer.id })
  }

  /** The peer is lost. Whether it has died, or may still run what it holds, shows how. */
  down(peer: Peer, handed: readonly Handed[], isSilent: boolean): void {
    for (const backlog of this.#backlogs.values()) backlog.leave(peer.id)
    const copies = handed.filter((each) => each instanceof HandedCopy)
    const before = this.#doubts.get(peer.id)?.handed ?? []
    this.#doubts.delete(peer.id)
    if (isSilent && !this.#isClosed) {
      this.#doubts.set(peer.id, { peer, handed: [...before, ...copies] })
      return
    }
    for (const each of [...before, ...copies]) each.backlog.lost(each)
  }

  /** It said goodbye: nothing that it had in hand is its fault, and its own subscriptions are over. */
  left(peer: Peer, handed: readonly Handed[]): void {
    for (const backlog of this.#backlogs.values()) backlog.leave(peer.id)
    for (const each of handed) if (each instanceof HandedCopy) each.backlog.rehand(each)
    this.gone(peer)
  }

  /** It is not waited for any more, or has come back under another boot. */
  gone(peer: Peer): void {
    this.#plain.delete(nodeOf(peer).name)
    this.#found = new Map()
    const backlog = this.#backlogs.get(addresseeKey(nodeOf(peer)))
    for (const handed of this.#doubts.get(peer.id)?.handed ?? [])
      if (handed.backlog === backlog) backlog.lost(handed)
    this.#giveUp(nodeOf(peer), 'gone')
  }

  /** All that was said in one frame has been applied; resolves when it is recorded. */
  applied(): Promise<boolean> {
    return this.#flush()
  }

  /** Messages that are owed, each once for each addressee. */
  get unsettled(): number {
    let unsettled = 0
    for (const backlog of this.#backlogs.values()) unsettled += backlog.size
    return unsettled
  }

  /** What is owed is lost when this node closes. */
  get isVolatile(): boolean {
    return this.#durability === 'memory'
  }

  /** Resolves when members have settled what they hold, and all that only this process keeps; at the latest after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const isDone = (): boolean => {
      for (const backlog of this.#backlogs.values())
        if (backlog.isBusy || (this.isVolatile && backlog.size > 0 && !backlog.members.next().done))
          return false
      return true
    }
    this.#isDraining = true
    await this.#options.changes.until(isDone, timeoutMs)
    this.#isDraining = false
  }

  /** Records what was settled. Receipts that are open end as `closed`. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#cancelLook?.()
    this.#groups.close()
    this.#expiries.close()
    for (const backlog of this.#backlogs.values()) backlog.close()
    if (this.#journal !== undefined) await this.#flush()
    for (const receipt of this.#awaited) receipt.close()
    await this.#journal?.close()
  }

  async #send(
    topic: string,
    payload: Payload,
    addressees: readonly Addressee[],
    options: SendOptions,
    what: string,
  ): Promise<Receipt> {
    const { key, delayMs, ttlMs, dedupeId } = options
    const again = dedupeId === undefined ? undefined : this.#dedupe.get(dedupeId)
    if (again !== undefined && again.until > this.time())
      return again.receipt ?? this.#receiptOf(again.sequence)
    const owed = this.#withinQuota(addressees, payload.sizeBytes, what)
    const now = this.time()
    const envelope: Envelope = {
      boot: this.#options.self.boot,
      acceptedAt: now,
      topic,
      key,
      dedupeId,
      notBefore: delayMs === undefined ? undefined : now + Math.ceil(delayMs),
      expiresAt: ttlMs === undefined ? undefined : now + Math.ceil(ttlMs),
      retryOf: undefined,
      addressees: owed,
    }
    let accepted = this.#accept(envelope, payload)
    if (accepted === undefined) accepted = await this.#acceptLater(envelope, payload, options, what)
    const { sequence, durable } = accepted
    const all = owed.length === addressees.length ? owed : [...new Set([...owed, ...addressees])]
    const receipt = this.#newReceipt(sequence, all)
    if (dedupeId !== undefined) this.#remember(dedupeId, sequence, receipt)
    try {
      await durable
    } catch (error) {
      if (dedupeId !== undefined) this.#dedupe.delete(dedupeId)
      throw error
    }
    for (let index = owed.length; index < all.length; index++) receipt.end(index, { outcome: 'refused' })
    this.#distribute({ sequence, envelope, payload, receipt })
    if (owed.length === 0) void this.#ledger.settle([{ sequence, index: 0 }])
    return receipt
  }

  /** Those that may be owed more. @throws SkeinError OUTBOX_FULL if there is none */
  #withinQuota(addressees: readonly Addressee[], bytes: number, what: string): readonly Addressee[] {
    let isRefused = false
    for (const addressee of addressees) isRefused ||= this.#isOverQuota(addressee, bytes)
    if (!isRefused) return addressees
    const owed = addressees.filter((addressee) => !this.#isOverQuota(addressee, bytes))
    if (owed.length > 0) return owed
    const who = addressees.length === 1 ? 'its addressee' : 'every addressee'
    throw new SkeinError(
      'OUTBOX_FULL',
      `${what}: ${who} is owed ${this.#options.quotaBytes} bytes already; wait until some are handled, or raise limits.quotaBytes`,
    )
  }

  /** Undefined where too much waits for the disk already. */
  #accept(envelope: Envelope, payload: Payload): { sequence: number; durable: Promise<void> } | undefined {
    try {
      return this.#ledger.accept(envelope, payload)
    } catch (error) {
      if (isSkeinError(error, 'OUTBOX_FULL')) return undefined
      throw error
    }
  }

  /** Waits until less waits for the disk. */
  async #acceptLater(
    envelope: Envelope,
    payload: Payload,
    options: SendOptions,
    what: string,
  ): Promise<{ sequence: number; durable: Promise<void> }> {
    const { clock, changes } = this.#options
    const limitMs = options.roomTimeoutMs ?? this.#options.roomTimeoutMs
    const until = clock.now() + limitMs
    while (clock.now() < until) {
      await changes.next(Math.max(1, Math.min(ROOM_AGAIN_MS, until - clock.now())))
      if (this.#isClosed) throw new SkeinError('CLOSED', `${what}: the node is closed`, { mayHaveRun: false })
      const accepted = this.#accept(envelope, payload)
      if (accepted !== undefined) return accepted
    }
    throw new SkeinError(
      'OUTBOX_FULL',
      `${what}: the disk has taken nothing more for ${limitMs} ms; send less at once, or allow more roomTimeoutMs`,
    )
  }

  #newReceipt(sequence: number, addressees: readonly Addressee[]): Receipt {
    return new Receipt(
      this.#idOf(this.#options.self.boot, sequence),
      addressees,
      this.#durability,
      this.#awaited,
    )
  }

  #distribute(loaded: Loaded): void {
    const { sequence, envelope } = loaded
    if (envelope.expiresAt !== undefined) this.#expiries.add(this.#monotonic(envelope.expiresAt), sequence)
    for (const [index, addressee] of envelope.addressees.entries()) {
      this.#backlog(addressee).add(this.#copy(loaded, index, false))
    }
  }

  #copy(loaded: Loaded, index: number, redelivered: boolean): Copy {
    const part = this.#ledger.failuresOf(loaded.sequence, index)
    const { notBefore, expiresAt } = loaded.envelope
    const copy: Copy = {
      loaded,
      index,
      dueAt: notBefore === undefined ? 0 : this.#monotonic(notBefore),
      failures: part?.failures ?? 0,
      lastError: part?.lastError ?? '',
      redelivered,
      isSuspect: false,
      state: 'waiting',
      handed: undefined,
      heldBy: undefined,
    }
    if (expiresAt !== undefined) {
      const copies = this.#mortal.get(loaded.sequence)
      if (copies === undefined) this.#mortal.set(loaded.sequence, [copy])
      else copies.push(copy)
    }
    return copy
  }

  #restore(recovered: Recovered): void {
    for (const { addressee, sequences, bytes } of recovered.owed.values()) {
      this.#backlog(addressee).restore(sequences, bytes)
      if (addressee.kind === 'node') this.#awaitNode(addressee)
    }
    for (const { sequence, at } of recovered.expiries) this.#expiries.add(this.#monotonic(at), sequence)
    for (const { id, sequence } of recovered.dedupe) this.#remember(id, sequence, undefined)
    this.deadLetters.restore(this.#ledger, recovered.dead)
  }

  /** A node that was owed something before this one was started is given the time to show up. */
  #awaitNode(addressee: Addressee): void {
    const { clock, goneMs, peers } = this.#options
    clock.after(goneMs, () => {
      for (const peer of peers()) if (nodeOf(peer).name === addressee.name) return
      this.#giveUp(addressee, 'gone')
    })
  }

  #backlog(addressee: Addressee): Backlog {
    const key = addresseeKey(addressee)
    let backlog = this.#backlogs.get(key)
    if (backlog !== undefined) return backlog
    const { clock, maxAttempts, fault } = this.#options
    backlog = new Backlog({
      addressee,
      clock,
      maxAttempts,
      load: (sequences) => this.#load(addressee, sequences),
      unloaded: ({ loaded }) => {
        if (loaded.receipt !== undefined) this.#receipts.set(loaded.sequence, loaded.receipt)
      },
      handled: (copy, by) => this.#end(copy, { outcome: 'handled', by }),
      failed: (copy) => this.#ledger.failed(copy.loaded.sequence, copy.index, copy.failures, copy.lastError),
      died: (copy, reason, by) => void this.#bury(addressee, copy, reason, by).catch(fault),
      fault,
    })
    this.#backlogs.set(key, backlog)
    this.#joinAll(addressee, backlog)
    return backlog
  }

  /** Whoever is there already and does a part of its work. */
  #joinAll(addressee: Addressee, backlog: Backlog): void {
    const { self, peers, services } = this.#options
    if (addressee.kind === 'node') {
      if (addressee.name === self.id + self.boot) backlog.join(this.#ownMember(addressee))
      for (const peer of peers())
        if (peer.isUp && nodeOf(peer).name === addressee.name) backlog.join(this.#plainMember(peer))
      return
    }
    const isMine = ({ kind, name }: Service): boolean => kind === addressee.kind && name === addressee.name
    const own = services().find(isMine)
    if (own !== undefined) backlog.join({ ...this.#ownMember(addressee), ...windowOf(own) })
    for (const peer of peers()) {
      const service = peer.isUp && peer.link !== undefined ? peer.interest.services.find(isMine) : undefined
      if (service !== undefined) backlog.join(this.#peerMember(peer, addressee, service))
    }
  }

  #serve(
    id: string,
    services: readonly Service[],
    member: (addressee: Addressee, service: Service) => Member,
  ): void {
    const stated = new Set<string>()
    for (const service of services) {
      const { kind, name } = service
      const addressee: Addressee = { kind, name }
      stated.add(addresseeKey(addressee))
      if (kind === 'group') this.#groups.seen(name, service.patterns)
      // Whoever is owed nothing needs no backlog yet; one that is made later looks who is there.
      const backlog = this.#backlogs.get(addresseeKey(addressee))
      backlog?.join({ ...member(addressee, service), ...windowOf(service) })
    }
    for (const [key, backlog] of this.#backlogs)
      if (backlog.addressee.kind !== 'node' && !stated.has(key)) backlog.leave(id)
  }

  #peerMember(peer: Peer, addressee: Addressee, service: Service): Member {
    const { lanes } = this.#options
    return {
      id: peer.id,
      ...windowOf(service),
      hasRoom: (bytes) => lanes.hasRoom(peer, bytes),
      give: (handed) => lanes.push(peer, outgoingOf(addressee, handed), handed.copy.loaded.payload, handed),
    }
  }

  #plainMember(peer: Peer): Member {
    return this.#peerMember(peer, nodeOf(peer), {
      ...{ kind: 'queue', name: '', patterns: [], leaseMs: PLAIN_LEASE_MS },
      ...{ messages: PLAIN_WINDOW, bytes: PLAIN_WINDOW_BYTES },
    })
  }

  #ownMember(addressee: Addressee): Member {
    const { self, deliver } = this.#options
    return {
      ...{ id: self.id, patterns: undefined, messages: PLAIN_WINDOW, bytes: PLAIN_WINDOW_BYTES },
      leaseMs: Number.POSITIVE_INFINITY,
      hasRoom: () => true,
      give: (handed) => {
        const { loaded } = handed.copy
        const outgoing = outgoingOf(addressee, handed)
        const origin = { id: self.id, boot: loaded.envelope.boot }
        const record = receivedLocally(loaded.payload)
        const message = new Message(outgoing.topic, origin, 'owed', loaded.sequence, record, outgoing)
        const settle: Settle = (error) => {
          const verdict = error === undefined ? undefined : verdictOn(0, error)
          handed.settled(verdict as Parameters<HandedCopy['settled']>[0])
          void this.#flush()
        }
        // Not within the caller's turn: a handler never runs inside push().
        queueMicrotask(() => deliver(addressee, message, record, settle))
      },
    }
  }

  #wanting(topic: string): readonly Addressee[] {
    const known = this.#found.get(topic)
    if (known !== undefined) return known
    const found: Addressee[] = []
    for (const [name, patterns] of this.#plain)
      if (patterns.some((pattern) => matches(pattern, topic))) found.push({ kind: 'node', name })
    for (const name of this.#groups.wanting(topic)) found.push({ kind: 'group', name })
    if (this.#found.size >= MAX_FOUND) this.#found = new Map()
    this.#found.set(topic, found)
    return found
  }

  #stated(group: string): Set<string> {
    const patterns = statedBy(this.#options.peers(), group)
    for (const service of this.#options.services())
      if (service.kind === 'group' && service.name === group)
        for (const pattern of service.patterns) patterns.add(pattern)
    return patterns
  }

  async #load(addressee: Addressee, sequences: readonly number[]): Promise<(Copy | undefined)[]> {
    const key = addresseeKey(addressee)
    const all = await this.#ledger.load(sequences)
    return all.map((loaded, at) => {
      if (loaded === undefined) {
        // Damaged or settled otherwise: the journal has said so.
        void this.#ledger.settle([{ sequence: sequences[at]!, index: 0 }])
        return undefined
      }
      const index = loaded.envelope.addressees.findIndex((each) => addresseeKey(each) === key)
      return this.#copy(loaded, index, loaded.envelope.boot !== this.#options.self.boot)
    })
  }

  #isOverQuota(addressee: Addressee, bytes: number): boolean {
    const owed = this.#backlogs.get(addresseeKey(addressee))?.bytes ?? 0
    return owed > 0 && owed + bytes > this.#options.quotaBytes
  }

  #end(copy: Copy, ending: Ending): void {
    const { sequence, envelope } = copy.loaded
    if (envelope.expiresAt !== undefined) this.#unlist(copy)
    this.#settling.push({ sequence, index: copy.index })
    this.#tell(copy, ending)
    if (this.#isDraining) this.#options.changes.notify()
  }

  #unlist(copy: Copy): void {
    const { sequence } = copy.loaded
    const left = this.#mortal.get(sequence)?.filter((each) => each !== copy) ?? []
    if (left.length > 0) this.#mortal.set(sequence, left)
    else this.#mortal.delete(sequence)
  }

  #tell({ loaded, index }: Copy, ending: Ending): void {
    const { sequence, envelope } = loaded
    const receipt = loaded.receipt ?? this.#receipts.get(sequence)
    if (receipt?.end(index, ending)) this.#receipts.delete(sequence)
    const { dedupeId } = envelope
    const dedupe = dedupeId === undefined ? undefined : this.#dedupe.get(dedupeId)
    if (dedupe?.sequence === sequence) dedupe.until = this.time() + DEDUPE_MS
  }

  /** Records what was settled since, all at once. */
  #flush(): Promise<boolean> {
    if (this.#settling.length === 0) return this.#settleDue ?? TRUE
    const parts = this.#settling
    this.#settling = []
    const before = this.#settleDue ?? TRUE
    const recorded = this.#ledger.settle(parts)
    const due = Promise.all([before, recorded]).then((all) => all.every(Boolean))
    this.#settleDue = due
    void due.finally(() => {
      if (this.#settleDue === due) this.#settleDue = undefined
    })
    return due
  }

  async #bury(addressee: Addressee, copy: Copy, reason: 'attempts' | 'rejected', by: string): Promise<void> {
    const { loaded, index, failures, lastError } = copy
    const { sequence } = loaded
    const burial = { diedAt: this.time(), reason, attempts: failures, lastError, sequence, addressee }
    await this.deadLetters.bury(burial, loaded, { sequence, index })
    this.#tell(copy, { outcome: 'dead', by, error: lastError })
  }

  /** A dead letter is owed again, as a new message. */
  async #revive({ sequence: letter, burial, envelope, payload }: Buried): Promise<Receipt> {
    const renewed: Envelope = {
      ...envelope,
      boot: this.#options.self.boot,
      acceptedAt: this.time(),
      notBefore: undefined,
      expiresAt: undefined,
      dedupeId: undefined,
      retryOf: this.#idOf(envelope.boot, burial.sequence),
      addressees: [burial.addressee],
    }
    const { sequence, durable } = this.#ledger.revive(letter, renewed, payload)
    await durable
    const receipt = this.#newReceipt(sequence, renewed.addressees)
    this.#distribute({ sequence, envelope: renewed, payload, receipt })
    return receipt
  }

  async #expire(sequence: number): Promise<void> {
    const copies = this.#mortal.get(sequence) ?? []
    this.#mortal.delete(sequence)
    const [loaded] = await this.#ledger.load([sequence])
    for (const [index, addressee] of loaded?.envelope.addressees.entries() ?? []) {
      const copy = copies.find((each) => each.index === index) ?? this.#copy(loaded!, index, false)
      if (copy.state === 'settled' || this.#ledger.failuresOf(sequence, index)?.isSettled) continue
      this.#backlogs.get(addresseeKey(addressee))?.drop(copy)
      this.#end(copy, { outcome: 'expired' })
    }
    this.#mortal.delete(sequence)
    await this.#flush()
  }

  /** Nothing is owed to it any more. */
  #giveUp(addressee: Addressee, outcome: 'gone' | 'forgotten'): void {
    const key = addresseeKey(addressee)
    const backlog = this.#backlogs.get(key)
    if (backlog === undefined) return
    this.#backlogs.delete(key)
    const { copies, unloaded } = backlog.clear()
    for (const copy of copies) this.#end(copy, { outcome })
    void this.#giveUpUnloaded(addressee, unloaded, outcome).catch(this.#options.fault)
  }

  async #giveUpUnloaded(
    addressee: Addressee,
    sequences: readonly number[],
    outcome: 'gone' | 'forgotten',
  ): Promise<void> {
    for (let from = 0; from < sequences.length; from += 256) {
      const copies = await this.#load(addressee, sequences.slice(from, from + 256))
      for (const copy of copies) if (copy !== undefined) this.#end(copy, { outcome })
      await this.#flush()
    }
    await this.#flush()
  }

  #remember(id: string, sequence: number, receipt: Receipt | undefined): void {
    if (this.#dedupe.size >= MAX_DEDUPE) this.#dedupe.delete(this.#dedupe.keys().next().value!)
    this.#dedupe.set(id, { receipt, sequence, until: Number.POSITIVE_INFINITY })
  }

  #receiptOf(sequence: number): Receipt {
    return this.#receipts.get(sequence) ?? this.#newReceipt(sequence, [])
  }

  #idOf(boot: string, sequence: number): string {
    return `${this.#options.self.id}.${boot}.owed.${sequence}`
  }

  #monotonic(time: number): number {
    return time - this.#timeOffset
  }

  /** Leases end where there is no sign of life for too long: the message goes to another member. */
  #look(): void {
    const { clock, lanes } = this.#options
    const now = clock.now()
    const look = (handed: HandedCopy, peer: Peer): void => {
      if (now - peer.heardAt <= handed.member.member.leaseMs) return
      // It would be the one with the least in hand: as long as nothing is heard of it, it gets nothing.
      handed.member.busyUntil = now + 2 * LEASE_LOOK_MS
      if (!handed.isOver) handed.backlog.lost(handed)
    }
    for (const peer of lanes.peers())
      for (const handed of lanes.handedTo(peer)) if (handed instanceof HandedCopy) look(handed, peer)
    for (const { peer, handed } of this.#doubts.values()) for (const each of handed) look(each, peer)
    for (const [id, { handed }] of this.#doubts)
      if (handed.every((each) => each.isOver)) this.#doubts.delete(id)
    for (const [id, { until }] of this.#dedupe) {
      if (until > this.time()) continue
      this.#dedupe.delete(id)
    }
    this.#cancelLook = clock.after(LEASE_LOOK_MS, () => this.#look())
  }
}

const TRUE = Promise.resolve(true)

/** A node's plain subscriptions, in this boot of it. */
const nodeOf = ({ id, boot }: Origin): Addressee => ({ kind: 'node', name: id + boot })

const windowOf = ({ kind, patterns, messages, bytes, leaseMs }: Service) => ({
  patterns: kind === 'group' ? patterns : undefined,
  ...{ messages, bytes, leaseMs },
})

const outgoingOf = ({ kind, name }: Addressee, { copy }: HandedCopy): Outgoing => {
  const { sequence, envelope } = copy.loaded
  return {
    kind,
    group: kind === 'group' ? name : '',
    topic: envelope.topic,
    key: envelope.key,
    id: { boot: envelope.boot, sequence },
    isOwed: true,
    attempt: copy.failures + 1,
    redelivered: copy.redelivered,
  }
}
