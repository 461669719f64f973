import type { Clock, LagMeter } from '../clock.ts'
import type { Peer } from './peer.ts'

const TICK_MS = 1000
const TICKS_REMEMBERED = 10
/** A tick later than this means that this node itself has stalled. */
const STALL_MS = 500
const PING_AWAITED_MS = 1000
const PING_IDLE_MS = 15_000
const PING_IDLE_MAX_MS = 60_000
/** From so many peers on each is asked more rarely, so that a node of a large mesh pings no more often than others do. */
const PINGED_PEERS = 16
const SUSPECT_MS = 3000
const DOWN_MS = 10_000

export interface LivenessOptions {
  /** Of this node. */
  readonly id: string
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
  readonly #lateMs: number[] = []
  #lag: LagMeter | undefined
  #lastTickAt = 0
  #cancel: (() => void) | undefined

  constructor(options: LivenessOptions) {
    this.#options = options
  }

  start(peers: ReadonlyMap<string, Peer>): void {
    this.#peers = peers
    this.#lastTickAt = this.#options.clock.now()
    this.#lag = this.#options.clock.lag?.()
    this.#cancel = this.#options.clock.after(TICK_MS, this.#tick)
  }

  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#lag?.close()
    this.#lag = undefined
  }

  /** The longest that this node's event loop was held up at a stretch, of what ended in the last ten seconds, in ms. */
  get lagMs(): number {
    return Math.max(0, this.#heldUpMs, ...this.#lateMs)
  }

  /** Since the last tick. What holds it up before the first one is its own start. */
  get #heldUpMs(): number {
    return this.#lateMs.length === 0 ? 0 : (this.#lag?.worstMs ?? 0)
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

  /** Something casts doubt on it: it is asked at once, and judged by its answer. */
  doubt(peer: Peer): void {
    if (!peer.isUp || peer.pingedAt > 0) return
    peer.pingedAt = this.#options.clock.now()
    this.#options.ping(peer)
  }

  readonly #tick = (): void => {
    const now = this.#options.clock.now()
    const stalledMs = now - this.#lastTickAt - TICK_MS
    this.#lastTickAt = now
    // A stall of less than a tick may fall between two of them.
    this.#lateMs.push(Math.max(stalledMs, this.#heldUpMs))
    this.#lag?.reset()
    if (this.#lateMs.length > TICKS_REMEMBERED) this.#lateMs.shift()
    if (stalledMs > STALL_MS) {
      // What came while we were away is still unread: our own stall is nobody's silence.
      for (const peer of this.#peers.values()) if (peer.pingedAt > 0) peer.pingedAt += stalledMs
    } else {
      for (const peer of [...this.#peers.values()]) this.#judge(peer, now)
    }
    this.#cancel = this.#options.clock.after(TICK_MS, this.#tick)
  }

  /** That an idle peer's host has vanished shows TCP itself; a ping finds those that were stopped. */
  #idleMsOf(peer: Peer): number {
    const idleMs = Math.min(PING_IDLE_MAX_MS, PING_IDLE_MS * Math.max(1, this.#peers.size / PINGED_PEERS))
    // One ping tells both ends that the other lives: so one of the two leaves it to the other.
    return this.#options.id < peer.id ? idleMs : 1.25 * idleMs
  }

  #judge(peer: Peer, now: number): void {
    if (peer.state === 'down' || (peer.link === undefined && peer.route === undefined)) return
    if (peer.pingedAt === 0) {
      // Of one that was not dialled no broken connection tells: a ping that cannot leave does.
      const isWatched = peer.link === undefined || this.#options.awaits(peer)
      const quietMs = isWatched ? PING_AWAITED_MS : this.#idleMsOf(peer)
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
