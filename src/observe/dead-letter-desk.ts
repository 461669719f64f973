import type { DeadLetters } from '../delivery/dead-letters.ts'
import { isSkeinError, messageOf, SkeinError } from '../errors.ts'
import { readOwner } from '../journal/owner.ts'

/** What a node with a data directory answers to whoever can read that directory: another process of its operator. */
export const DEAD_LETTERS = '$skein.dead-letters'

export interface DeadLetterQuery {
  readonly do: 'retry' | 'drop'
  readonly ids: readonly string[]
  /** What the node has written into its data directory, since anybody in a mesh can ask. */
  readonly proof: string
}

export interface DeadLetterAnswer {
  readonly done: readonly string[]
  readonly failed: readonly { readonly id: string; readonly code: string; readonly message: string }[]
}

/** Retries or drops dead letters for another process. */
export const answerDeadLetters = async (
  query: unknown,
  dataDir: string | undefined,
  letters: Pick<DeadLetters, 'retry' | 'drop'>,
): Promise<DeadLetterAnswer> => {
  const { do: action, ids, proof } = checked(query)
  const owner = dataDir === undefined ? undefined : await readOwner(dataDir)
  if (owner === undefined || owner !== proof)
    throw new SkeinError(
      'OPTION_INVALID',
      `${action} dead letters: the asker does not know this data directory`,
    )
  const done: string[] = []
  const failed: { id: string; code: string; message: string }[] = []
  const one = async (id: string): Promise<void> => {
    try {
      await letters[action](id)
      done.push(id)
    } catch (error) {
      failed.push({ id, code: isSkeinError(error) ? error.code : 'ERROR', message: messageOf(error) })
    }
  }
  await Promise.all([...new Set(ids)].map(one))
  return { done, failed }
}

const checked = (query: unknown): DeadLetterQuery => {
  const { do: action, ids, proof } = (query ?? {}) as Partial<Record<keyof DeadLetterQuery, unknown>>
  const isList = Array.isArray(ids) && ids.every((id) => typeof id === 'string')
  if ((action === 'retry' || action === 'drop') && isList && typeof proof === 'string')
    return { do: action, ids: ids as string[], proof }
  throw new SkeinError('OPTION_INVALID', 'dead letters: the question cannot be understood')
}
