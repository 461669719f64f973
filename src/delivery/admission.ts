import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { isSkeinError, SkeinError } from '../errors.ts'
import type { Addressee } from '../protocol/addressee.ts'
import { bodyBytes, type Headers, type Payload } from '../protocol/record.ts'
import type { Destination } from './audience.ts'
import type { Backlog } from './backlog.ts'
import type { Dedupe, DedupeIds } from './dedupe-ids.ts'
import type { Ledger, Loaded } from './ledger.ts'
import type { Origin } from './message.ts'
import { dedupeOf, type Envelope } from './owed-record.ts'
import type { Receipt, ReceiptBook } from './receipt.ts'

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

export interface AdmissionOptions {
  readonly self: Origin
  readonly clock: Clock
  /** Ms since 1970, which do not jump while the node runs. */
  time(): number
  readonly changes: Changes
  /** Most that may be owed to one addressee. */
  readonly quotaBytes: number
  readonly roomTimeoutMs: number
  readonly book: ReceiptBook
  readonly dedupeIds: DedupeIds
  /** The receipt of what an earlier boot has sent. */
  sentBefore(dedupe: Dedupe): Promise<Receipt>
  /** It is on the disk: it goes to its addressees. */
  accepted(message: Loaded, to: Destination): void
}

interface Accepted {
  readonly sequence: number
  readonly durable: Promise<void>
}

/** A message that waits for the disk. */
interface Sending {
  /** 0 as long as it is not accepted. */
  sequence: number
  readonly envelope: Envelope
  readonly payload: Payload
  /** Of its value. */
  readonly bytes: number
  /** Those of `to` that may be owed more. */
  readonly owed: Destination
  readonly to: Destination
  readonly dedupe: Dedupe | undefined
}

const NOBODY: readonly Addressee[] = []

/** How a message comes to be owed: within the quota of each addressee, and as fast as the disk takes it (G1, G6). */
export class Admission {
  readonly #options: AdmissionOptions
  #ledger!: Ledger
  #isClosed = false

  constructor(options: AdmissionOptions) {
    this.#options = options
  }

  open(ledger: Ledger): void {
    this.#ledger = ledger
  }

  close(): void {
    this.#isClosed = true
  }

  /**
   * Resolves when it is owed. No async function: what very many sends keep while they wait for the disk is most of what
   * the collector sees. @throws as Journal.append, and OUTBOX_FULL
   */
  send(
    topic: string,
    payload: Payload,
    to: Destination,
    options: SendOptions,
    verb: 'publish' | 'push',
  ): Promise<Receipt> {
    const { self, time, dedupeIds, sentBefore } = this.#options
    const { key, delayMs, ttlMs, dedupeId } = options
    const again = dedupeId === undefined ? undefined : dedupeIds.find(dedupeId)
    if (again !== undefined) {
      again.receipt ??= sentBefore(again)
      return again.receipt
    }
    const bytes = bodyBytes(payload)
    const owed = this.#within(to, bytes, verb, topic)
    const now = time()
    const envelope: Envelope = {
      boot: self.boot,
      acceptedAt: now,
      topic,
      key,
      dedupeId,
      notBefore: delayMs === undefined ? undefined : now + Math.ceil(delayMs),
      expiresAt: ttlMs === undefined ? undefined : now + Math.ceil(ttlMs),
      retryOf: undefined,
      addressees: owed.addressees,
    }
    const accepted = this.#accept(envelope, payload)
    // Counted before it is on the disk: many that are sent at once must not pass the quota together.
    for (const backlog of owed.backlogs) backlog.expect(1, bytes)
    const dedupe = dedupeId === undefined ? undefined : dedupeIds.add(dedupeId, self.boot)
    const sending: Sending = { sequence: 0, envelope, payload, bytes, owed, to, dedupe }
    const receipt =
      accepted === undefined
        ? this.#sendLater(sending, options.roomTimeoutMs, verb)
        : this.#whenDurable(sending, accepted)
    if (dedupe !== undefined) dedupe.receipt = receipt
    return receipt
  }

  async #sendLater(sending: Sending, roomTimeoutMs: number | undefined, verb: string): Promise<Receipt> {
    let accepted: Accepted
    try {
      const what = `${verb} to '${sending.envelope.topic}'`
      accepted = await this.#acceptLater(sending, roomTimeoutMs ?? this.#options.roomTimeoutMs, what)
    } catch (error) {
      return this.#notSent(sending, error)
    }
    return await this.#whenDurable(sending, accepted)
  }

  #whenDurable(sending: Sending, { sequence, durable }: Accepted): Promise<Receipt> {
    sending.sequence = sequence
    if (sending.dedupe !== undefined) sending.dedupe.sequence = sequence
    return durable.then(
      () => this.#sent(sending),
      (error: unknown) => this.#notSent(sending, error),
    )
  }

  #notSent({ owed, bytes, envelope }: Sending, error: unknown): never {
    for (const backlog of owed.backlogs) backlog.expect(-1, -bytes)
    if (envelope.dedupeId !== undefined) this.#options.dedupeIds.delete(envelope.dedupeId)
    throw error
  }

  #sent({ sequence, envelope, payload, bytes, owed, to }: Sending): Receipt {
    for (const backlog of owed.backlogs) backlog.expect(-1, -bytes)
    const refused = owed === to ? NOBODY : to.addressees.filter((each) => !owed.addressees.includes(each))
    const all = refused === NOBODY ? to.addressees : [...owed.addressees, ...refused]
    const receipt = this.#options.book.receipt(sequence, all)
    for (let index = owed.addressees.length; index < all.length; index++)
      receipt.end(index, { outcome: 'refused' })
    this.#options.accepted({ sequence, envelope, payload, receipt }, owed)
    if (owed.addressees.length === 0)
      void this.#ledger.settle([{ sequence, index: 0, dedupe: dedupeOf(envelope, sequence) }])
    return receipt
  }

  /** Those that may be owed so much more. @throws SkeinError OUTBOX_FULL if there is none */
  #within(destination: Destination, bytes: number, verb: string, topic: string): Destination {
    const { addressees, backlogs } = destination
    if (!backlogs.some((backlog) => this.#isOver(backlog, bytes))) return destination
    const mayHave = backlogs.map((backlog) => !this.#isOver(backlog, bytes))
    if (mayHave.includes(true))
      return {
        addressees: addressees.filter((_, index) => mayHave[index]),
        backlogs: backlogs.filter((_, index) => mayHave[index]),
      }
    const who = addressees.length === 1 ? 'its addressee' : 'every addressee'
    throw new SkeinError(
      'OUTBOX_FULL',
      `${verb} to '${topic}': ${who} is owed ${this.#options.quotaBytes} bytes already; wait until some are handled, or raise limits.quotaBytes`,
    )
  }

  /** Undefined where too much waits for the disk already. @throws as Journal.append */
  #accept(envelope: Envelope, payload: Payload): Accepted | undefined {
    try {
      return this.#ledger.accept(envelope, payload)
    } catch (error) {
      if (isSkeinError(error, 'OUTBOX_FULL')) return undefined
      throw error
    }
  }

  /** Waits until less waits for the disk. Rejects OUTBOX_FULL after `limitMs`, CLOSED, and as Journal.append. */
  async #acceptLater({ envelope, payload }: Sending, limitMs: number, what: string): Promise<Accepted> {
    const { clock, changes } = this.#options
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

  #isOver({ bytes: owed }: Backlog, bytes: number): boolean {
    return owed > 0 && owed + bytes > this.#options.quotaBytes
  }
}
