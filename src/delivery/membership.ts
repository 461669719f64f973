import type { Peer } from '../peers/peer.ts'
import type { Addressee } from '../protocol/addressee.ts'
import type { Service } from '../protocol/control-frames.ts'
import { receivedLocally } from '../protocol/payload.ts'
import type { Received } from '../protocol/record.ts'
import type { Verdict } from './delivery-lane.ts'
import type { Lanes } from './lanes.ts'
import { Message, type Origin } from './message.ts'
import type { Member } from './places.ts'
import { type Settle, verdictOn } from './verdict.ts'

/** A node's plain subscriptions: what one sender may have unsettled there. */
const PLAIN = { messages: 512, bytes: 4 * 1024 * 1024, leaseMs: 60_000 } as const

export interface MembershipOptions {
  readonly self: Origin
  readonly lanes: Lanes
  peers(): Iterable<Peer>
  /** What this very node does a part of the work of. */
  services(): Service[]
  /** Gives a message to this very node. */
  deliver(addressee: Addressee, message: Message, record: Received, settle: Settle): void
  /** What this very node was given has been settled. */
  settled(): void
}

/** Who can do a part of an addressee's work: peers, and this very node. */
export class Membership {
  readonly #options: MembershipOptions

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** All that are there now. */
  of(addressee: Addressee): Member[] {
    const { self, peers, services } = this.#options
    const members: Member[] = []
    if (addressee.kind === 'node') {
      if (addressee.name === nodeOf(self).name) members.push(this.self(addressee))
      for (const peer of peers())
        if (peer.isUp && nodeOf(peer).name === addressee.name) members.push(this.plain(peer))
      return members
    }
    const isMine = ({ kind, name }: Service): boolean => kind === addressee.kind && name === addressee.name
    const own = services().find(isMine)
    if (own !== undefined) members.push(this.self(addressee, own))
    for (const peer of peers()) {
      const service = canBeGiven(peer) ? peer.interest.services.find(isMine) : undefined
      if (service !== undefined) members.push(this.peer(peer, service))
    }
    return members
  }

  peer(peer: Peer, service: Service): Member {
    return { ...windowOf(service), ...this.#ways(peer) }
  }

  /** All plain subscriptions of a peer together. */
  plain(peer: Peer): Member {
    return { ...PLAIN, patterns: undefined, ...this.#ways(peer) }
  }

  /** This very node, as a member of a group or queue, or with its plain subscriptions. */
  self(addressee: Addressee, service?: Service): Member {
    const { self, deliver, settled } = this.#options
    return {
      id: self.id,
      ...(service === undefined ? { ...PLAIN, patterns: undefined } : windowOf(service)),
      // It does not lose itself.
      leaseMs: Number.POSITIVE_INFINITY,
      hasRoom: () => true,
      give: (handed) => {
        const { envelope, payload, sequence } = handed.copy.loaded
        const { key, attempt, redelivered } = handed
        const record = receivedLocally(payload)
        const origin = { id: self.id, boot: envelope.boot }
        const message = new Message(envelope.topic, origin, 'owed', sequence, record, {
          key,
          attempt,
          redelivered,
        })
        const settle: Settle = (error) => {
          handed.settled(error === undefined ? undefined : (verdictOn(0, error) as Verdict))
          settled()
        }
        // Not within the caller's turn: a handler never runs inside push().
        queueMicrotask(() => deliver(addressee, message, record, settle))
      },
    }
  }

  #ways(peer: Peer): Pick<Member, 'id' | 'hasRoom' | 'give'> {
    const { lanes } = this.#options
    return {
      id: peer.id,
      hasRoom: (bytes) => lanes.hasRoom(peer, bytes),
      give: (handed) => lanes.push(peer, handed, handed.copy.loaded.payload, handed),
    }
  }
}

/** A node's plain subscriptions, in this boot of it. */
export const nodeOf = ({ id, boot }: Origin): Addressee => ({ kind: 'node', name: id + boot })

/** Whether something can be handed to it. */
export const canBeGiven = (peer: Peer): boolean =>
  peer.isUp && peer.link !== undefined && peer.address !== null

const windowOf = ({
  kind,
  patterns,
  messages,
  bytes,
  leaseMs,
}: Service): Omit<Member, 'id' | 'hasRoom' | 'give'> => ({
  patterns: kind === 'group' ? patterns : undefined,
  messages,
  bytes,
  leaseMs,
})
