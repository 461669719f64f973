import { styleText } from 'node:util'
import type { Check, Verdict } from './check.ts'
import { printable } from './render.ts'
import { count } from './wording.ts'

const WIDTH = 100
/** Of one kind, where nothing is wrong with them. */
const MAX_ALIKE = 10

const MARKS: Readonly<Record<Verdict, string>> = { ok: 'ok', note: 'note', problem: 'PROBLEM' }
const COLOURS = { ok: 'green', note: 'yellow', problem: 'red' } as const

export interface Style {
  readonly colour: boolean
}

/** Checks as a person reads them: one line where all is well, the remedy below where it is not. */
export const renderChecks = (checks: readonly Check[], style: Style): string =>
  `${blocksOf(checks)
    .flatMap((block) => linesOf(block, style))
    .join('\n')}\n`

export const renderSummary = (checks: readonly Check[], style: Style): string => {
  const problems = checks.filter(({ verdict }) => verdict === 'problem').length
  const notes = checks.filter(({ verdict }) => verdict === 'note').length
  const told = notes === 0 ? '' : `, ${count(notes, 'note')}`
  if (problems === 0) return `${paint('ok', `no problem${told}`, style)}\n`
  return `${paint('problem', `${count(problems, 'problem')}${told}`, style)}\n`
}

const paint = (verdict: Verdict, text: string, { colour }: Style): string =>
  colour ? styleText(COLOURS[verdict], text) : text

/** Those that are well stand together by kind, and of very many only the first. */
const blocksOf = (checks: readonly Check[]): Check[] => {
  const blocks: Check[] = []
  let alike: Check[] = []
  const flush = (): void => {
    blocks.push(...alike.slice(0, MAX_ALIKE))
    const more = alike.slice(MAX_ALIKE)
    if (more.length > 0)
      blocks.push({ check: more[0]!.check, verdict: 'ok', text: `${more.length} more are well` })
    alike = []
  }
  for (const check of checks) {
    if (check.verdict !== 'ok' || check.check !== alike[0]?.check) flush()
    if (check.verdict === 'ok') alike.push(check)
    else blocks.push(check)
  }
  flush()
  return blocks
}

const INDENT = 9

const linesOf = ({ check, subject, verdict, text, remedy }: Check, style: Style): string[] => {
  const title = subject === undefined ? check : `${check} ${printable(subject)}`
  const mark = paint(verdict, MARKS[verdict].padEnd(INDENT - 1), style)
  const [first = '', ...rest] = wrap(`${title}: ${printable(text)}`, WIDTH - INDENT)
  const indent = ' '.repeat(INDENT)
  const lines = [`${mark} ${first}`, ...rest.map((line) => `${indent}${line}`)]
  if (remedy === undefined) return lines
  const [help = '', ...more] = wrap(printable(remedy), WIDTH - INDENT - 2)
  return [...lines, `${indent}→ ${help}`, ...more.map((line) => `${indent}  ${line}`)]
}

/** Broken at spaces; a word that is too long stands on a line of its own. */
const wrap = (text: string, width: number): string[] => {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
