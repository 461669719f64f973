/** Half of the levels may differ, or of one level half of its letters. Beyond that it is something else altogether. */
const MAX_DIFFERENCE = 0.5
const CASE_COST = 0.1
/** A level that one of the two lacks. */
const GAP_COST = 1
/** A slash for a dot, or a dot too many. */
const SEPARATOR_COST = 0.2
const MAX_COMPARED = 10_000

export interface Near {
  /** The pattern or name that comes near. */
  readonly text: string
  /** 0 where it matches. */
  readonly cost: number
  /** What would have to be different for it to match, in words. */
  readonly difference: string
}

/** Which of these patterns or names come near to matching a topic or name, the nearest first. */
export const nearest = (topic: string, candidates: Iterable<string>, most = 3): Near[] =>
  [...new Set(candidates)]
    .slice(0, MAX_COMPARED)
    .flatMap((text) => compare(topic, text) ?? [])
    .toSorted((a, b) => a.cost - b.cost || (a.text < b.text ? -1 : 1))
    .slice(0, most)

/** How a pattern or name differs from a topic or name; undefined where they have nothing to do with each other. */
export const compare = (topic: string, text: string): Near | undefined => {
  const ours = levelsOf(topic)
  const theirs = levelsOf(text)
  const { cost, differences, alike } =
    theirs.at(-1) === '>' ? alignRest(ours, theirs.slice(0, -1)) : align(ours, theirs).at(-1)!
  if (topic !== text && lettersOf(topic) === lettersOf(text) && SEPARATOR_COST < cost)
    return { text, cost: SEPARATOR_COST, difference: 'only what separates its levels differs' }
  const isFar = cost > MAX_DIFFERENCE * Math.max(theirs.length, ours.length)
  const isStrange = alike === 0 && theirs.some((level) => level !== '*' && level !== '>')
  return isFar || isStrange ? undefined : { text, cost, difference: differences.join('; ') }
}

const levelsOf = (text: string): string[] => text.split('.')

const lettersOf = (text: string): string => text.replace(/[./:_-]/g, '')

interface Alignment {
  readonly cost: number
  readonly differences: readonly string[]
  /** Levels that both have written out, and much the same. */
  readonly alike: number
}

const NOTHING: Alignment = { cost: 0, differences: [], alike: 0 }

const plus = (
  { cost, differences, alike }: Alignment,
  more: number,
  difference: string,
  isAlike = false,
): Alignment => ({
  cost: cost + more,
  differences: difference === '' ? differences : [...differences, difference],
  alike: alike + (isAlike ? 1 : 0),
})

const cheapest = (all: readonly Alignment[]): Alignment =>
  all.reduce((best, one) => (one.cost < best.cost ? one : best))

/** The cheapest way to bring all of their levels together with the first 0, 1, 2… of ours. */
const align = (ours: readonly string[], theirs: readonly string[]): Alignment[] => {
  let row: Alignment[] = [NOTHING]
  for (const [at, level] of ours.entries()) row.push(plus(row[at]!, GAP_COST, lacking(level, at)))
  for (const [at, level] of theirs.entries()) {
    const next = [plus(row[0]!, GAP_COST, surplus(level, at))]
    for (const [place, our] of ours.entries()) {
      const [cost, difference] = compareLevels(our, level, place)
      next.push(
        cheapest([
          plus(next[place]!, GAP_COST, lacking(our, place)),
          plus(row[place + 1]!, GAP_COST, surplus(level, at)),
          plus(row[place]!, cost, difference, level !== '*' && cost <= MAX_DIFFERENCE),
        ]),
      )
    }
    row = next
  }
  return row
}

/** Their last level was `>`, which takes all that is left of ours, but at least one. */
const alignRest = (ours: readonly string[], theirs: readonly string[]): Alignment => {
  const row = align(ours, theirs)
  const short = plus(row.at(-1)!, CASE_COST, 'its ">" wants at least one more level')
  return cheapest([...row.slice(0, -1), short])
}

const compareLevels = (
  our: string,
  their: string,
  place: number,
): readonly [cost: number, difference: string] => {
  if (their === '*' || their === our) return [0, '']
  const where = `level ${place + 1} is ${quoted(their)} there, not ${quoted(our)}`
  if (their.toLowerCase() === our.toLowerCase()) return [CASE_COST, `${where}: upper and lower case differ`]
  return [Math.min(1, editDistance(our, their) / Math.max(our.length, their.length)), where]
}

const lacking = (level: string, at: number): string =>
  `it has no level for ${quoted(level)} (level ${at + 1})`

const surplus = (level: string, at: number): string =>
  `it has a level too many, ${quoted(level)} (level ${at + 1})`

const quoted = (text: string): string => `"${text}"`

/** Letters to insert, remove, change or swap with the next one (the distance of Damerau, without repeated swaps). */
export const editDistance = (a: string, b: string): number => {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const next = [row]
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1]
      let cost = Math.min(last[column]! + 1, next[column - 1]! + 1, last[column - 1]! + (isSame ? 0 : 1))
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        cost = Math.min(cost, before[column - 2]! + 1)
      next.push(cost)
    }
    before = last
    last = next
  }
  return last[b.length]!
}
