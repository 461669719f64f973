import type { Roster } from '../peers/roster.ts'
import type { Interest } from '../protocol/control-frames.ts'
import type { Following } from './following.ts'
import type { Requests } from './requests.ts'
import type { Responders } from './responders.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface StatedOptions {
  readonly subscriptions: Subscriptions
  readonly responders: Responders
  readonly requests: Requests
  readonly following: Following
  roster(): Roster
}

/**
 * What this node states of itself: what it subscribes and responds to. All changes of one turn are stated at once,
 * as a whole and under one revision.
 */
export class Stated {
  readonly #options: StatedOptions
  #revision = 0
  #changing = false
  #closed = false

  constructor(options: StatedOptions) {
    this.#options = options
  }

  interest(): Interest {
    const { subscriptions, responders } = this.#options
    return { revision: this.#revision, patterns: subscriptions.patterns(), responders: responders.names() }
  }

  /** Resolves when every peer that is up has confirmed what is subscribed to now. */
  async subscribed(): Promise<void> {
    await this.#options.following.ready(await this.#change())
  }

  /** Resolves when every peer that is up knows what is responded to now. */
  async responding(): Promise<void> {
    await this.#options.roster().known(await this.#change())
  }

  close(): void {
    this.#closed = true
  }

  async #change(): Promise<number> {
    if (!this.#changing && !this.#closed) {
      this.#changing = true
      queueMicrotask(() => this.#state())
    }
    // Behind that microtask, so the revision is the one that holds this change.
    await Promise.resolve()
    return this.#revision
  }

  #state(): void {
    const { requests, roster, following, subscriptions } = this.#options
    this.#changing = false
    this.#revision++
    requests.changed()
    roster().stateInterest()
    following.listen(subscriptions.filters(), this.#revision)
  }
}
