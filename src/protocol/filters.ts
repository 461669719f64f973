import { filterOf, topicFrame } from './topics.ts'

/**
 * The prefixes that a node's patterns ask of a ZeroMQ SUB. They let more pass than the patterns match, and both ends
 * of a feed count by them: what passes is on its way, wanted or not. Prefixes are kept as latin1, byte for byte.
 */
export class FilterSet {
  readonly filters: ReadonlySet<string>
  readonly #all: boolean

  constructor(filters: Iterable<string>) {
    this.filters = new Set(filters)
    this.#all = this.filters.has('')
  }

  static of(patterns: Iterable<string>): FilterSet {
    return new FilterSet([...patterns].map((pattern) => filterOf(pattern).toString('latin1')))
  }

  /** Whether a topic frame, as latin1, passes. Filters end at a level or at the end of a topic, nowhere else. */
  passes(frame: string): boolean {
    if (this.#all || this.filters.has(frame)) return true
    for (let dot = frame.indexOf('.'); dot !== -1; dot = frame.indexOf('.', dot + 1)) {
      if (this.filters.has(frame.slice(0, dot + 1))) return true
    }
    return false
  }

  /** Lets pass what passes both. */
  and(other: FilterSet): FilterSet {
    const both = [...this.filters].filter((filter) => other.passes(filter))
    return new FilterSet(both.concat([...other.filters].filter((filter) => this.passes(filter))))
  }

  passesTopic(topic: string): boolean {
    return this.#all || (this.filters.size > 0 && this.passes(topicFrame(topic).toString('latin1')))
  }
}
