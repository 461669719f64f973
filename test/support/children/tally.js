/** What one subscription was given and what it was told to have missed; messages carry their number in front. */
export class Tally {
  /** @param {string} pattern */
  constructor(pattern) {
    this.prefix = pattern.replace(/>$/, '')
    this.received = 0
    this.last = 0
    this.disorder = 0
    this.missed = 0
    this.uncounted = 0
    /** @type {Record<string, number>} */
    this.reasons = {}
    /** @type {Map<string, number>} */
    this.topics = new Map()
    /** @type {() => Promise<void>} */
    this.unsubscribe = async () => {}
  }

  /** @param {string} topic @param {unknown} value */
  message(topic, value) {
    this.received++
    if (!(value instanceof Uint8Array)) {
      this.topics.set(topic, (this.topics.get(topic) ?? 0) + 1)
      return
    }
    const number =
      ((value[0] ?? 0) << 24) | ((value[1] ?? 0) << 16) | ((value[2] ?? 0) << 8) | (value[3] ?? 0)
    // A repeat is disorder, too.
    if (number <= this.last) this.disorder++
    this.last = number
  }

  /** @param {import('skein').Gap} gap */
  gap({ topic, count, reason }) {
    if (!topic.startsWith(this.prefix)) return
    this.reasons[reason] = (this.reasons[reason] ?? 0) + (count ?? 0)
    if (count === undefined) this.uncounted++
    else this.missed += count
  }

  report() {
    const { received, last, disorder, missed, uncounted, reasons } = this
    return { received, last, disorder, missed, uncounted, reasons, topics: Object.fromEntries(this.topics) }
  }
}
