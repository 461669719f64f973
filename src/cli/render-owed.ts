import type { Outcome, Receipt } from '../index.ts'
import { type Format, printable } from './render.ts'

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
