import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Journal } from '../journal/journal.ts'
import type { Peer } from '../peers/peer.ts'
import { type Addressee, addresseeKey } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import type { Payload } from '../protocol/record.ts'
import type { HandledBefore } from '../protocol/settlement.ts'
import { Admission, type SendOptions } from './admission.ts'
import { Audience } from './audience.ts'
import { Backlog } from './backlog.ts'
import { type DeadLetter, DeadLetters } from './dead-letters.ts'
import { type Dedupe, DedupeIds } from './dedupe-ids.ts'
import type { Handed } from './delivery-lane.ts'
import { Expiries } from './expiries.ts'
import { Leases } from './leases.ts'
import { type Buried, Ledger, type Loaded, type Owing, type Recovered } from './ledger.ts'
import { LookUps } from './look-ups.ts'
import { canBeGiven, Membership, type MembershipOptions, nodeOf } from './membership.ts'
import type { Missed } from './missed.ts'
import { type DeathReason, dedupeOf, type Envelope } from './owed-record.ts'
import { Copy, HandedCopy, type Member } from './places.ts'
import { type Ending, type Receipt, ReceiptBook } from './receipt.ts'

const SWEEP_MS = 60_000

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
  readonly missed: Missed
  dead(letter: DeadLetter): void
  fault(error: unknown): void
}

/** What this node owes at least once: accepted, journaled, handed over, and settled or buried. */
export class Outbox {
  readonly #options: OutboxOptions
  readonly deadLetters: DeadLetters
  readonly #audience: Audience
  readonly #admission: Admission
  readonly #membership: Membership
  readonly #leases: Leases
  readonly #expiries: Expiries
  readonly #lookUps: LookUps
  readonly #dedupeIds: DedupeIds
  readonly #book: ReceiptBook
  /** Of messages that are not loaded. */
  readonly #receipts = new Map<number, Receipt>()
  readonly #backlogs = new Map<string, Backlog>()
  #journal: Journal | undefined
  #ledger!: Ledger
  /** Settled, and on its way to the ledger. */
  #settling: Owing[] = []
  #settleDue: Promise<boolean> | undefined
  #timeOffset = 0
  #cancelSweep: (() => void) | undefined
  /** For nodes that were owed something before this one was started. */
  readonly #cancelWaits: (() => void)[] = []
  #isDraining = false

  constructor(options: OutboxOptions) {
    this.#options = options
    const { self, clock, lanes, dead, fault } = options
    const time = (): number => this.time()
    this.#book = new ReceiptBook(self.id, self.boot)
    this.#dedupeIds = new DedupeIds({ time, forget: (record) => void this.#ledger.drop(record) })
    this.#admission = new Admission({
      ...options,
      time,
      book: this.#book,
      dedupeIds: this.#dedupeIds,
      sentBefore: (dedupe) => this.#receiptOf(dedupe),
      accepted: (message, to) => this.#distribute(message, to.backlogs),
    })
    this.#leases = new Leases(clock, lanes)
    this.#membership = new Membership({ ...options, settled: () => void this.#flush() })
    this.#expiries = new Expiries(
      clock,
      (sequence, copies) => void this.#expire(sequence, copies).catch(fault),
    )
    this.#lookUps = new LookUps({
      clock,
      backlogOf: (addressee) => this.#backlogs.get(addresseeKey(addressee)),
      load: (sequences) => this.#ledger.load(sequences),
      found: (peer, loaded, backlog) => this.#wasHandled(peer, loaded, backlog),
      fault,
    })
    this.#audience = new Audience({
      ...options,
      time,
      backlogOf: (addressee) => this.#backlog(addressee),
      forgotten: (group) => this.#giveUp(group, 'forgotten'),
    })
    this.deadLetters = new DeadLetters({
      clock,
      time,
      maxDeadLetters: options.maxDeadLetters,
      idOf: (boot, sequence) => this.#book.idOf(boot, sequence),
      revive: (letter) => this.#revive(letter),
      died: dead,
      fault,
    })
  }

  /** Takes the journal and what it holds: what is owed is handed over as members come. */
  async open(journal: Journal, lastWallMs: number): Promise<void> {
    const { clock, fault } = this.#options
    this.#journal = journal
    this.#book.durability = journal.stats().durability
    this.#timeOffset = Math.max(clock.wall(), lastWallMs) - clock.now()
    this.#ledger = new Ledger(journal, fault, this.#dedupeIds)
    this.#admission.open(this.#ledger)
    const recovered = await this.#ledger.recover()
    this.#restore(recovered)
    this.#audience.restore(this.#ledger, recovered.groups)
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
    const others: Addressee[] = (options.owedTo ?? []).map((name) => ({ kind: 'group', name }))
    if (echo) others.push(nodeOf(this.#options.self))
    const to = this.#audience.with(this.#audience.wanting(topic), others)
    if (to.addressees.length === 0 && options.allowNobody !== true) {
      throw new SkeinError(
        'NO_SUBSCRIBERS',
        `publish to '${topic}' at least once: nobody subscribes to it; wait for one, name groups in 'owedTo', or set 'allowNobody'`,
      )
    }
    return this.#admission.send(topic, payload, to, options, 'publish')
  }

  /** Gives a queue something to do. */
  push(queue: string, payload: Payload, options: SendOptions): Promise<Receipt> {
    return this.#admission.send(queue, payload, this.#audience.queue(queue), options, 'push')
  }

  /** Whether something was sent there before, so that its name is known to be a good one. */
  knows(topic: string): boolean {
    return this.#audience.knows(topic)
  }

  get hasGroups(): boolean {
    return this.#audience.hasGroups
  }

  /** Live members of groups that want this topic, one of each: for what is published at most once. */
  membersFor(topic: string): { group: string; peer: Peer | undefined }[] {
    return this.#audience.membersFor(topic)
  }

  /** This node's own subscriptions have changed. */
  changed(): void {
    this.#audience.changed()
    const { self, services } = this.#options
    this.#serve(self.id, services(), (addressee, service) => this.#membership.self(addressee, service))
  }

  /** What a peer subscribes to and works on has changed, or it is up. */
  interested(peer: Peer): void {
    if (!canBeGiven(peer)) return
    this.#audience.interested(peer)
    this.#options.missed.tell(peer)
    this.#serve(peer.id, peer.interest.services, (_, service) => this.#membership.peer(peer, service))
    this.#backlogs.get(addresseeKey(nodeOf(peer)))?.join(this.#membership.plain(peer))
    this.#leases.back(peer)
  }

  withdrawn(group: string, pattern: string): void {
    this.#audience.withdrawn(group, pattern)
  }

  /**
   * A member has handled these before it knew the present numbers. They are looked up `after` those before them; when
   * this resolves, they count as settled here.
   */
  handledBefore(
    peer: Peer,
    said: readonly HandledBefore[],
    after: Promise<unknown> | undefined,
  ): Promise<void> {
    return this.#lookUps.add(peer, said, after)
  }

  /** The peer is lost. Whether it has died, or may still run what it holds, shows how. */
  down(peer: Peer, handed: readonly Handed[], mayLive: boolean): void {
    for (const backlog of this.#backlogs.values()) backlog.leave(peer.id)
    this.#leases.down(peer, handed, mayLive)
  }

  /** It said goodbye: nothing that it had in hand is its fault, and its own subscriptions are over. */
  left(peer: Peer, handed: readonly Handed[]): void {
    for (const backlog of this.#backlogs.values()) backlog.leave(peer.id)
    for (const each of handed) if (each instanceof HandedCopy) each.giver.rehand(each)
    this.#gone(peer, false)
  }

  /** It is not waited for any more, or has come back under another boot; if this one returns, it is told. */
  gone(peer: Peer): void {
    this.#gone(peer, true)
  }

  /** All that was said in one frame has been applied; resolves when it is recorded. */
  applied(): Promise<boolean> {
    return this.#flush()
  }

  /** Messages that are owed, each once for each addressee. */
  get unsettled(): number {
    let unsettled = this.deadLetters.burying
    for (const backlog of this.#backlogs.values()) unsettled += backlog.size
    return unsettled
  }

  /** What is owed is lost when this node closes. */
  get isVolatile(): boolean {
    return this.#book.durability === 'memory'
  }

  /** Resolves when members have settled what they hold, and all that only this process keeps; at the latest after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const isDone = (): boolean => {
      for (const backlog of this.#backlogs.values())
        if (backlog.isBusy || (this.isVolatile && backlog.size > 0 && backlog.members.size > 0)) return false
      return true
    }
    this.#isDraining = true
    await this.#options.changes.until(isDone, timeoutMs)
    this.#isDraining = false
  }

  /** Records what was settled. Receipts that are open end as `closed`. */
  async close(): Promise<void> {
    this.#admission.close()
    this.#cancelSweep?.()
    for (const cancel of this.#cancelWaits) cancel()
    this.#leases.close()
    this.#audience.close()
    this.#expiries.close()
    this.#lookUps.close()
    this.deadLetters.close()
    for (const backlog of this.#backlogs.values()) backlog.close()
    if (this.#journal !== undefined) await this.#flush()
    this.#book.close()
    await this.#journal?.close()
  }

  /** Of what an earlier boot has sent. */
  async #receiptOf(dedupe: Dedupe): Promise<Receipt> {
    const { boot, sequence } = dedupe
    const [loaded] = await this.#ledger.load([sequence])
    const isOwed = loaded?.envelope.boot === boot && dedupe.until === Number.POSITIVE_INFINITY
    const owed = isOwed ? loaded.envelope.addressees : NOBODY
    const receipt = this.#book.receipt(sequence, owed, boot)
    for (const index of owed.keys())
      if (this.#ledger.failuresOf(sequence, index)?.isSettled) receipt.end(index, { outcome: 'closed' })
    if (owed.length > 0) this.#receipts.set(sequence, receipt)
    return receipt
  }

  /** A peer says so by its id. */
  #wasHandled(peer: Peer, loaded: Loaded, backlog: Backlog): void {
    const { sequence, envelope } = loaded
    const key = addresseeKey(backlog.addressee)
    const index = envelope.addressees.findIndex((each) => addresseeKey(each) === key)
    if (index === -1 || this.#ledger.failuresOf(sequence, index)?.isSettled) return
    const isIt = (each: Handed): each is HandedCopy =>
      each instanceof HandedCopy && each.giver === backlog && each.copy.loaded.sequence === sequence
    const inHand = this.#options.lanes.handedTo(peer).find(isIt)
    let copy = inHand?.copy ?? backlog.find(sequence)
    if (copy === undefined && backlog.isUnloaded(sequence)) copy = this.#copy(loaded, index, true)
    if (copy?.state === 'settled') return
    if (copy === undefined) {
      // Another member has it in hand by now. Whatever becomes of it there, nobody is given it again, nor after a restart.
      backlog.handledBefore(envelope.boot, sequence, peer.id)
      this.#settling.push({ sequence, index, dedupe: dedupeOf(envelope, sequence) })
      return
    }
    backlog.drop(copy)
    this.#end(copy, { outcome: 'handled', by: peer.id })
  }

  #distribute(loaded: Loaded, backlogs: readonly Backlog[]): void {
    const { sequence, envelope } = loaded
    if (envelope.expiresAt !== undefined) this.#expiries.add(this.#monotonic(envelope.expiresAt), sequence)
    for (let index = 0; index < backlogs.length; index++) {
      const backlog = backlogs[index]!
      const copy = this.#copy(loaded, index, false)
      if (backlog.givenUp === undefined) backlog.add(copy)
      // While it was on its way to the disk.
      else this.#end(copy, { outcome: backlog.givenUp })
    }
  }

  #copy(loaded: Loaded, index: number, redelivered: boolean): Copy {
    const part = this.#ledger.failuresOf(loaded.sequence, index)
    const { notBefore, expiresAt } = loaded.envelope
    const dueAt = notBefore === undefined ? 0 : this.#monotonic(notBefore)
    const copy = new Copy(loaded, index, dueAt, part?.failures ?? 0, part?.lastError ?? '', redelivered)
    if (expiresAt !== undefined) this.#expiries.watch(copy)
    return copy
  }

  #restore(recovered: Recovered): void {
    for (const { addressee, sequences, bytes } of recovered.owed.values()) {
      this.#backlog(addressee).restore(sequences, bytes)
      if (addressee.kind === 'node') this.#awaitNode(addressee)
    }
    for (const { sequence, at } of recovered.expiries) this.#expiries.add(this.#monotonic(at), sequence)
    for (const { sent, record } of recovered.dedupe) this.#dedupeIds.restore(sent, record)
    this.deadLetters.restore(this.#ledger, recovered.dead)
  }

  /** A node that was owed something before this one was started is given the time to show up. */
  #awaitNode(addressee: Addressee): void {
    const { clock, goneMs, peers } = this.#options
    const cancel = clock.after(goneMs, () => {
      for (const peer of peers()) if (nodeOf(peer).name === addressee.name) return
      this.#giveUp(addressee, 'gone', true)
    })
    this.#cancelWaits.push(cancel)
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
      unloaded: (copy) => this.#unload(copy),
      handled: (copy, ending) => this.#end(copy, ending),
      failed: (copy) => this.#ledger.failed(copy.loaded.sequence, copy.index, copy.failures, copy.lastError),
      died: (copy, reason, by) => void this.#bury(addressee, copy, reason, by),
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
      if (kind === 'group') this.#audience.seen(name, service.patterns)
      // Whoever is owed nothing needs no backlog yet; one that is made later looks who is there.
      const backlog = this.#backlogs.get(addresseeKey(addressee))
      backlog?.join(member(addressee, service))
    }
    for (const [key, backlog] of this.#backlogs)
      if (backlog.addressee.kind !== 'node' && !stated.has(key)) backlog.leave(id)
  }

  async #load(addressee: Addressee, sequences: readonly number[]): Promise<(Copy | undefined)[]> {
    const key = addresseeKey(addressee)
    const all = await this.#ledger.load(sequences)
    return all.map((loaded, at) => {
      if (loaded === undefined) {
        this.#lose(sequences[at]!, addressee)
        return undefined
      }
      const index = loaded.envelope.addressees.findIndex((each) => addresseeKey(each) === key)
      return this.#copy(loaded, index, loaded.envelope.boot !== this.#options.self.boot)
    })
  }

  #unload(copy: Copy): void {
    const { sequence, envelope, receipt } = copy.loaded
    if (receipt !== undefined) this.#receipts.set(sequence, receipt)
    // Watched on, this copy would expire in place of the one that is loaded later.
    if (envelope.expiresAt !== undefined) this.#expiries.forget(copy)
  }

  /** It cannot be read: damaged, which the journal has said, or settled meanwhile. */
  #lose(sequence: number, addressee: Addressee): void {
    const receipt = this.#receipts.get(sequence)
    const index = receipt?.indexOf(addressee) ?? -1
    if (index !== -1 && receipt?.end(index, { outcome: 'lost' })) this.#receipts.delete(sequence)
    this.#ledger.lose(sequence)
  }

  #end(copy: Copy, ending: Ending): void {
    if (copy.loaded.envelope.expiresAt !== undefined) this.#expiries.forget(copy)
    this.#settling.push(copy)
    this.#tell(copy, ending)
    if (this.#isDraining) this.#options.changes.notify()
  }

  #tell({ loaded, index }: Copy, ending: Ending): void {
    const { sequence } = loaded
    const receipt = loaded.receipt ?? this.#receipts.get(sequence)
    if (receipt?.end(index, ending)) this.#receipts.delete(sequence)
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

  async #bury(addressee: Addressee, copy: Copy, reason: DeathReason, by: string): Promise<void> {
    if (copy.loaded.envelope.expiresAt !== undefined) this.#expiries.forget(copy)
    if (await this.deadLetters.bury(addressee, copy, reason))
      this.#tell(copy, { outcome: 'dead', by, error: copy.lastError })
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
      retryOf: this.#book.idOf(envelope.boot, burial.sequence),
      addressees: [burial.addressee],
    }
    const { sequence, durable } = this.#ledger.revive(letter, renewed, payload)
    await durable
    const receipt = this.#book.receipt(sequence, renewed.addressees)
    this.#distribute({ sequence, envelope: renewed, payload, receipt }, [this.#backlog(burial.addressee)])
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

  #gone(peer: Peer, mayReturn: boolean): void {
    this.#audience.gone(nodeOf(peer))
    const backlog = this.#backlogs.get(addresseeKey(nodeOf(peer)))
    if (backlog !== undefined) this.#leases.release(peer, backlog)
    this.#giveUp(nodeOf(peer), 'gone', mayReturn)
  }

  /** Nothing is owed to it any more; a node that may return is to be told of that. */
  #giveUp(addressee: Addressee, outcome: 'gone' | 'forgotten', mayReturn = false): void {
    const key = addresseeKey(addressee)
    const backlog = this.#backlogs.get(key)
    if (backlog === undefined) return
    this.#backlogs.delete(key)
    const { copies, unloaded } = backlog.giveUp(outcome)
    const end = (copy: Copy): void => {
      // Of one that was handed over nobody knows whether it was handled.
      const count = copy.redelivered ? 0 : 1
      if (mayReturn) this.#options.missed.add(addressee.name, copy.loaded.envelope.topic, count)
      this.#end(copy, { outcome })
    }
    for (const copy of copies) end(copy)
    void this.#giveUpUnloaded(addressee, unloaded, end).catch(this.#options.fault)
  }

  async #giveUpUnloaded(
    addressee: Addressee,
    sequences: readonly number[],
    end: (copy: Copy) => void,
  ): Promise<void> {
    for (let from = 0; from < sequences.length; from += 256) {
      const copies = await this.#load(addressee, sequences.slice(from, from + 256))
      for (const copy of copies) if (copy !== undefined) end(copy)
      await this.#flush()
    }
    await this.#flush()
  }

  /** There may be a queue for every job: one that is owed nothing is made anew when it is. */
  #sweepQueues(): void {
    const before = this.#backlogs.size
    for (const [key, backlog] of this.#backlogs) {
      if (backlog.addressee.kind !== 'queue' || !backlog.isIdle) continue
      backlog.close()
      this.#backlogs.delete(key)
    }
    if (this.#backlogs.size < before) this.#audience.changed()
  }

  #monotonic(time: number): number {
    return time - this.#timeOffset
  }

  #sweep(): void {
    this.#dedupeIds.sweep()
    this.#sweepQueues()
    this.#cancelSweep = this.#options.clock.after(SWEEP_MS, () => this.#sweep())
  }
}

const TRUE = Promise.resolve(true)
const NOBODY: readonly Addressee[] = []
