import type { Peer } from '../peers/peer.ts'
import { FRAME } from '../protocol/control-frames.ts'

/** Boots of nodes that went and may return, and topics of each. */
const MAX_NODES = 1024
const MAX_TOPICS = 65_536

/** Why a node misses something. The wire's numbers: never change one. */
export const MISSED = { slow: 0, lost: 1 } as const

/** What boots of nodes that are away will have to be told when they return: how much of which topic never came (G5). */
export class Missed {
  readonly #nodes = new Map<string, Map<string, number>>()

  /** So many messages; 0 where nobody knows how many. `node` is its id and boot. */
  add(node: string, topic: string, count: number): void {
    const topics = this.#of(node)
    const known = topics.get(topic)
    if (known === undefined && topics.size >= MAX_TOPICS) return
    topics.set(topic, known === 0 || count === 0 ? 0 : (known ?? 0) + count)
  }

  /** It is back, and is told. */
  tell(peer: Peer): void {
    const name = peer.id + peer.boot
    for (const [topic, count] of this.#nodes.get(name) ?? []) tellMissed(peer, topic, count, MISSED.lost)
    this.#nodes.delete(name)
  }

  #of(name: string): Map<string, number> {
    const known = this.#nodes.get(name)
    if (known !== undefined) return known
    if (this.#nodes.size >= MAX_NODES) this.#nodes.delete(this.#nodes.keys().next().value!)
    const topics = new Map<string, number>()
    this.#nodes.set(name, topics)
    return topics
  }
}

/** Tells a peer that is there. */
export const tellMissed = (peer: Peer, topic: string, count: number, reason: number): void => {
  const end = peer.link?.isOpen ? peer.link : peer.route
  end?.send(FRAME.missed, (writer) => {
    writer.text8(topic)
    writer.u48(count)
    writer.u8(reason)
  })
}
