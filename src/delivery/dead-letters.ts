import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Addressee } from '../protocol/addressee.ts'
import { decodeReceived, receivedLocally } from '../protocol/payload.ts'
import { decodeHeaders, type Headers } from '../protocol/record.ts'
import type { Buried, Ledger } from './ledger.ts'
import type { DeathReason } from './owed-record.ts'
import type { Copy } from './places.ts'
import { type Receipt, shown } from './receipt.ts'

/** A message that was given up, with all that is needed to see why, and to try again. */
export interface DeadLetter {
  /** Its number at this sender, to retry or drop it by. */
  readonly id: string
  /** The id that the message bore. */
  readonly messageId: string
  readonly topic: string
  /** Who did not handle it: a node (by its id), a group or a queue. */
  readonly addressee: { readonly kind: Addressee['kind']; readonly name: string }
  readonly key?: string
  readonly headers: Headers
  readonly value: unknown
  /** `attempts`: it failed too often; `rejected`: its handler said that it can never be handled. */
  readonly reason: DeathReason
  /** Failures, the last one included. */
  readonly attempts: number
  readonly lastError: string
  /** When it was accepted, and when it was given up: ms since 1970. */
  readonly acceptedAt: number
  readonly diedAt: number
}

/** A dead letter that finds no room in the journal is tried again after this. */
const BURY_AGAIN_MS = 1000

/** A message that its sender gives up because of what happened here: the dead letter is kept there. */
export interface LastFailure extends Omit<DeadLetter, 'id' | 'acceptedAt'> {
  readonly id?: undefined
  /** Id of the sender. */
  readonly from: string
}

export interface DeadLettersOptions {
  readonly clock: Clock
  /** Ms since 1970, which do not jump while the node runs. */
  time(): number
  readonly maxDeadLetters: number
  /** The id that a message of this node bears. */
  idOf(boot: string, sequence: number): string
  /** Takes a dead letter for what it was: a message that is owed. */
  revive(letter: Buried): Promise<Receipt>
  died(letter: DeadLetter): void
  fault(error: unknown): void
}

/**
 * What was given up, until somebody has looked at it.
 *
 * @example
 * for (const letter of await node.deadLetters.list()) console.log(letter.topic, letter.lastError)
 * await node.deadLetters.retry('42')
 */
export class DeadLetters {
  readonly #options: DeadLettersOptions
  #ledger: Ledger | undefined
  /** The oldest first. */
  #letters: number[] = []
  #burying = 0
  #isClosed = false

  /** @internal */
  constructor(options: DeadLettersOptions) {
    this.#options = options
  }

  /** @internal */
  restore(ledger: Ledger, letters: number[]): void {
    this.#ledger = ledger
    this.#letters = letters
  }

  get size(): number {
    return this.#letters.length
  }

  /** All of them, the oldest first. */
  async list(): Promise<DeadLetter[]> {
    const found: DeadLetter[] = []
    for (let from = 0; from < this.#letters.length; from += 256)
      for (const letter of await this.#open().buried(this.#letters.slice(from, from + 256)))
        found.push(this.#shown(letter))
    return found
  }

  /** Owes it again, as a new message with all attempts before it. Rejects DEAD_LETTER_UNKNOWN, and as `push`. */
  async retry(id: string): Promise<Receipt> {
    const letter = await this.#find(id)
    return await this.#take(letter.sequence, () => this.#options.revive(letter))
  }

  /** Forgets it. Rejects DEAD_LETTER_UNKNOWN. */
  async drop(id: string): Promise<void> {
    const { sequence } = await this.#find(id)
    await this.#take(sequence, () => this.#open().drop(sequence))
  }

  /** @internal */
  close(): void {
    this.#isClosed = true
  }

  /** @internal Messages that are on their way here: owed until they have arrived. */
  get burying(): number {
    return this.#burying
  }

  /** @internal A message is given up: resolves to true when it is kept here, to false if the node was closed before. */
  async bury(addressee: Addressee, copy: Copy, reason: DeathReason): Promise<boolean> {
    const { clock, fault } = this.#options
    this.#burying++
    while (!this.#isClosed) {
      try {
        await this.#keep(addressee, copy, reason)
        this.#burying--
        return true
      } catch (error) {
        // It stays owed in the journal meanwhile, and is given to nobody.
        fault(error)
      }
      await new Promise<void>((resolve) => clock.after(BURY_AGAIN_MS, resolve))
    }
    return false
  }

  async #keep(addressee: Addressee, copy: Copy, reason: DeathReason): Promise<void> {
    const { time, maxDeadLetters, died, fault } = this.#options
    const { loaded, sequence: of, failures: attempts, lastError } = copy
    const burial = { diedAt: time(), reason, attempts, lastError, sequence: of, addressee }
    const sequence = await this.#open().bury(burial, loaded, copy)
    this.#letters.push(sequence)
    died(this.#shown({ ...loaded, sequence, burial }))
    while (this.#letters.length > maxDeadLetters) {
      const oldest = this.#letters.shift()!
      fault(
        new SkeinError(
          'OUTBOX_FULL',
          `dead letter ${oldest} was dropped: more than ${maxDeadLetters} are not kept; look at them, or raise limits.maxDeadLetters`,
        ),
      )
      await this.#open().drop(oldest)
    }
  }

  #open(): Ledger {
    if (this.#ledger === undefined) throw new SkeinError('CLOSED', 'dead letters: the node has not started')
    return this.#ledger
  }

  /** Nobody else may take it meanwhile: retried twice at once it would be owed twice. It is back where that fails. */
  async #take<T>(sequence: number, use: () => Promise<T>): Promise<T> {
    if (!this.#letters.includes(sequence)) throw unknown(String(sequence))
    this.#letters = this.#letters.filter((each) => each !== sequence)
    try {
      return await use()
    } catch (error) {
      this.#letters = [...this.#letters, sequence].sort((one, other) => one - other)
      throw error
    }
  }

  async #find(id: string): Promise<Buried> {
    const sequence = Number(id)
    const found = this.#letters.includes(sequence) ? await this.#open().buried([sequence]) : []
    if (found[0] !== undefined) return found[0]
    throw unknown(id)
  }

  #shown({ sequence, burial, envelope, payload }: Buried): DeadLetter {
    const { addressee, reason, attempts, lastError, diedAt } = burial
    const { boot, topic, key, acceptedAt } = envelope
    return {
      id: String(sequence),
      messageId: this.#options.idOf(boot, burial.sequence),
      topic,
      addressee: shown(addressee),
      ...(key !== undefined && { key }),
      headers: decodeHeaders(payload.headers),
      value: decodeReceived(receivedLocally(payload)),
      ...{ reason, attempts, lastError, acceptedAt, diedAt },
    }
  }
}

const unknown = (id: string): SkeinError =>
  new SkeinError('DEAD_LETTER_UNKNOWN', `dead letter '${id}': this node has none of that id; list them`)
