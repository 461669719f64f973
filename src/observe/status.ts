import type { PeerInfo } from '../peers/peer.ts'
import type { Address } from '../protocol/control-frames.ts'

/** What every node answers to without being told, and states to nobody: how it sees itself and its mesh. */
export const STATUS = '$skein.status'

/** Names that begin so are skein's own. */
export const isReserved = (name: string): boolean => name.startsWith('$skein.')

/** A subscription as a diagnosis sees it. */
export interface SubscriptionStatus {
  readonly pattern: string
  /** The group or queue whose work it does. */
  readonly addressee?: { readonly kind: 'group' | 'queue'; readonly name: string }
  /** Messages that wait for their handler. */
  readonly queued: number
  /** Messages dropped because its queue was full. */
  readonly dropped: number
}

/** What a node may be asked for beside its status: a topic, or the name of a responder. */
export interface StatusQuery {
  readonly topic?: string
}

/** What a node answers to `$skein.status`. */
export interface NodeStatus {
  readonly id: string
  readonly name: string
  readonly boot: string
  readonly mesh: string
  /** Version of the wire. */
  readonly protocol: number
  /** Version of Node.js. */
  readonly runtime: string
  readonly host: string
  readonly pid: number
  /** True if it listens beyond its host with nothing authenticated. */
  readonly open: boolean
  /** Null if it only dials. */
  readonly address: Address | null
  /** Its wall clock, in ms since 1970. */
  readonly wallMs: number
  /**
   * The longest that its event loop was held up at a stretch, of what ended in the last ten seconds, in ms. It may have
   * been up to 200 ms more, and stalls shorter than that may not be seen.
   */
  readonly lagMs: number
  /** Messages that it knows to have missed. */
  readonly missed: number
  readonly subscriptions: readonly SubscriptionStatus[]
  readonly responders: readonly string[]
  readonly peers: readonly PeerInfo[]
  /** Ids of peers that are not up and yet want the topic that was asked for: nobody else may know that they do. */
  readonly wanting?: readonly string[]
}
