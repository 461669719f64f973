import { setTimeout as sleep } from 'node:timers/promises'
import type { Outcome, Receipt } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { sentenceOf } from './failure.ts'
import { renderOutcomes, renderReceipt } from './render-owed.ts'
import type { Session } from './run.ts'
import { count, milliseconds, quoted } from './wording.ts'

export interface OwedOptions {
  /** Where what is not handled in time goes on being owed. */
  dataDir?: string | undefined
  /** How long the last message may take to be handled. */
  timeoutMs: number
  /** Nothing is due before that. */
  delayMs?: number | undefined
  /** Known to this call only, where nothing keeps it. */
  dedupeId?: string | undefined
  /** The time between two messages. */
  intervalMs?: number | undefined
  /** Receipts are printed. */
  verbose?: boolean | undefined
  /** What to do where nobody handles it. */
  remedy: () => string | Promise<string>
  /** Who can say more. */
  askWhy?: string
}

/** So many sends wait for the disk at a time. */
const SENDING = 256
/** Without a data directory everything unhandled is in memory, and of no use to anybody when this ends. */
const MOST_UNHANDLED = 10_000
const LOOK_MS = 20

/** What became of all that one command has sent. */
class Tally {
  sent = 0
  owed = 0
  handled = 0
  failed = 0
  lastError: unknown
  /** Ends other than `handled`. */
  readonly bad: Outcome[] = []
  badMessages = 0

  get open(): number {
    return this.owed - this.handled - this.badMessages
  }

  end(outcomes: readonly Outcome[]): void {
    const bad = outcomes.filter(({ outcome }) => outcome !== 'handled')
    if (bad.length === 0) this.handled++
    else this.badMessages++
    this.bad.push(...bad)
  }
}

/** Sends every payload at least once, and waits until all are handled. Answers or throws what the command ends with. */
export const sendOwed = async <Payload>(
  session: Session,
  payloads: AsyncIterable<Payload>,
  send: (payload: Payload) => Promise<Receipt>,
  options: OwedOptions,
): Promise<number> => {
  const { output, format, stop, note } = session
  const { dataDir, timeoutMs, intervalMs = 0, verbose } = options
  if (options.dedupeId !== undefined && dataDir === undefined)
    note('--dedupe-id is known to this call only: later ones know the ids of what a --data-dir still holds')
  const tally = new Tally()
  let isOver = false
  const accepted = (receipt: Receipt): void => {
    tally.owed++
    if (verbose === true) void output.write(renderReceipt(receipt, format))
    void receipt.settled.then((outcomes) => {
      if (isOver) return
      tally.end(outcomes)
      if (verbose === true) void output.write(renderOutcomes(receipt.id, outcomes, format))
    })
  }
  const refused = (error: unknown): void => {
    tally.failed++
    tally.lastError = error
  }

  const startedAt = performance.now()
  const inFlight: Promise<void>[] = []
  for await (const payload of payloads) {
    if (stop.aborted) break
    inFlight.push(send(payload).then(accepted, refused))
    tally.sent++
    const dueInMs = startedAt + tally.sent * intervalMs - performance.now()
    if (intervalMs > 0 && dueInMs > 0) await sleep(dueInMs, undefined, { signal: stop }).catch(() => {})
    if (inFlight.length >= SENDING) await inFlight.shift()
    if (dataDir === undefined && tally.open >= MOST_UNHANDLED && !(await hasRoom(tally, timeoutMs, stop)))
      break
  }
  await Promise.all(inFlight)
  if (tally.sent === 0 && !stop.aborted) note('stdin was empty, so nothing was sent')

  const { delayMs = 0 } = options
  const isEnoughToHold = dataDir !== undefined && delayMs >= timeoutMs
  if (!isEnoughToHold) await waitUntil(() => tally.open === 0, timeoutMs, stop)
  isOver = true
  if (tally.open === 0) return endingOf(tally, options)
  if (isEnoughToHold) note(`${count(tally.open, 'message')} ${areHeld(tally.open, dataDir)}`)
  else if (stop.aborted) note(whatOfTheRest(tally, 'when this was interrupted', options))
  else throw new CliError(EXIT.timeout, await tooLate(tally, options))
  return endingOf(tally, options)
}

/** Resolves with whether it has come true in time. */
export const waitUntil = async (
  isTrue: () => boolean,
  timeoutMs: number,
  stop: AbortSignal,
): Promise<boolean> => {
  const endsAt = performance.now() + timeoutMs
  while (!isTrue()) {
    const leftMs = endsAt - performance.now()
    if (leftMs <= 0 || stop.aborted) return false
    await sleep(Math.min(LOOK_MS, leftMs), undefined, { signal: stop }).catch(() => {})
  }
  return true
}

/** Whoever works slowly is waited for as long as anything is handled at all. */
const hasRoom = async (tally: Tally, timeoutMs: number, stop: AbortSignal): Promise<boolean> => {
  for (;;) {
    const before = tally.open
    if (before < MOST_UNHANDLED) return true
    if (!(await waitUntil(() => tally.open < before, timeoutMs, stop))) return false
  }
}

const endingOf = (tally: Tally, options: OwedOptions): number => {
  const { sent, failed, bad, badMessages, lastError, handled } = tally
  if (failed > 0 && failed === sent) throw lastError
  if (failed > 0)
    throw new CliError(
      EXIT.partial,
      `${failed} of ${sent} messages failed; the last: ${sentenceOf(lastError)}`,
    )
  const last = bad.at(-1)
  if (last === undefined) return EXIT.ok
  const isDead = last.outcome === 'dead'
  const where = isDead ? ` (${whereTheDeadAre(options.dataDir)})` : ''
  const code = handled > 0 ? EXIT.partial : isDead ? EXIT.remote : EXIT.error
  throw new CliError(
    code,
    `${badMessages} of ${count(sent, 'message')} ${badMessages === 1 ? 'was' : 'were'} not handled by everybody; the last: ${describeOutcome(last)}${where}`,
  )
}

const describeOutcome = ({ kind, name, outcome, error }: Outcome): string =>
  `${outcome} for ${kind} "${name}"${error === undefined ? '' : `: ${error}`}`

const whereTheDeadAre = (dataDir: string | undefined): string =>
  dataDir === undefined
    ? 'nothing keeps it: --data-dir keeps dead letters'
    : `skein dead-letters ls --data-dir ${quoted(dataDir)}`

export const areHeld = (open: number, dataDir: string): string =>
  `${open === 1 ? 'is' : 'are'} held in "${dataDir}": any node with that data directory hands ${open === 1 ? 'it' : 'them'} over, ` +
  `as does "skein push --held --data-dir ${quoted(dataDir)}"`

const whatOfTheRest = ({ open, owed }: Tally, when: string, { dataDir }: OwedOptions): string => {
  const which = open === owed ? count(open, 'message') : `${open} of ${count(owed, 'message')}`
  const what = `${which} ${open === 1 ? 'was' : 'were'} not handled ${when}`
  if (dataDir !== undefined) return `${what} and ${areHeld(open, dataDir)}`
  const [are, them] = open === 1 ? ['is', 'it'] : ['are', 'them']
  return `${what} and ${are} lost, unless somebody is at work on ${them} now`
}

const tooLate = async (tally: Tally, options: OwedOptions): Promise<string> => {
  const rest = whatOfTheRest(tally, `within ${milliseconds(options.timeoutMs)}`, options)
  const remedy = await options.remedy()
  const why = options.askWhy === undefined ? '' : `; ${options.askWhy}`
  if (options.dataDir !== undefined) return `${rest}; ${remedy}${why}`
  return `${rest}: ${remedy}, wait longer with --timeout, or hold what is owed with --data-dir${why}`
}
