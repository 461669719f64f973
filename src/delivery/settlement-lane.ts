import type { Clock } from '../clock.ts'
import type { Peer } from '../peers/peer.ts'
import { FRAME } from '../protocol/control-frames.ts'
import { type Settlement, writeSettlement } from '../protocol/settlement.ts'

/** What is said of a hand-over, and what may be forgotten when that is recorded. */
interface Said<T> {
  readonly settlement: Settlement
  readonly items: readonly T[]
}

/** In one frame, so that a restatement of very many does not become one control frame beyond all limits. */
const MAX_IN_FRAME = 1024

/**
 * What this node says of the messages that one sender handed to it: numbered, gathered by turns, and kept until the
 * sender has recorded it. After a reset everything that is not recorded is said again.
 */
export class SettlementLane<T> {
  readonly #peer: Peer
  readonly #clock: Clock
  /** Said or to be said, the oldest first: its number is `#recorded + 1`. */
  #kept: Said<T>[] = []
  #recorded = 0
  #unsaid = 0
  #numbers: number[] = []
  #items: T[] = []
  #isDue = false
  /** What was recorded when the sender pinged last: the same again, with more said, is a loss. */
  #recordedAtPing = -1

  constructor(peer: Peer, clock: Clock) {
    this.#peer = peer
    this.#clock = clock
  }

  /** This hand-over was handled; neighbours of one turn share a settlement. */
  handled(number: number, item: T): void {
    this.#numbers.push(number)
    this.#items.push(item)
    this.#due()
  }

  say(settlement: Settlement, item?: T): void {
    this.#gather()
    this.#keep({ settlement, items: item === undefined ? [] : [item] })
    this.#due()
  }

  /** The sender will not forget the settlements up to this one; answers what they were about. */
  recorded(number: number): T[] {
    const items: T[] = []
    const done = Math.min(number - this.#recorded, this.#kept.length - this.#unsaid)
    if (done <= 0) return items
    for (const said of this.#kept.splice(0, done)) items.push(...said.items)
    this.#recorded += done
    return items
  }

  /** Its connection is new: what was said on the old one may be lost. */
  again(): void {
    this.#unsaid = this.#kept.length
    this.#flush()
  }

  /** The sender asks for a sign of life, because it waits for some of this. */
  pinged(): void {
    if (this.#kept.length > this.#unsaid && this.#recordedAtPing === this.#recorded) this.again()
    this.#recordedAtPing = this.#recorded
  }

  #keep(said: Said<T>): void {
    this.#kept.push(said)
    this.#unsaid++
  }

  #due(): void {
    if (this.#isDue) return
    this.#isDue = true
    this.#clock.turn(() => {
      this.#isDue = false
      this.#flush()
    })
  }

  /** Puts what was handled in this turn into as few settlements as its numbers allow. */
  #gather(): void {
    const numbers = this.#numbers
    const items = this.#items
    this.#numbers = []
    this.#items = []
    for (let from = 0; from < numbers.length; ) {
      let to = from + 1
      while (to < numbers.length && numbers[to] === numbers[to - 1]! + 1) to++
      const settlement = { kind: 'handled', from: numbers[from]!, count: to - from } as const
      this.#keep({ settlement, items: items.slice(from, to) })
      from = to
    }
  }

  #flush(): void {
    this.#gather()
    const route = this.#peer.route
    if (route === undefined || this.#unsaid === 0) return
    while (this.#unsaid > 0) {
      const from = this.#kept.length - this.#unsaid
      const to = Math.min(this.#kept.length, from + MAX_IN_FRAME)
      route.send(FRAME.settled, (writer) => {
        writer.u48(this.#recorded + from + 1)
        for (let at = from; at < to; at++) writeSettlement(writer, this.#kept[at]!.settlement)
      })
      this.#unsaid -= to - from
    }
  }
}
