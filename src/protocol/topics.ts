import { type ErrorCode, SkeinError } from '../errors.ts'

/** Levels of a topic or pattern, at most. */
const MAX_LEVELS = 16

/** Bytes of a topic or pattern in UTF-8, at most. */
export const MAX_TOPIC_BYTES = 255

const FORBIDDEN = /[\s\p{Cc}]/u

/** The topic (or the name of a responder, which follows the same rules), or TOPIC_INVALID. */
export const validateTopic = (topic: unknown): string => validName('topic', topic)

/** The name of a group, which follows the same rules. */
export const validateGroup = (group: unknown): string => validName('group', group)

/** The name of a queue, which does so, too. */
export const validateQueue = (queue: unknown): string => validName('queue', queue)

const validName = (kind: string, name: unknown): string => {
  const fault = faultOf(name) ?? (/[*>]/.test(name as string) ? 'only patterns have * and >' : undefined)
  if (fault === undefined) return name as string
  throw invalid('TOPIC_INVALID', kind, name, fault)
}

/** The pattern, or PATTERN_INVALID: `*` stands for one whole level, `>` for one or more at the end. */
export const validatePattern = (pattern: unknown): string => {
  const fault = faultOf(pattern) ?? wildcardFaultOf(pattern as string)
  if (fault === undefined) return pattern as string
  throw invalid('PATTERN_INVALID', 'pattern', pattern, fault)
}

/** The first frame of a message on the feed. Its final 0 keeps a filter for `a` from letting `a.b` or `ab` pass. */
export const topicFrame = (topic: string): Buffer => Buffer.from(`${topic}\0`, 'utf8')

/** The prefix a SUB socket subscribes to, so that the frame of every topic that matches passes it; others may too. */
export const filterOf = (pattern: string): Buffer => {
  const wildcard = pattern.search(/[*>]/)
  return wildcard === -1 ? topicFrame(pattern) : Buffer.from(pattern.slice(0, wildcard), 'utf8')
}

/** Whether a valid pattern matches a valid topic. */
export const matches = (pattern: string, topic: string): boolean => {
  const wanted = pattern.split('.')
  const levels = topic.split('.')
  for (const [i, level] of wanted.entries()) {
    if (i >= levels.length) return false
    if (level === '>') return true
    if (level !== '*' && level !== levels[i]) return false
  }
  return wanted.length === levels.length
}

const faultOf = (text: unknown): string | undefined => {
  if (typeof text !== 'string') return 'it has to be a string'
  if (text === '') return 'it has to have at least one level'
  // Before what follows, whose cost grows with the length.
  if (text.length > MAX_TOPIC_BYTES || Buffer.byteLength(text) > MAX_TOPIC_BYTES) {
    return `it has to fit into ${MAX_TOPIC_BYTES} bytes of UTF-8`
  }
  const forbidden = FORBIDDEN.exec(text)
  if (forbidden !== null) {
    return `it has the character ${JSON.stringify(forbidden[0])} at position ${forbidden.index}, but no space or control character is allowed`
  }
  if (!text.isWellFormed()) return 'it has half of a surrogate pair, which UTF-8 cannot carry'
  const levels = text.split('.')
  if (levels.includes('')) return 'it has an empty level: single dots separate levels, none starts or ends it'
  return levels.length > MAX_LEVELS ? `it has ${levels.length} levels, of at most ${MAX_LEVELS}` : undefined
}

const wildcardFaultOf = (pattern: string): string | undefined => {
  const levels = pattern.split('.')
  const partial = levels.find((level) => level.length > 1 && /[*>]/.test(level))
  if (partial !== undefined) {
    return `its level ${JSON.stringify(partial)} has a wildcard beside other characters; * and > stand for whole levels`
  }
  const tail = levels.indexOf('>')
  return tail === -1 || tail === levels.length - 1 ? undefined : '> has to be its last level'
}

const invalid = (code: ErrorCode, kind: string, text: unknown, fault: string): SkeinError =>
  new SkeinError(code, `the ${kind} ${shown(text)} is not valid: ${fault}; write it like ${EXAMPLES[kind]}`)

const EXAMPLES: Record<string, string> = {
  topic: '"sensors.kitchen.temp"',
  group: '"billing" or "billing.eu"',
  queue: '"resize" or "resize.large"',
  pattern: '"sensors.*.temp" or "sensors.>"',
}

const shown = (text: unknown): string => {
  if (typeof text !== 'string') return `(${text === null ? 'null' : typeof text})`
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
