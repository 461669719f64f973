import type { Clock } from '../clock.ts'

const FIRST_MS = 100
const STAGES = 10
const FORGOTTEN = -2

/** What a beat needs to know of a topic. */
export interface Beating {
  /** When its last batch left. */
  lastAt: number
  /** How many beats followed it already; -1 while no beat is due. */
  stage: number
}

/**
 * After the last message of a topic its last sequence is repeated, after 0.1 s, 0.2 s, 0.4 s … for about a minute:
 * a lost last message is noticed although nothing follows it (G5). Topics of one stage wait equally long, so a
 * queue for each stage and a single timer do.
 */
export class Beats<T extends Beating> {
  readonly #clock: Clock
  readonly #send: (topic: T) => void
  readonly #stages: { topic: T; dueAt: number }[][] = Array.from({ length: STAGES }, () => [])
  #cancel: (() => void) | undefined

  constructor(clock: Clock, send: (topic: T) => void) {
    this.#clock = clock
    this.#send = send
  }

  /** A batch of the topic left now. */
  left(topic: T, now: number): void {
    topic.lastAt = now
    if (topic.stage !== -1) return
    topic.stage = 0
    this.#wait(topic, now)
  }

  /** The topic is forgotten: it beats no more. */
  forget(topic: T): void {
    topic.stage = FORGOTTEN
  }

  close(): void {
    this.#cancel?.()
    for (const stage of this.#stages) stage.length = 0
  }

  #wait(topic: T, from: number): void {
    this.#stages[topic.stage]!.push({ topic, dueAt: from + FIRST_MS * 2 ** topic.stage })
    this.#cancel ??= this.#clock.after(FIRST_MS, this.#tick)
  }

  readonly #tick = (): void => {
    this.#cancel = undefined
    const now = this.#clock.now()
    const due: T[] = []
    for (const stage of this.#stages) {
      let ended = 0
      while (ended < stage.length && stage[ended]!.dueAt <= now) due.push(stage[ended++]!.topic)
      stage.splice(0, ended)
    }
    for (const topic of due) this.#due(topic, now)
    if (this.#cancel === undefined && this.#stages.some((stage) => stage.length > 0)) {
      this.#cancel = this.#clock.after(FIRST_MS, this.#tick)
    }
  }

  #due(topic: T, now: number): void {
    if (topic.stage === FORGOTTEN) return
    const quiet = now - topic.lastAt >= FIRST_MS
    if (quiet) this.#send(topic)
    topic.stage = quiet ? topic.stage + 1 : 0
    if (topic.stage === STAGES) topic.stage = -1
    else this.#wait(topic, quiet ? now : topic.lastAt)
  }
}
