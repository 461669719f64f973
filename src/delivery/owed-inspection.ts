import { type Inspection, type InspectOptions, inspectJournal } from '../journal/inspection.ts'
import type { Addressee } from '../protocol/addressee.ts'
import type { Reader } from '../protocol/bytes.ts'
import { decodeReceived, receivedLocally } from '../protocol/payload.ts'
import { decodeHeaders } from '../protocol/record.ts'
import type { DeadLetter } from './dead-letters.ts'
import {
  type Part,
  RECORD,
  readBurial,
  readEnvelope,
  readPayload,
  readProgress,
  readRemembered,
} from './owed-record.ts'
import { shown } from './receipt.ts'

/** To whom a message is still owed, and how often it has failed there. */
export interface OwedPart {
  readonly kind: Addressee['kind']
  readonly name: string
  readonly failures: number
  readonly lastError?: string
}

export interface OwedMessage {
  readonly id: string
  readonly topic: string
  readonly key?: string
  /** Times are ms since 1970. */
  readonly acceptedAt: number
  readonly notBefore?: number
  readonly expiresAt?: number
  /** In the journal. */
  readonly bytes: number
  readonly addressees: readonly OwedPart[]
}

/** What a data directory holds. */
export interface OwedInspection extends Inspection {
  /** In the order of their acceptance. */
  readonly owed: readonly OwedMessage[]
  readonly deadLetters: readonly DeadLetter[]
  /** Groups that are owed what they want while they are away. */
  readonly groups: readonly {
    readonly group: string
    readonly patterns: readonly string[]
    readonly seenAt: number
  }[]
}

type Found = Omit<OwedMessage, 'id' | 'addressees'> & { boot: string; addressees: readonly Addressee[] }

/**
 * Reads all that is owed in a data directory and changes nothing: safe beside its running owner.
 * @throws JOURNAL_DAMAGED (the id), JOURNAL_FAILED, VERSION_MISMATCH
 */
export const inspectOwed = async (
  directory: string,
  files?: InspectOptions['files'],
): Promise<OwedInspection> => {
  // By their numbers, because the journal is read again where its owner changes it meanwhile.
  const found = new Map<number, Found>()
  const progress = new Map<number, readonly Part[]>()
  const dead = new Map<number, (nodeId: string) => DeadLetter>()
  const groups = new Map<string, OwedInspection['groups'][number]>()
  const visit = (sequence: number, type: number, body: Reader): void => {
    if (type === RECORD.message) found.set(sequence, readFound(body))
    else if (type === RECORD.dead) dead.set(sequence, readDead(sequence, body))
    else if (type === RECORD.progress) {
      const { sequence: of, parts } = readProgress(body)
      progress.set(of, parts)
    } else if (type === RECORD.remembered) {
      const remembered = readRemembered(body)
      groups.set(remembered.group, remembered)
    }
  }
  const inspection = await inspectJournal({ directory, visit, ...(files !== undefined && { files }) })
  const { nodeId } = inspection
  const owed = [...found].map(([sequence, { boot, addressees, ...rest }]) => ({
    id: idOf(nodeId, boot, sequence),
    ...rest,
    addressees: addressees.flatMap((addressee, index) =>
      partOf(
        addressee,
        progress.get(sequence)?.find((part) => part.index === index),
      ),
    ),
  }))
  return {
    ...inspection,
    owed: owed.filter(({ addressees }) => addressees.length > 0),
    deadLetters: [...dead.values()].map((shownBy) => shownBy(nodeId)),
    groups: [...groups.values()],
  }
}

const idOf = (nodeId: string, boot: string, sequence: number): string => `${nodeId}.${boot}.owed.${sequence}`

const readFound = (body: Reader): Found => {
  const bytes = body.left
  const { boot, topic, key, acceptedAt, notBefore, expiresAt, addressees } = readEnvelope(body)
  return {
    ...{ boot, topic, acceptedAt, bytes, addressees },
    ...(key !== undefined && { key }),
    ...(notBefore !== undefined && { notBefore }),
    ...(expiresAt !== undefined && { expiresAt }),
  }
}

const partOf = (addressee: Addressee, part: Part | undefined): OwedPart[] => {
  if (part?.isSettled) return []
  const { failures = 0, lastError = '' } = part ?? {}
  return [{ ...shown(addressee), failures, ...(lastError !== '' && { lastError }) }]
}

const readDead = (number: number, body: Reader): ((nodeId: string) => DeadLetter) => {
  const { addressee, sequence, reason, attempts, lastError, diedAt } = readBurial(body)
  const { boot, topic, key, acceptedAt } = readEnvelope(body)
  const payload = readPayload(body)
  const headers = decodeHeaders(payload.headers)
  const value = decodeReceived(receivedLocally(payload))
  return (nodeId) => ({
    id: String(number),
    messageId: idOf(nodeId, boot, sequence),
    topic,
    addressee: shown(addressee),
    ...(key !== undefined && { key }),
    ...{ headers, value, reason, attempts, lastError, acceptedAt, diedAt },
  })
}
