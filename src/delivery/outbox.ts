import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { isSkeinError, SkeinError } from '../errors.ts'
import type { Journal } from '../journal/journal.ts'
import type { Peer } from '../peers/peer.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import { bodyBytes, type Headers, type Payload } from '../protocol/record.ts'
import type { Settlement } from '../protocol/settlement.ts'
import { matches } from '../protocol/topics.ts'
import { Backlog, type Copy, HandedCopy, type Member } from './backlog.ts'
import { type DeadLetter, DeadLetters } from './dead-letters.ts'
import { DedupeIds } from './dedupe-ids.ts'
import type { Handed } from './delivery-lane.ts'
import { Expiries } from './expiries.ts'
import { Groups, statedBy } from './groups.ts'
import { Leases } from './leases.ts'
import { type Buried, Ledger, type Loaded, type Owing, type Recovered } from './ledger.ts'
import { canBeGiven, Membership, type MembershipOptions, nodeOf } from './membership.ts'
import { NumberedItems } from './numbered.ts'
import type { Envelope } from './owed-record.ts'
import { type Ending, Receipt } from './receipt.ts'

const MAX_FOUND = 10_000
const SWEEP_MS = 60_000
/** A dead letter that finds no room in the journal is tried again after this. */
const BURY_AGAIN_MS = 1000
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

export interface OutboxOptions extends Omit<MembershipOptions, 'settled'> {
  readonly clock: Clock
  readonly changes: Changes
  readonly maxAttempts: number
  readonly goneMs: number
  readonly rememberMs: number
  readonly roomTimeoutMs: number
  /** Most that may be owed to one addressee. */
  readonly quotaBytes: number
  readonly maxDeadLetters: number
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
  readonly #membership: Membership
  readonly #leases: Leases
  readonly #dedupeIds = new DedupeIds()
  readonly #expiries: Expiries
  /** What the plain subscriptions of each node want that is there, or is waited for. */
  readonly #plain = new Map<string, readonly string[]>()
  /** To whom a topic goes, until somebody wants something else. */
  #found = new Map<string, readonly Addressee[]>()
  #journal: Journal | undefined
  #durability: 'disk' | 'os' | 'memory' = 'memory'
  #ledger!: Ledger
  #settling: Owing[] = []
  #settleDue: Promise<boolean> | undefined
  #timeOffset = 0
  #cancelSweep: (() => void) | undefined
  #isClosed = false
  #isDraining = false
  /** Messages that are on their way to the dead letters: owed until they are there. */
  #burying = 0

  constructor(options: OutboxOptions) {
    this.#options = options
    const { clock, lanes, rememberMs, fault } = options
    this.#leases = new Leases(clock, lanes)
    this.#membership = new Membership({ ...options, settled: () => void this.#flush() })
    this.#expiries = new Expiries(
      clock,
      (sequence, copies) => void this.#expire(sequence, copies).catch(fault),
    )
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
    this.#leases.start()
    this.#sweep()
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
    const { self, services } = this.#options
    this.#serve(self.id, services(), (addressee, service) => this.#membership.self(addressee, service))
  }

  /** What a peer subscribes to and works on has changed, or it is up. */
  interested(peer: Peer): void {
    if (!canBeGiven(peer)) return
    this.#found = new Map()
    this.#plain.set(nodeOf(peer).name, peer.interest.patterns)
    this.#serve(peer.id, peer.interest.services, (addressee, service) =>
      this.#membership.peer(peer, addressee, service),
    )
    this.#backlogs.get(addresseeKey(nodeOf(peer)))?.join(this.#membership.plain(peer))
    this.#leases.back(peer)
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
  down(peer: Peer, handed: readonly Handed[], mayLive: boolean): void {
    for (const backlog of this.#backlogs.values()) backlog.leave(peer.id)
    this.#leases.down(peer, handed, mayLive)
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
    if (backlog !== undefined) this.#leases.release(peer, backlog)
    this.#giveUp(nodeOf(peer), 'gone')
  }

  /** All that was said in one frame has been applied; resolves when it is recorded. */
  applied(): Promise<boolean> {
    return this.#flush()
  }

  /** Messages that are owed, each once for each addressee. */
  get unsettled(): number {
    let unsettled = this.#burying
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
    this.#cancelSweep?.()
    this.#leases.close()
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
    const again = dedupeId === undefined ? undefined : this.#dedupeIds.find(dedupeId, this.time())
    if (again !== undefined)
      return again.receipt ?? this.#receipts.get(again.sequence) ?? this.#newReceipt(again.sequence, [])
    const bytes = bodyBytes(payload)
    const owed = this.#withinQuota(addressees, bytes, what)
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
    // Counted before it is on the disk: many that are sent at once must not pass the quota together.
    for (const addressee of owed) this.#backlog(addressee).expect(bytes)
    let sequence: number
    let receipt: Receipt
    const all = owed.length === addressees.length ? owed : [...new Set([...owed, ...addressees])]
    try {
      let accepted = this.#accept(envelope, payload)
      if (accepted === undefined) accepted = await this.#acceptLater(envelope, payload, options, what)
      sequence = accepted.sequence
      receipt = this.#newReceipt(sequence, all)
      if (dedupeId !== undefined) this.#dedupeIds.add(dedupeId, sequence, receipt)
      await accepted.durable
    } catch (error) {
      if (dedupeId !== undefined) this.#dedupeIds.delete(dedupeId)
      throw error
    } finally {
      for (const addressee of owed) this.#backlog(addressee).expect(-bytes)
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
    if (expiresAt !== undefined) this.#expiries.watch(copy)
    return copy
  }

  #restore(recovered: Recovered): void {
    for (const { addressee, sequences, bytes } of recovered.owed.values()) {
      this.#backlog(addressee).restore(sequences, bytes)
      if (addressee.kind === 'node') this.#awaitNode(addressee)
    }
    for (const { sequence, at } of recovered.expiries) this.#expiries.add(this.#monotonic(at), sequence)
    for (const { id, sequence } of recovered.dedupe) this.#dedupeIds.add(id, sequence, undefined)
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
      died: (copy, reason, by) => {
        this.#burying++
        void this.#bury(addressee, copy, reason, by)
      },
      fault,
    })
    this.#backlogs.set(key, backlog)
    for (const member of this.#membership.of(addressee)) backlog.join(member)
    return backlog
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
      backlog?.join(member(addressee, service))
    }
    for (const [key, backlog] of this.#backlogs)
      if (backlog.addressee.kind !== 'node' && !stated.has(key)) backlog.leave(id)
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
    if (envelope.expiresAt !== undefined) this.#expiries.forget(copy)
    this.#settling.push({ sequence, index: copy.index })
    this.#tell(copy, ending)
    if (this.#isDraining) this.#options.changes.notify()
  }

  #tell({ loaded, index }: Copy, ending: Ending): void {
    const { sequence, envelope } = loaded
    const receipt = loaded.receipt ?? this.#receipts.get(sequence)
    if (receipt?.end(index, ending)) this.#receipts.delete(sequence)
    const { dedupeId } = envelope
    if (dedupeId !== undefined) this.#dedupeIds.ended(dedupeId, sequence, this.time())
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
    if (loaded.envelope.expiresAt !== undefined) this.#expiries.forget(copy)
    try {
      await this.deadLetters.bury(burial, loaded, { sequence, index })
    } catch (error) {
      // It stays owed in the journal meanwhile, and is given to nobody.
      this.#options.fault(error)
      this.#options.clock.after(BURY_AGAIN_MS, () => {
        if (!this.#isClosed) void this.#bury(addressee, copy, reason, by)
      })
      return
    }
    this.#burying--
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

  async #expire(sequence: number, copies: readonly Copy[]): Promise<void> {
    const [loaded] = await this.#ledger.load([sequence])
    for (const [index, addressee] of loaded?.envelope.addressees.entries() ?? []) {
      const copy = copies.find((each) => each.index === index) ?? this.#copy(loaded!, index, false)
      if (copy.state !== 'settled' && !this.#ledger.failuresOf(sequence, index)?.isSettled) {
        this.#backlogs.get(addresseeKey(addressee))?.drop(copy)
        this.#end(copy, { outcome: 'expired' })
      }
      this.#expiries.forget(copy)
    }
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

  #idOf(boot: string, sequence: number): string {
    return `${this.#options.self.id}.${boot}.owed.${sequence}`
  }

  #monotonic(time: number): number {
    return time - this.#timeOffset
  }

  #sweep(): void {
    this.#dedupeIds.sweep(this.time())
    this.#cancelSweep = this.#options.clock.after(SWEEP_MS, () => this.#sweep())
  }
}

const TRUE = Promise.resolve(true)
