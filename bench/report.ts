import type { Machine } from './machine.ts'
import type { Question } from './question.ts'
import { type Sample, totalOf } from './sample.ts'

/** One round of one question: both contenders, one right after the other. */
export interface Round {
  skein: Sample
  bare: Sample
}

export interface Result {
  question: string
  asks: string
  unit: string
  skein: number
  bare: number
  /** skein ÷ bare of the medians, and the smallest and largest ratio within one round. */
  ratio: number
  ratioRange: [number, number]
  must: number
  aim: number
  met: 'aim' | 'must' | 'not met'
  /** Sent, but neither received nor reported as missed: must be 0. */
  unaccounted: number
  reportedLost: number
  bareLost: number
  rounds: Round[]
}

export interface Report {
  machine: Machine
  rounds: number
  measureMs: number
  results: Result[]
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

const missing = ({ sent = 0, received = 0, reportedLost = {} }: Sample): number =>
  sent - received - totalOf(reportedLost)

export const resultOf = (question: Question, rounds: Round[]): Result => {
  const figure = (sample: Sample): number => (question.measure === 'rate' ? sample.perSecond : sample.p50Us!)
  const skein = median(rounds.map((round) => figure(round.skein)))
  const bare = median(rounds.map((round) => figure(round.bare)))
  const ratios = rounds.map((round) => figure(round.skein) / figure(round.bare))
  const ratio = skein / bare
  const reaches = (wanted: number): boolean =>
    question.measure === 'rate' ? ratio >= wanted : ratio <= wanted
  return {
    question: question.name,
    asks: question.asks,
    unit: question.measure === 'p50' ? 'µs p50' : question.kind === 'stream' ? 'msg/s' : 'req/s',
    skein,
    bare,
    ratio,
    ratioRange: [Math.min(...ratios), Math.max(...ratios)],
    must: question.must,
    aim: question.aim,
    met: reaches(question.aim) ? 'aim' : reaches(question.must) ? 'must' : 'not met',
    unaccounted: sum(rounds.map((round) => missing(round.skein))),
    reportedLost: sum(rounds.map((round) => totalOf(round.skein.reportedLost ?? {}))),
    bareLost: sum(rounds.map((round) => missing(round.bare))),
    rounds,
  }
}

const number = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1)

const columns = (rows: string[][]): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) =>
      row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))),
    )
    .map((cells) => cells.join('  ').trimEnd())
    .join('\n')
}

const ratioText = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)}x`

export const tableOf = (results: readonly Result[]): string =>
  columns([
    [
      'question',
      'unit',
      'skein',
      'bare',
      'ratio',
      'in the rounds',
      'must',
      'aim',
      'met',
      'lost',
      'bare lost',
    ],
    ...results.map((result) => [
      result.question,
      result.unit,
      number(result.skein),
      number(result.bare),
      ratioText(result.ratio),
      result.ratioRange.map(ratioText).join(' to '),
      ratioText(result.must),
      ratioText(result.aim),
      result.met,
      result.unaccounted === 0
        ? `${result.reportedLost}`
        : `${result.reportedLost} + ${result.unaccounted} silently`,
      `${result.bareLost}`,
    ]),
  ])

/** Further figures of a question that are not compared, e.g. the slowest hundredth of the requests. */
export const detailsOf = (result: Result): string | undefined => {
  const of = (contender: 'skein' | 'bare', key: 'p50Us' | 'p99Us'): number =>
    median(result.rounds.map((round) => round[contender][key] ?? Number.NaN))
  if (result.rounds[0]?.skein.p50Us === undefined) return undefined
  const line = (contender: 'skein' | 'bare'): string =>
    `${contender} p50 ${number(of(contender, 'p50Us'))} µs, p99 ${number(of(contender, 'p99Us'))} µs`
  return `${result.question}: ${line('skein')}; ${line('bare')}`
}
