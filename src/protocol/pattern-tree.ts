interface Branch<T> {
  readonly children: Map<string, Branch<T>>
  /** Of the patterns that end here. */
  readonly values: Set<T>
}

/**
 * Values by pattern, found by topic. Most patterns have no wildcard: those are looked up whole, and topics are taken
 * apart only while there are others. Patterns and topics have to be valid.
 */
export class PatternTree<T> {
  #exact = new Map<string, Set<T>>()
  #root = newBranch<T>()
  #size = 0

  /** How many values there are, one under two patterns counting twice. */
  get size(): number {
    return this.#size
  }

  /** Adding a value again under the same pattern changes nothing. */
  add(pattern: string, value: T): void {
    const values = isExact(pattern) ? this.#exactValues(pattern) : this.#branchOf(pattern).values
    if (values.has(value)) return
    values.add(value)
    this.#size++
  }

  delete(pattern: string, value: T): boolean {
    const deleted = isExact(pattern)
      ? this.#deleteExact(pattern, value)
      : prune(this.#root, pattern.split('.'), 0, value)
    if (deleted) this.#size--
    return deleted
  }

  /**
   * The values of every pattern that matches, a value once for each: first those of the topic itself, then literal
   * levels before `*` before `>`; under one pattern as they were added.
   */
  match(topic: string): T[] {
    const found: T[] = []
    const exact = this.#exact.get(topic)
    if (exact !== undefined) for (const value of exact) found.push(value)
    if (this.#root.children.size > 0) collect(this.#root, topic.split('.'), 0, found)
    return found
  }

  reset(): void {
    this.#exact.clear()
    this.#root.children.clear()
    this.#size = 0
  }

  #exactValues(pattern: string): Set<T> {
    let values = this.#exact.get(pattern)
    if (values === undefined) {
      values = new Set()
      this.#exact.set(pattern, values)
    }
    return values
  }

  #deleteExact(pattern: string, value: T): boolean {
    const values = this.#exact.get(pattern)
    if (values?.delete(value) !== true) return false
    if (values.size === 0) this.#exact.delete(pattern)
    return true
  }

  #branchOf(pattern: string): Branch<T> {
    let branch = this.#root
    for (const level of pattern.split('.')) {
      let next = branch.children.get(level)
      if (next === undefined) {
        next = newBranch()
        branch.children.set(level, next)
      }
      branch = next
    }
    return branch
  }
}

const newBranch = <T>(): Branch<T> => ({ children: new Map(), values: new Set() })

const isExact = (pattern: string): boolean => !pattern.includes('*') && !pattern.includes('>')

// Valid patterns have at most 16 levels, each with at most two branches to follow.
const collect = <T>(branch: Branch<T>, levels: string[], depth: number, found: T[]): void => {
  if (depth === levels.length) {
    for (const value of branch.values) found.push(value)
    return
  }
  const literal = branch.children.get(levels[depth]!)
  if (literal !== undefined) collect(literal, levels, depth + 1, found)
  const any = branch.children.get('*')
  if (any !== undefined) collect(any, levels, depth + 1, found)
  const rest = branch.children.get('>')
  if (rest !== undefined) for (const value of rest.values) found.push(value)
}

const prune = <T>(branch: Branch<T>, levels: string[], depth: number, value: T): boolean => {
  if (depth === levels.length) return branch.values.delete(value)
  const level = levels[depth]!
  const child = branch.children.get(level)
  if (child === undefined || !prune(child, levels, depth + 1, value)) return false
  if (child.values.size === 0 && child.children.size === 0) branch.children.delete(level)
  return true
}
