import { SkeinError } from '../errors.ts'

export interface JournalLimits {
  /** Most that the journal takes on the disk; one segment of it is kept in reserve (G6). */
  readonly totalBytes: number
  readonly segmentBytes: number
  /** Most that waits for the disk in memory. */
  readonly queuedBytes: number
}

export const JOURNAL_LIMITS: JournalLimits = {
  totalBytes: 1024 * 1024 * 1024,
  segmentBytes: 16 * 1024 * 1024,
  queuedBytes: 64 * 1024 * 1024,
}

const LEAST_SEGMENT_BYTES = 1024
const MOST_SEGMENT_BYTES = 1024 * 1024 * 1024
/** One is written, one is the reserve, and of two something can be put together. */
const LEAST_SEGMENTS = 4

/** @throws OPTION_INVALID */
export const resolveLimits = (given: Partial<JournalLimits> = {}): JournalLimits => {
  const limits = { ...JOURNAL_LIMITS, ...given }
  for (const [name, value] of Object.entries(limits)) {
    if (!Number.isSafeInteger(value) || value <= 0)
      invalid(name, value, 'a positive whole number is expected')
  }
  const { segmentBytes, totalBytes } = limits
  if (segmentBytes < LEAST_SEGMENT_BYTES || segmentBytes > MOST_SEGMENT_BYTES)
    invalid('segmentBytes', segmentBytes, `${LEAST_SEGMENT_BYTES} to ${MOST_SEGMENT_BYTES} are allowed`)
  if (totalBytes < LEAST_SEGMENTS * segmentBytes)
    invalid(
      'totalBytes',
      totalBytes,
      `at least ${LEAST_SEGMENTS} segments of ${segmentBytes} bytes are needed`,
    )
  return limits
}

const invalid = (name: string, value: unknown, rule: string): never => {
  throw new SkeinError('OPTION_INVALID', `journal limits: ${name} is ${String(value)}; ${rule}`)
}
