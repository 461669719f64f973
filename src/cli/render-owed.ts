import type { DeadLetter, Inspection, Outcome, OwedMessage, Receipt } from '../index.ts'
import { columns, type Format, jsonOf, printable, rawOf, textOf, toJson } from './render.ts'
import { count, milliseconds } from './wording.ts'

type Who = Receipt['addressees'][number]

export const addresseeText = ({ kind, name }: Who): string => `${kind} ${printable(name)}`

/** A message is owed now. */
export const renderReceipt = ({ id, addressees, durability }: Receipt, format: Format): string => {
  if (format === 'json') return `${JSON.stringify({ kind: 'receipt', id, addressees, durability })}\n`
  if (format === 'raw') return `${id}\n`
  return `owed     ${id}  to ${addressees.map(addresseeText).join(', ') || 'nobody'}, kept in ${KEPT[durability]}\n`
}

const KEPT = { disk: 'files, on the disk', os: 'files', memory: 'memory' } as const

/** It has ended for everybody. */
export const renderOutcomes = (id: string, outcomes: readonly Outcome[], format: Format): string => {
  if (format === 'json') return `${JSON.stringify({ kind: 'settled', id, outcomes })}\n`
  if (format === 'raw') return ''
  return outcomes
    .map(({ outcome, by, error, ...who }) => {
      const whom = by === undefined ? '' : `  by ${by}`
      const why = error === undefined ? '' : `  (${printable(error)})`
      return `${outcome.padEnd(8)} ${id}  for ${addresseeText(who)}${whom}${why}\n`
    })
    .join('')
}

const HOUR_MS = 3_600_000

/** `3.2 s`, `12 min`, `5.1 h`, `2.0 d`. */
export const age = (ms: number): string => {
  if (ms < 120_000) return milliseconds(Math.max(0, ms))
  if (ms < 2 * HOUR_MS) return `${Math.round(ms / 60_000)} min`
  return ms < 48 * HOUR_MS ? `${(ms / HOUR_MS).toFixed(1)} h` : `${(ms / (24 * HOUR_MS)).toFixed(1)} d`
}

const letterRecord = (letter: DeadLetter): object => ({ ...letter, value: toJson(letter.value) })

export const renderDeadLetters = (letters: readonly DeadLetter[], format: Format, now: number): string => {
  if (format === 'json') return letters.map((letter) => `${JSON.stringify(letterRecord(letter))}\n`).join('')
  if (format === 'raw') return letters.map(({ id }) => `${id}\n`).join('')
  if (letters.length === 0) return ''
  const rows = letters.map(({ id, topic, addressee, attempts, diedAt, lastError }) => [
    id,
    printable(topic),
    addresseeText(addressee),
    String(attempts),
    age(now - diedAt),
    printable(lastError),
  ])
  return lines([['ID', 'TOPIC', 'NOT HANDLED BY', 'ATTEMPTS', 'DEAD FOR', 'LAST ERROR'], ...rows])
}

/** One of them with its value; raw is the value alone. */
export const renderDeadLetter = (letter: DeadLetter, format: Format): string | Uint8Array => {
  if (format === 'json') return `${JSON.stringify(letterRecord(letter))}\n`
  if (format === 'raw') return rawOf(letter.value)
  const { id, messageId, topic, addressee, key, headers, value, reason, attempts, lastError } = letter
  const rows: [string, string][] = [
    ['id', id],
    ['message', messageId],
    ['topic', topic],
    ['not handled by', `${addressee.kind} ${addressee.name}`],
    ...(key === undefined ? [] : [['key', key] as [string, string]]),
    ['headers', jsonOf(headers)],
    ['accepted', new Date(letter.acceptedAt).toISOString()],
    ['given up', `${new Date(letter.diedAt).toISOString()}, ${reason} (${attempts})`],
    ['last error', lastError],
    ['value', textOf(value)],
  ]
  return lines(rows.map(([name, text]) => [name, printable(text)]))
}

const lines = (rows: readonly string[][]): string =>
  columns(rows)
    .map((line) => `${line}\n`)
    .join('')

/** A message that is owed, on a line of its own. */
export const renderOwedMessages = (message: OwedMessage, format: Format, now: number): string => {
  const { id, topic, key, addressees, acceptedAt, notBefore = now, expiresAt } = message
  const ageMs = Math.max(0, now - acceptedAt)
  if (format === 'json') return `${JSON.stringify({ ...message, ageMs })}\n`
  if (format === 'raw') return `${id}\n`
  const whom = addressees.map(({ failures, ...who }) => {
    const failed = failures === 0 ? '' : ` (${count(failures, 'failure')})`
    return `${addresseeText(who)}${failed}`
  })
  const keyed = key === undefined ? '' : `  key ${printable(key)}`
  const due = notBefore <= now ? '' : `  not before ${age(notBefore - now)} from now`
  return `${id}  ${printable(topic)}${keyed}  to ${whom.join(', ')}  for ${age(ageMs)}${due}${endOf(expiresAt, now)}\n`
}

const endOf = (expiresAt: number | undefined, now: number): string => {
  if (expiresAt === undefined) return ''
  return expiresAt <= now ? `  expired ${age(now - expiresAt)} ago` : `  expires in ${age(expiresAt - now)}`
}

export interface JournalStats {
  readonly nodeId: string
  readonly segments: number
  readonly bytes: number
  readonly liveRecords: number
  readonly liveBytes: number
  readonly unfinishedBytes: number
  readonly owed: number
  readonly deadLetters: number
  readonly addressees: readonly (Who & {
    readonly owed: number
    /** Of them failed before. */
    readonly failing: number
    readonly oldestMs: number
  })[]
  readonly groups: readonly {
    readonly group: string
    readonly patterns: readonly string[]
    readonly seenMs: number
  }[]
}

export const renderStats = (stats: JournalStats, format: Format): string => {
  if (format !== 'text') return `${JSON.stringify(stats)}\n`
  const { nodeId, segments, bytes, liveRecords, liveBytes, owed, deadLetters, addressees, groups } = stats
  return lines([
    ['node', nodeId],
    ['on disk', `${bytes} bytes in ${count(segments, 'segment')}`],
    ['in use', `${liveBytes} bytes in ${count(liveRecords, 'record')}`],
    ['owed', count(owed, 'message')],
    ...addressees.map((each) => [
      `  ${addresseeText(each)}`,
      `${each.owed}, ${each.failing} of them failed before, the oldest accepted ${age(each.oldestMs)} ago`,
    ]),
    ['dead letters', String(deadLetters)],
    ...groups.map(({ group, patterns, seenMs }) => [
      `remembered group ${printable(group)}`,
      `${printable(patterns.join(' '))}, seen ${age(seenMs)} ago`,
    ]),
  ])
}

export const renderVerdict = (inspection: Inspection, format: Format): string => {
  const { segments, bytes, liveRecords, unfinishedBytes, damage, lost, lostAfter } = inspection
  const isSound = damage.length === 0 && lost.length === 0 && lostAfter === undefined
  if (format !== 'text') {
    const said = { segments: segments.length, bytes, liveRecords, unfinishedBytes, damage, lost, lostAfter }
    return `${JSON.stringify({ ok: isSound, ...said })}\n`
  }
  const found = damage.map(
    ({ segment, offset, bytes: size, isUnreadable }) =>
      `damage  ${segment}: ${count(size, 'byte')} from ${offset} on ${isUnreadable ? 'cannot be read' : 'are not what was written'}\n`,
  )
  for (let at = 0; at < lost.length; at += 2)
    found.push(`lost    what was owed as ${lost[at]} to ${lost[at + 1]}\n`)
  if (lostAfter !== undefined) found.push(`lost    maybe, what was owed after ${lostAfter}\n`)
  if (unfinishedBytes > 0)
    found.push(
      `note    the last ${count(unfinishedBytes, 'byte')} were never finished: nothing is lost by that\n`,
    )
  const summary = `${count(segments.length, 'segment')}, ${bytes} bytes, ${count(liveRecords, 'record')} in use`
  return `${found.join('')}${isSound ? 'ok      ' : ''}${summary}\n`
}
