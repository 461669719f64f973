import type { Clock } from '../clock.ts'
import type { Peer } from './peer.ts'

const TICK_MS = 1000
/** A tick later than this means that this node itself has stalled. */
const STALL_MS = 500
const PING_AWAITED_MS = 1000
const PING_IDLE_MS = 15_000
const SUSPECT_MS = 3000
const DOWN_MS = 10_000

export interface LivenessOptions {
  readonly clock: Clock
  /** Whether a reply, an ack or credit is awaited from this peer. */
  awaits(peer: Peer): boolean
  ping(peer: Peer): void
  changed(): void
  lost(peer: Peer, reason: string): void
}

/**
 * Judges peers by their silence, all on one tick: a timer for each would cost a node of fifty a good part of a core.
 * A peer from whom something is awaited is pinged each second, an idle one every 15 s.
 */
export class Liveness {
  readonly #options: LivenessOptions
  #peers: ReadonlyMap<string, Peer> = new Map()
  #lastTickAt = 0
  #cancel: (() => void) | undefined

  constructor(options: LivenessOptions) {
    this.#options = options
  }

  start(peers: ReadonlyMap<string, Peer>): void {
    this.#peers = peers
    this.#lastTickAt = this.#options.clock.now()
    this.#cancel = this.#options.clock.after(TICK_MS, this.#tick)
  }

  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  /** Life is any traffic. */
  heard(peer: Peer): void {
    peer.heardAt = this.#options.clock.now()
    peer.pingedAt = 0
    if (peer.state !== 'suspect') return
    peer.state = 'up'
    peer.reason = ''
    this.#options.changed()
  }

  readonly #tick = (): void => {
    const now = this.#options.clock.now()
    const stalledMs = now - this.#lastTickAt - TICK_MS
    this.#lastTickAt = now
    if (stalledMs > STALL_MS) {
      // What came while we were away is still unread: our own stall is nobody's silence.
      for (const peer of this.#peers.values()) if (peer.pingedAt > 0) peer.pingedAt += stalledMs
    } else {
      for (const peer of [...this.#peers.values()]) this.#judge(peer, now)
    }
    this.#cancel = this.#options.clock.after(TICK_MS, this.#tick)
  }

  #judge(peer: Peer, now: number): void {
    if (peer.state === 'down' || (peer.link === undefined && peer.route === undefined)) return
    if (peer.pingedAt === 0) {
      // Of one that was not dialled no broken connection tells: a ping that cannot leave does.
      const isWatched = peer.link === undefined || this.#options.awaits(peer)
      const quietMs = isWatched ? PING_AWAITED_MS : PING_IDLE_MS
      // Half a tick of tolerance, or a ping due at each second would go out every other one.
      if (now - peer.heardAt < quietMs - TICK_MS / 2) return
      peer.pingedAt = now
      this.#options.ping(peer)
      return
    }
    const silentMs = now - peer.pingedAt
    if (silentMs >= DOWN_MS) {
      this.#options.lost(peer, `it has answered no ping for ${Math.round(silentMs / 1000)} s`)
      return
    }
    if (silentMs >= SUSPECT_MS && peer.state === 'up') {
      peer.state = 'suspect'
      peer.reason = 'it does not answer pings'
      this.#options.changed()
    }
    this.#options.ping(peer)
  }
}
