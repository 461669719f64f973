/**
 * When an open batch leaves, without a timer: the first message of a turn leaves in a microtask of that turn,
 * what follows leaves when the turn of the event loop ends (or earlier, when its batch is full). So a lone message
 * waits for nothing, and a burst travels in large batches.
 */
export class Cork {
  readonly #flush: () => void
  readonly #turn: (run: () => void) => void
  #corked = false
  #pending = false

  constructor(flush: () => void, turn: (run: () => void) => void) {
    this.#flush = flush
    this.#turn = turn
  }

  /** Something was added to the open batch. */
  touch(): void {
    if (this.#corked) {
      this.#pending = true
      return
    }
    this.#corked = true
    queueMicrotask(this.#flush)
    this.#turn(this.#ended)
  }

  readonly #ended = (): void => {
    this.#corked = false
    if (!this.#pending) return
    this.#pending = false
    this.#corked = true
    this.#flush()
    this.#turn(this.#ended)
  }
}
