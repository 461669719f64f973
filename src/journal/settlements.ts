import { Deferred } from './group.ts'
import { normalise, type Ranges } from './ranges.ts'

export interface Batch {
  readonly ranges: Ranges
  /** True when it is recorded, false when the journal was closed without that. */
  readonly recorded: Deferred<boolean>
}

/** What was settled and is not yet recorded: it waits for the next group to take it along. */
export class Settlements {
  #pairs: number[] = []
  #recorded = new Deferred<boolean>()

  get count(): number {
    return this.#pairs.length / 2
  }

  add(from: number, to: number): Promise<boolean> {
    const last = this.#pairs.length - 1
    if (last > 0 && this.#pairs[last] === from - 1) this.#pairs[last] = to
    else this.#pairs.push(from, to)
    return this.#recorded.promise
  }

  take(): Batch {
    const batch = { ranges: normalise(this.#pairs), recorded: this.#recorded }
    this.#pairs = []
    this.#recorded = new Deferred()
    return batch
  }

  /** It could not be written: it waits on, with what has come since. */
  putBack(batch: Batch): void {
    void this.#recorded.promise.then((isRecorded) => batch.recorded.resolve(isRecorded))
    for (let at = 0; at < batch.ranges.length; at += 2)
      this.#pairs.push(batch.ranges[at]!, batch.ranges[at + 1]!)
  }
}
