import { type ErrorCode, isSkeinError } from '../index.ts'
import { CliError, EXIT } from './exit.ts'

const EXIT_OF_CODE: Partial<Record<ErrorCode, number>> = {
  TOPIC_INVALID: EXIT.usage,
  PATTERN_INVALID: EXIT.usage,
  OPTION_INVALID: EXIT.usage,
  REQUEST_TIMEOUT: EXIT.timeout,
  WAIT_TIMEOUT: EXIT.timeout,
  NO_SUBSCRIBERS: EXIT.nobody,
  NO_RESPONDER: EXIT.nobody,
  PEER_UNKNOWN: EXIT.nobody,
  HANDLER_FAILED: EXIT.remote,
  REMOTE_ERROR: EXIT.remote,
}

/** The code to leave with after an error. */
export const exitCodeOf = (error: unknown): number => {
  if (error instanceof CliError) return error.exitCode
  if (isSkeinError(error) && error.partial) return EXIT.partial
  return isSkeinError(error) ? (EXIT_OF_CODE[error.code] ?? EXIT.error) : EXIT.error
}

/** What a person reads about an error: its sentence, and the code to look for. */
export const sentenceOf = (error: unknown): string => {
  if (!isSkeinError(error)) return error instanceof Error ? error.message : String(error)
  const remote = error.remoteCode === undefined ? '' : ` ${error.remoteCode}`
  return `${spelledForShell(error.message)} (${error.code}${remote})`
}

const SPELLED: readonly (readonly [RegExp, string])[] = [
  [/'open: true'/g, "'--open'"],
  [/option 'discovery\.seeds'/g, "option '--seed'"],
  [/option '(bind|port|interface|advertise|mesh|name)'/g, "option '--$1'"],
  [/set 'advertise'/g, "set '--advertise'"],
  [/\bdataDir\b/g, '--data-dir'],
]

/** What a program would write as an option is a flag here. */
const spelledForShell = (text: string): string =>
  SPELLED.reduce((spelled, [pattern, flag]) => spelled.replace(pattern, flag), text)
