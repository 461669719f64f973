/** What one subscription was given and what it was told to have missed; messages carry their number in front. */
export class Tally {
  /** @param {string} pattern */
  constructor(pattern) {
    this.prefix = pattern.replace(/>$/, '')
    this.isSlow = true
    this.received = 0
    /** Numbers that were not above the one before in their topic: out of order, or repeated. */
    this.disorder = 0
    this.missed = 0
    this.uncounted = 0
    /** @type {Record<string, number>} */
    this.reasons = {}
    /** @type {Map<string, { count: number, last: number }>} */
    this.topics = new Map()
    /** @type {() => Promise<void>} */
    this.unsubscribe = async () => {}
  }

  /** @param {string} topic @param {unknown} value */
  message(topic, value) {
    this.received++
    let seen = this.topics.get(topic)
    if (seen === undefined) {
      seen = { count: 0, last: 0 }
      this.topics.set(topic, seen)
    }
    seen.count++
    const number = numberOf(value)
    if (number <= seen.last) this.disorder++
    seen.last = number
  }

  /** @param {import('skein').Gap} gap */
  gap({ topic, count, reason }) {
    if (!topic.startsWith(this.prefix)) return
    this.reasons[reason] = (this.reasons[reason] ?? 0) + (count ?? 0)
    if (count === undefined) this.uncounted++
    else this.missed += count
  }

  report() {
    const { received, disorder, missed, uncounted, reasons } = this
    return { received, disorder, missed, uncounted, reasons, topics: [...this.topics.keys()].slice(-100) }
  }
}

/** @param {unknown} value */
const numberOf = (value) => {
  if (!(value instanceof Uint8Array)) return Number(value)
  const [a = 0, b = 0, c = 0, d = 0] = value
  return (a << 24) | (b << 16) | (c << 8) | d
}
