import type { Clock } from '../clock.ts'
import type { Peer } from '../peers/peer.ts'
import type { Backlog } from './backlog.ts'
import type { Handed } from './delivery-lane.ts'
import type { Lanes } from './lanes.ts'
import { HandedCopy } from './places.ts'

const LOOK_MS = 1000

/**
 * How long members keep what they hold. Routing and leases are two things: a peer that is silent gets nothing new, but
 * what it has in hand may run on there, until its lease is over or it is known to have died.
 */
export class Leases {
  readonly #clock: Clock
  readonly #lanes: Lanes
  /** Peers that vanished without a word, with what they had in hand. */
  readonly #doubts = new Map<string, { peer: Peer; handed: HandedCopy[] }>()
  #cancel: (() => void) | undefined
  #isClosed = false

  constructor(clock: Clock, lanes: Lanes) {
    this.#clock = clock
    this.#lanes = lanes
  }

  start(): void {
    this.#look()
  }

  close(): void {
    this.#isClosed = true
    this.#cancel?.()
  }

  /** A peer is down: it has died, or is only silent. */
  down(peer: Peer, handed: readonly Handed[], mayLive: boolean): void {
    const all = [
      ...(this.#doubts.get(peer.id)?.handed ?? []),
      ...handed.filter((each) => each instanceof HandedCopy),
    ]
    this.#doubts.delete(peer.id)
    if (mayLive && !this.#isClosed) this.#doubts.set(peer.id, { peer, handed: all })
    else for (const each of all) each.giver.lost(each)
  }

  /** It is back: under the same boot it has what it was given, or never got it. */
  back(peer: Peer): void {
    const doubt = this.#doubts.get(peer.id)
    if (doubt === undefined) return
    this.#doubts.delete(peer.id)
    for (const handed of doubt.handed)
      if (doubt.peer.boot === peer.boot) handed.giver.rehand(handed)
      else handed.giver.lost(handed)
  }

  /** Nothing is owed to this backlog any more: what a silent peer had of it is in nobody's hand. */
  release(peer: Peer, backlog: Backlog): void {
    for (const handed of this.#doubts.get(peer.id)?.handed ?? [])
      if (handed.giver === backlog) backlog.lost(handed)
  }

  #look(): void {
    const now = this.#clock.now()
    for (const peer of this.#lanes.peers())
      for (const handed of this.#lanes.handedTo(peer))
        if (handed instanceof HandedCopy) this.#judge(handed, peer, now)
    for (const [id, { peer, handed }] of this.#doubts) {
      for (const each of handed) this.#judge(each, peer, now)
      if (handed.every((each) => each.isOver)) this.#doubts.delete(id)
    }
    this.#cancel = this.#clock.after(LOOK_MS, () => this.#look())
  }

  #judge(handed: HandedCopy, peer: Peer, now: number): void {
    if (now - peer.heardAt <= handed.place.member.leaseMs) return
    // It would be the one with the least in hand: as long as nothing is heard of it, it gets nothing.
    handed.place.busyUntil = now + 2 * LOOK_MS
    if (!handed.isOver) handed.giver.lost(handed)
  }
}
