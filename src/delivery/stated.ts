import type { Clock } from '../clock.ts'
import type { Roster } from '../peers/roster.ts'
import { FRAME, type Interest } from '../protocol/control-frames.ts'
import type { Following } from './following.ts'
import type { Outbox } from './outbox.ts'
import type { Requests } from './requests.ts'
import type { Responders } from './responders.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface StatedOptions {
  readonly clock: Clock
  readonly subscriptions: Subscriptions
  readonly responders: Responders
  readonly requests: Requests
  readonly following: Following
  readonly outbox: Outbox
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
  #pacing = false
  #closed = false

  constructor(options: StatedOptions) {
    this.#options = options
  }

  interest(): Interest {
    const { subscriptions, responders } = this.#options
    return {
      revision: this.#revision,
      patterns: subscriptions.patterns(),
      responders: responders.names(),
      services: subscriptions.services(),
    }
  }

  /** Resolves when every peer that is up has confirmed what is subscribed to now. */
  async subscribed(): Promise<void> {
    const revision = await this.#change()
    const { following, roster } = this.#options
    // The feed is told by barriers; who owes something to a group or a queue goes by the interest alone.
    await Promise.all([following.ready(revision), roster().known(revision)])
  }

  /** Resolves when every peer that is up knows what is responded to now. */
  async responding(): Promise<void> {
    await this.#options.roster().known(await this.#change())
  }

  /** This node takes more or less of some work at a time: each window is stated as a whole. */
  paced(): void {
    if (this.#pacing || this.#closed) return
    this.#pacing = true
    this.#options.clock.turn(() => {
      this.#pacing = false
      const services = this.#options.subscriptions.services()
      this.#options.outbox.changed()
      this.#options.roster().stateWindows(services)
    })
  }

  /** A group of this node will not want this any more. */
  withdrawn(group: string, pattern: string): void {
    // Behind the interest that does not name it any more.
    void this.#change().then(() => {
      this.#options.outbox.withdrawn(group, pattern)
      this.#options.roster().tellAll(FRAME.withdraw, (writer) => {
        writer.text8(group)
        writer.text8(pattern)
      })
    })
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
    const { requests, roster, following, subscriptions, outbox } = this.#options
    this.#changing = false
    this.#revision++
    requests.changed()
    outbox.changed()
    roster().stateInterest()
    following.listen(subscriptions.filters(), this.#revision)
  }
}
