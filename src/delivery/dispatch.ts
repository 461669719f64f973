import type { Gossip } from '../discovery/gossip.ts'
import { SkeinError } from '../errors.ts'
import type { Peer } from '../peers/peer.ts'
import type { Reader } from '../protocol/bytes.ts'
import { FRAME } from '../protocol/control-frames.ts'
import type { Feed } from '../transport/feed.ts'
import type { Answers } from './answers.ts'
import type { Following } from './following.ts'
import type { Lanes } from './lanes.ts'
import type { Gap } from './message.ts'
import { MISSED } from './missed.ts'
import type { Outbox } from './outbox.ts'
import type { Requests } from './requests.ts'

export interface Modules {
  readonly feed: Feed
  readonly following: Following
  readonly lanes: Lanes
  readonly outbox: Outbox
  windowed(peer: Peer, reader: Reader): void
  readonly requests: Requests
  readonly answers: Answers
  readonly gossip: Gossip
  gap(gap: Gap): void
}

const ANSWERS = new Set<number>([FRAME.reply, FRAME.taken, FRAME.resume, FRAME.settled])
const QUESTIONS = new Set<number>([FRAME.request, FRAME.cancel, FRAME.pending, FRAME.report])

/** The control road on one page: what each frame of a known peer means. Presence (hello … bye) stays in the roster. */
export const dispatch = (peer: Peer, type: number, reader: Reader, onLink: boolean, to: Modules): void => {
  // Answers come on the connection that we dialled, questions on the one that the peer did: nothing else is believed.
  if ((ANSWERS.has(type) && !onLink) || (QUESTIONS.has(type) && onLink)) {
    throw new SkeinError(
      'MALFORMED',
      `a frame of type ${type} came from peer ${peer.label} on the wrong connection`,
    )
  }
  switch (type) {
    case FRAME.request:
      return to.answers.requested(peer, reader)
    case FRAME.reply:
      return to.requests.replied(peer, reader)
    case FRAME.cancel:
      return to.answers.cancelled(peer, reader)
    case FRAME.pending:
      return to.answers.pending(peer, reader)
    case FRAME.report:
      return to.feed.reported(peer.id, reader.u48(), reader.u48())
    case FRAME.gossip:
      return to.gossip.take(peer.id, reader)
    case FRAME.askReport:
      return to.following.askedFor(peer, reader.u48())
    case FRAME.taken:
      return to.lanes.taken(peer, reader.u48())
    case FRAME.resume:
      return to.lanes.resume(peer, reader.u48())
    case FRAME.settled:
      return to.lanes.settled(peer, reader)
    case FRAME.window:
      return to.windowed(peer, reader)
    case FRAME.withdraw:
      return to.outbox.withdrawn(reader.text8(), reader.text8())
    case FRAME.missed: {
      const topic = reader.text8()
      const count = reader.u48()
      const reason = reader.u8() === MISSED.lost ? 'lost' : 'slow'
      return to.gap({ publisher: peer.id, topic, ...(count === 0 ? {} : { count }), reason })
    }
    default:
      // A later version may have kinds that we do not know; they are left unread.
      return
  }
}
