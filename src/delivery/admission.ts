import type { Changes } from '../changes.ts'
import type { Clock } from '../clock.ts'
import { isSkeinError, SkeinError } from '../errors.ts'
import type { Payload } from '../protocol/record.ts'
import type { Destination } from './audience.ts'
import type { Backlog } from './backlog.ts'
import type { Ledger } from './ledger.ts'
import type { Envelope } from './owed-record.ts'

/** How soon a send that finds no room looks again. */
const ROOM_AGAIN_MS = 20

export interface AdmissionOptions {
  readonly clock: Clock
  readonly changes: Changes
  /** Most that may be owed to one addressee. */
  readonly quotaBytes: number
  readonly roomTimeoutMs: number
}

export interface Accepted {
  readonly sequence: number
  readonly durable: Promise<void>
}

/** What may be owed: within the quota of each addressee, and as fast as the disk takes it (G6). */
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

  /** Those that may be owed so much more. @throws SkeinError OUTBOX_FULL if there is none */
  within(destination: Destination, bytes: number, what: string): Destination {
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
      `${what}: ${who} is owed ${this.#options.quotaBytes} bytes already; wait until some are handled, or raise limits.quotaBytes`,
    )
  }

  /** Undefined where too much waits for the disk already. @throws as Journal.append */
  accept(envelope: Envelope, payload: Payload): Accepted | undefined {
    try {
      return this.#ledger.accept(envelope, payload)
    } catch (error) {
      if (isSkeinError(error, 'OUTBOX_FULL')) return undefined
      throw error
    }
  }

  /** Waits until less waits for the disk. Rejects OUTBOX_FULL after `roomTimeoutMs`, CLOSED, and as Journal.append. */
  async acceptLater(
    envelope: Envelope,
    payload: Payload,
    roomTimeoutMs: number | undefined,
    what: string,
  ): Promise<Accepted> {
    const { clock, changes } = this.#options
    const limitMs = roomTimeoutMs ?? this.#options.roomTimeoutMs
    const until = clock.now() + limitMs
    while (clock.now() < until) {
      await changes.next(Math.max(1, Math.min(ROOM_AGAIN_MS, until - clock.now())))
      if (this.#isClosed) throw new SkeinError('CLOSED', `${what}: the node is closed`, { mayHaveRun: false })
      const accepted = this.accept(envelope, payload)
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
