import type { Clock } from '../clock.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import type { Reader } from '../protocol/bytes.ts'
import type { Payload } from '../protocol/record.ts'
import { type HandledBefore, readSettlement, type Settlement } from '../protocol/settlement.ts'
import {
  DeliveryLane,
  type DeliveryLaneOptions,
  type Handed,
  type Outgoing,
  type Verdict,
} from './delivery-lane.ts'
import { MISSED, type Missed, tellMissed } from './missed.ts'

/** A receiver without room is offered the message again after this. */
const BUSY_AGAIN_MS = 50
/** Of one peer: an honest one remembers no more that was handled and is not recorded. */
const MAX_LOOKED_UP = 65_536

export interface LanesOptions extends DeliveryLaneOptions {
  readonly missed: Missed
  /**
   * A member has handled these before they were handed over by the present numbers; resolves when that is applied,
   * which is `after` what it said earlier.
   */
  handledBefore(
    peer: Peer,
    said: readonly HandledBefore[],
    after: Promise<unknown> | undefined,
  ): Promise<void>
  /** All settlements of a frame have been applied; resolves to true when that is recorded. */
  applied(): Promise<boolean>
}

/**
 * What is handed to peers, on the delivery road: batches are taken strictly in order and sent again after a reset, so
 * between two living nodes nothing is lost. What a peer's full queue refuses is counted and told to that peer.
 */
export class Lanes {
  readonly #options: LanesOptions
  readonly #lanes = new Map<Peer, DeliveryLane>()
  #dropped = 0

  constructor(options: LanesOptions) {
    this.#options = options
  }

  get dropped(): number {
    return this.#dropped
  }

  /** At most once: a peer whose queue is full loses the message and is told so (G3, G5). */
  send(peer: Peer, topic: string, payload: Payload, sequence: number, group = ''): void {
    if (isReachable(peer) && this.hasRoom(peer, payload.sizeBytes)) {
      this.push(peer, this.#outgoing(topic, sequence, group), payload, undefined)
      return
    }
    this.#dropped++
    tellMissed(peer, topic, 1, MISSED.slow)
  }

  hasRoom(peer: Peer, bytes: number): boolean {
    return isReachable(peer) && (this.#lanes.get(peer)?.hasRoom(bytes) ?? true)
  }

  push(peer: Peer, outgoing: Outgoing, payload: Payload, handed: Handed | undefined): void {
    this.#lane(peer).push(outgoing, payload, handed)
  }

  /** Resolves when the peer has handled the message; a peer without room is offered it again. */
  handOver(peer: Peer, topic: string, payload: Payload, sequence: number, timeoutMs: number): Promise<void> {
    const { clock } = this.#options
    return new Promise((resolve, reject) => {
      const direct = new Direct(`publish to '${topic}' for peer ${peer.label}`, clock, (error) => {
        this.#lanes.get(peer)?.awaited.delete(direct)
        if (error === undefined) resolve()
        else reject(error)
      })
      direct.start(timeoutMs, () => {
        if (!isReachable(peer)) direct.lost('is not reachable', false)
        else if (this.hasRoom(peer, payload.sizeBytes))
          this.push(peer, this.#outgoing(topic, sequence, ''), payload, direct)
        else direct.offerAgain()
      })
    })
  }

  /** first settlement u48 · settlements: taken in order, each once, as what was lost with a connection is said again. */
  settled(peer: Peer, reader: Reader): void {
    if (!isReachable(peer)) return
    const lane = this.#lane(peer)
    const before: HandledBefore[] = []
    for (let number = reader.u48(); reader.left > 0; number++) {
      const settlement = readSettlement(reader)
      if (number !== lane.settledTaken + 1) continue
      if (settlement.kind !== 'handled-before') this.#apply(lane, settlement)
      else if (lane.lookedUp + before.length < MAX_LOOKED_UP) before.push(settlement)
      // Not taken, so it is said again later.
      else break
      lane.settledTaken = number
    }
    if (before.length > 0) this.#lookUp(peer, lane, before)
    const taken = lane.settledTaken
    const { applied } = this.#options
    const recorded = lane.applying === undefined ? applied() : lane.applying.then(applied)
    void recorded.then((isRecorded) => isRecorded && lane.recorded(taken))
  }

  taken(peer: Peer, number: number): void {
    this.#lanes.get(peer)?.taken(number)
  }

  resume(peer: Peer, number: number): void {
    this.#lanes.get(peer)?.resume(number)
  }

  ponged(peer: Peer, taken: number): void {
    this.#lanes.get(peer)?.ponged(taken)
  }

  sentTo(peer: Peer): number {
    return this.#lanes.get(peer)?.sent ?? 0
  }

  awaits(peer: Peer): boolean {
    return this.#lanes.get(peer)?.isAwaiting === true
  }

  /** What the peer has in hand. */
  handedTo(peer: Peer): Handed[] {
    return [...(this.#lanes.get(peer)?.awaited ?? [])]
  }

  *peers(): IterableIterator<Peer> {
    yield* this.#lanes.keys()
  }

  /** Hand-overs that somebody waits for without having journaled them. */
  get unsettled(): number {
    let unsettled = 0
    for (const lane of this.#lanes.values())
      for (const handed of lane.awaited) if (handed instanceof Direct) unsettled++
    return unsettled
  }

  /** Resolves when every peer has taken what was sent to it, at the latest after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    let cancel = (): void => {}
    const expired = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(timeoutMs, resolve)
    })
    await Promise.race([Promise.all([...this.#lanes.values()].map((lane) => lane.drained())), expired])
    cancel()
  }

  /** The peer is lost: answers what it had in hand. */
  down(peer: Peer): Handed[] {
    const lane = this.#lanes.get(peer)
    if (lane === undefined) return []
    this.#lanes.delete(peer)
    for (const topic of lane.unsettledTopics) this.#options.missed.add(peer.id + peer.boot, topic, 0)
    lane.close()
    const handed = [...lane.awaited]
    for (const each of handed)
      if (each instanceof Direct) each.lost(`was lost before it was handled: ${peer.reason}`)
    return handed
  }

  close(): void {
    for (const lane of this.#lanes.values()) {
      lane.close()
      for (const each of lane.awaited) if (each instanceof Direct) each.closed()
    }
    this.#lanes.clear()
  }

  /** What comes behind these must not be confirmed earlier, since that would confirm them, too. */
  #lookUp(peer: Peer, lane: DeliveryLane, before: readonly HandledBefore[]): void {
    const { handledBefore, fault } = this.#options
    lane.lookedUp += before.length
    const applying = handledBefore(peer, before, lane.applying)
      .catch(fault)
      .finally(() => {
        lane.lookedUp -= before.length
        if (lane.applying === applying) lane.applying = undefined
      })
    lane.applying = applying
  }

  #apply(lane: DeliveryLane, settlement: Exclude<Settlement, HandledBefore>): void {
    if (settlement.kind === 'handled') {
      const { from, count } = settlement
      if (count <= lane.awaited.size)
        for (let number = from; number < from + count; number++) this.#tell(lane, number, undefined)
      // More than there can be: it must not keep this node busy.
      else
        for (const { number } of [...lane.awaited])
          if (number >= from && number < from + count) this.#tell(lane, number, undefined)
    } else this.#tell(lane, settlement.number, settlement)
  }

  #tell(lane: DeliveryLane, number: number, verdict: Verdict | undefined): void {
    const handed = lane.awaited.get(number)
    if (handed === undefined) return
    lane.awaited.delete(handed)
    handed.settled(verdict)
  }

  #outgoing(topic: string, sequence: number, group: string): Outgoing {
    const kind = group === '' ? 'node' : 'group'
    return {
      ...{ kind, group, topic, boot: this.#options.boot, sequence, key: undefined },
      ...{ isOwed: false, attempt: 1, redelivered: false, isLast: false },
    }
  }

  #lane(peer: Peer): DeliveryLane {
    let lane = this.#lanes.get(peer)
    if (lane === undefined) {
      lane = new DeliveryLane(peer, this.#options)
      this.#lanes.set(peer, lane)
    }
    return lane
  }
}

/** A message that is handed to one peer without being journaled: its sender waits for what becomes of it. */
class Direct implements Handed {
  number = 0
  readonly #what: string
  readonly #clock: Clock
  readonly #ended: (error?: SkeinError) => void
  #offer = (): void => {}
  #cancel = (): void => {}
  #isOver = false

  constructor(what: string, clock: Clock, ended: (error?: SkeinError) => void) {
    this.#what = what
    this.#clock = clock
    this.#ended = ended
  }

  start(timeoutMs: number, offer: () => void): void {
    this.#offer = offer
    this.#cancel = this.#clock.after(timeoutMs, () =>
      this.#end(
        new SkeinError(
          'WAIT_TIMEOUT',
          `${this.#what} was not handled within ${timeoutMs} ms; it may still be`,
          {
            mayHaveRun: true,
          },
        ),
      ),
    )
    offer()
  }

  offerAgain(): void {
    this.#clock.after(BUSY_AGAIN_MS, () => {
      if (!this.#isOver) this.#offer()
    })
  }

  settled(verdict: Verdict | undefined): void {
    if (verdict === undefined) this.#end()
    else if (verdict.kind === 'handed-back') {
      if (verdict.why === 'busy') this.offerAgain()
      else this.#end(new SkeinError('NO_SUBSCRIBERS', `${this.#what}: it does not want it any more`))
    } else if (verdict.kind === 'later') this.offerAgain()
    else this.#end(new SkeinError('HANDLER_FAILED', `${this.#what}: ${verdict.text}`))
  }

  lost(how: string, mayHaveRun = true): void {
    this.#end(new SkeinError('PEER_LOST', `${this.#what}: the peer ${how}`, { mayHaveRun }))
  }

  closed(): void {
    this.#end(new SkeinError('CLOSED', `${this.#what}: the node was closed before it was handled`))
  }

  #end(error?: SkeinError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#cancel()
    this.#ended(error)
  }
}

const isReachable = (peer: Peer): boolean => peer.link !== undefined && peer.address !== null
