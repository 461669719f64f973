import { SkeinError } from '../errors.ts'
import { type Addressee, readAddressee, writeAddressee } from './addressee.ts'
import type { Reader, Writer } from './bytes.ts'
import { ID_BYTES } from './header.ts'

/** Of what a member says to people, in UTF-16 units; its sender keeps it in the journal, once for each message. */
export const MAX_TEXT = 2048

/** Why a member gives a message back that it has not run. */
export type HandedBack = 'busy' | 'no-handler' | 'closing'

/**
 * What became of a hand-over at the member it was given to. Settlements are numbered by the member and taken in order,
 * as delivery batches are: what was lost with a connection is said again.
 */
export type Settlement =
  /** Hand-overs from this number on, so many, were handled. */
  | { readonly kind: 'handled'; readonly from: number; readonly count: number }
  | { readonly kind: 'failed'; readonly number: number; readonly code: string; readonly text: string }
  /** It wants to be tried again later, and that is no failure. */
  | { readonly kind: 'later'; readonly number: number; readonly delayMs: number; readonly text: string }
  | { readonly kind: 'rejected'; readonly number: number; readonly code: string; readonly text: string }
  | { readonly kind: 'handed-back'; readonly number: number; readonly why: HandedBack }
  | HandledBefore

/** Said by its id, because it was handed over by numbers that are not valid any more. */
export interface HandledBefore {
  readonly kind: 'handled-before'
  readonly boot: string
  readonly sequence: number
  readonly addressee: Addressee
}

/** The wire's numbers: never change one. */
const KIND = { handled: 1, failed: 2, later: 3, rejected: 4, 'handed-back': 5, 'handled-before': 6 } as const
const REASONS = ['busy', 'no-handler', 'closing'] as const

/** kind u8 · fields */
export const writeSettlement = (writer: Writer, settlement: Settlement): void => {
  writer.u8(KIND[settlement.kind])
  switch (settlement.kind) {
    case 'handled':
      writer.u48(settlement.from)
      writer.u32(settlement.count)
      return
    case 'failed':
    case 'rejected':
      writer.u48(settlement.number)
      writer.text8(settlement.code)
      writer.text32(settlement.text)
      return
    case 'later':
      writer.u48(settlement.number)
      writer.u32(settlement.delayMs)
      writer.text32(settlement.text)
      return
    case 'handed-back':
      writer.u48(settlement.number)
      writer.u8(REASONS.indexOf(settlement.why))
      return
    case 'handled-before':
      writer.bytes(Buffer.from(settlement.boot, 'hex'))
      writer.u48(settlement.sequence)
      writeAddressee(writer, settlement.addressee)
  }
}

/** Three bytes are the most that a UTF-16 unit takes. */
const wordsOf = (reader: Reader): string => reader.words32(3 * MAX_TEXT)

export const readSettlement = (reader: Reader): Settlement => {
  const kind = reader.u8()
  switch (kind) {
    case KIND.handled:
      return { kind: 'handled', from: reader.u48(), count: reader.u32() }
    case KIND.failed:
      return { kind: 'failed', number: reader.u48(), code: reader.text8(), text: wordsOf(reader) }
    case KIND.rejected:
      return { kind: 'rejected', number: reader.u48(), code: reader.text8(), text: wordsOf(reader) }
    case KIND.later:
      return { kind: 'later', number: reader.u48(), delayMs: reader.u32(), text: wordsOf(reader) }
    case KIND['handed-back']: {
      const number = reader.u48()
      return { kind: 'handed-back', number, why: REASONS[reader.u8()] ?? 'busy' }
    }
    case KIND['handled-before']: {
      const boot = reader.bytes(ID_BYTES).toString('hex')
      return { kind: 'handled-before', boot, sequence: reader.u48(), addressee: readAddressee(reader) }
    }
    default:
      throw new SkeinError('MALFORMED', `a settlement of kind ${kind} is not known`)
  }
}
