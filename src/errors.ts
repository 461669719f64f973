/**
 * Every error skein raises: one table, one class. A sentence says what was attempted, on what, what happened
 * and what to do; programs decide by `code`, `retryable` and `mayHaveRun`, never by the text.
 */
const TABLE = {
  TOPIC_INVALID: { retryable: false, mayHaveRun: false },
  PATTERN_INVALID: { retryable: false, mayHaveRun: false },
  OPTION_INVALID: { retryable: false, mayHaveRun: false },
  VALUE_UNSUPPORTED: { retryable: false, mayHaveRun: false },
  VALUE_TOO_LARGE: { retryable: false, mayHaveRun: false },
  NOT_SUPPORTED: { retryable: false, mayHaveRun: false },
  MALFORMED: { retryable: false, mayHaveRun: false },
  CLOSED: { retryable: false, mayHaveRun: true },
  ADDRESS_IN_USE: { retryable: true, mayHaveRun: false },
  REGISTRY_UNAVAILABLE: { retryable: true, mayHaveRun: false },
  MDNS_UNAVAILABLE: { retryable: true, mayHaveRun: false },
  SEED_UNREACHABLE: { retryable: true, mayHaveRun: false },
  NODE_ID_IN_USE: { retryable: false, mayHaveRun: false },
  MESH_MISMATCH: { retryable: false, mayHaveRun: false },
  VERSION_MISMATCH: { retryable: false, mayHaveRun: false },
  DEAD_LETTER_UNKNOWN: { retryable: false, mayHaveRun: false },
  JOURNAL_FULL: { retryable: true, mayHaveRun: false },
  JOURNAL_FAILED: { retryable: true, mayHaveRun: false },
  JOURNAL_UNCERTAIN: { retryable: false, mayHaveRun: true },
  JOURNAL_LOCKED: { retryable: true, mayHaveRun: false },
  JOURNAL_DAMAGED: { retryable: false, mayHaveRun: false },
  OUTBOX_FULL: { retryable: true, mayHaveRun: false },
  NO_SUBSCRIBERS: { retryable: true, mayHaveRun: false },
  NO_RESPONDER: { retryable: true, mayHaveRun: false },
  PEER_UNKNOWN: { retryable: true, mayHaveRun: false },
  PEER_LOST: { retryable: true, mayHaveRun: true },
  PEER_SLOW: { retryable: true, mayHaveRun: true },
  BUSY: { retryable: true, mayHaveRun: false },
  CANCELLED: { retryable: false, mayHaveRun: true },
  REQUEST_TIMEOUT: { retryable: true, mayHaveRun: true },
  WAIT_TIMEOUT: { retryable: true, mayHaveRun: false },
  HANDLER_FAILED: { retryable: false, mayHaveRun: true },
  REMOTE_ERROR: { retryable: false, mayHaveRun: true },
} as const satisfies Record<string, { retryable: boolean; mayHaveRun: boolean }>

export type ErrorCode = keyof typeof TABLE

export const ERROR_CODES: readonly ErrorCode[] = Object.keys(TABLE) as ErrorCode[]

export interface SkeinErrorOptions {
  cause?: unknown
  /** Overrides the table where the moment of failure is known better, e.g. a request that never left. */
  mayHaveRun?: boolean
  /** Some of those it went to have handled it. */
  partial?: boolean
  /** The code a remote handler gave its error (`error.code`), on `REMOTE_ERROR`. */
  remoteCode?: string
}

/**
 * The one class of error that skein throws.
 *
 * @example
 * try {
 *   await node.request('price.get', { sku: 'a1' }, { timeoutMs: 500 })
 * } catch (error) {
 *   if (error instanceof SkeinError && error.retryable && !error.mayHaveRun) retryLater()
 *   else throw error
 * }
 */
export class SkeinError extends Error {
  override readonly name = 'SkeinError'
  readonly code: ErrorCode
  /** The same call may succeed later, unchanged. */
  readonly retryable: boolean
  /** What was asked for may have happened at the other side although the call failed. */
  readonly mayHaveRun: boolean
  readonly remoteCode?: string
  /** Of several that it went to, some have handled it. */
  readonly partial: boolean

  constructor(code: ErrorCode, message: string, options: SkeinErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = TABLE[code].retryable
    this.mayHaveRun = options.mayHaveRun ?? TABLE[code].mayHaveRun
    this.partial = options.partial ?? false
    if (options.remoteCode !== undefined) this.remoteCode = options.remoteCode
  }
}

/** True for a SkeinError, of the given code if one is named. */
export const isSkeinError = (error: unknown, code?: ErrorCode): error is SkeinError => {
  try {
    return error instanceof SkeinError && (code === undefined || error.code === code)
  } catch {
    // A Proxy that throws when it is looked at.
    return false
  }
}

/** The text of anything that was thrown; even of a Proxy, or of what cannot be made a text. It never throws. */
export const messageOf = (error: unknown): string => {
  try {
    return String(error instanceof Error ? error.message : error)
  } catch {
    return 'something was thrown that cannot be shown as a text'
  }
}
