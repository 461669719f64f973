import { SkeinError } from '../errors.ts'
import type { Reader, Writer } from './bytes.ts'
import { validateTopic } from './topics.ts'

/** To whom a message is owed: a node (all its plain subscriptions together), a group, or a queue. */
export interface Addressee {
  readonly kind: 'node' | 'group' | 'queue'
  /** The name of the group or queue, or a node's id and boot: another boot of it has other subscriptions. */
  readonly name: string
}

/** The wire's and the journal's numbers: never change one. */
const KINDS = ['node', 'group', 'queue'] as const

export const kindNumber = (kind: Addressee['kind']): number => KINDS.indexOf(kind)

export const kindOf = (number: number): Addressee['kind'] => {
  const kind = KINDS[number]
  if (kind === undefined) throw new SkeinError('MALFORMED', `an addressee of kind ${number} is not known`)
  return kind
}

/** One text for each, to look them up by. */
export const addresseeKey = ({ kind, name }: Addressee): string => `${kind}:${name}`

/** kind u8 · name (u8 length) */
export const writeAddressee = (writer: Writer, { kind, name }: Addressee): void => {
  writer.u8(kindNumber(kind))
  writer.text8(name)
}

export const readAddressee = (reader: Reader): Addressee => {
  const kind = kindOf(reader.u8())
  const name = reader.text8()
  if (kind === 'node' ? !NODE_NAME.test(name) : !isName(name))
    throw new SkeinError('MALFORMED', `a ${kind} cannot be called ${JSON.stringify(name.slice(0, 64))}`)
  return { kind, name }
}

/** Empty where it is plain which node is meant: on the wire, the one that speaks. */
const NODE_NAME = /^(?:[0-9a-f]{64})?$/

const isName = (name: string): boolean => {
  try {
    validateTopic(name)
    return true
  } catch {
    return false
  }
}
