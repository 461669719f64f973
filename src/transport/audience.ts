import { readBarrierKey } from '../protocol/feed-batch.ts'
import { matches } from '../protocol/topics.ts'
import { Follower } from './follower.ts'

/**
 * Who listens to a feed. XPUB tells that some prefix has a listener, never whose; peers tell what they subscribe to,
 * and by a barrier that their sockets listen to it. The version changes with every answer that may have changed.
 */
export class Audience {
  #version = 0
  readonly #prefixes = new Set<string>()
  readonly #prefixLengths = new Map<number, number>()
  readonly #followers = new Map<string, Follower>()
  readonly #barriers = new Map<string, { key: Buffer; revision: number }>()

  get version(): number {
    return this.#version
  }

  get(id: string): Follower | undefined {
    return this.#followers.get(id)
  }

  all(): Iterable<Follower> {
    return this.#followers.values()
  }

  /** XPUB says that a prefix has a first listener, or lost its last; answers whose barrier it was, if it was one. */
  listens(prefix: Buffer, present: boolean): string | undefined {
    const barrier = readBarrierKey(prefix)
    if (barrier === undefined) {
      this.#prefix(prefix.toString('latin1'), present)
      return undefined
    }
    if (present) this.#barriers.set(barrier.id, { key: prefix, revision: barrier.revision })
    else {
      if (this.#barriers.get(barrier.id)?.key.equals(prefix)) this.#barriers.delete(barrier.id)
      const follower = this.#followers.get(barrier.id)
      if (follower?.barrier?.equals(prefix)) follower.isListening = false
    }
    return barrier.id
  }

  /** A peer stated what it subscribes to, as a whole. */
  follow(id: string, revision: number, patterns: readonly string[]): void {
    const before = this.#followers.get(id)
    if (before !== undefined && revision < before.revision) return
    if (patterns.length === 0) this.#followers.delete(id)
    else this.#followers.set(id, new Follower(id, revision, patterns, before))
    this.#version++
  }

  unfollow(id: string): void {
    this.#barriers.delete(id)
    if (this.#followers.delete(id)) this.#version++
  }

  /** The barrier of a subscriber, once the interest that it stands behind is known: from here on it is confirmed. */
  confirm(id: string): { follower: Follower; key: Buffer } | undefined {
    const barrier = this.#barriers.get(id)
    const follower = this.#followers.get(id)
    if (barrier === undefined || follower === undefined || follower.revision < barrier.revision)
      return undefined
    this.#barriers.delete(id)
    follower.confirmed = Math.max(follower.confirmed, barrier.revision)
    follower.barrier = barrier.key
    follower.isListening = true
    this.#version++
    return { follower, key: barrier.key }
  }

  /** Whether anybody's socket lets this topic pass; `frame` is the topic frame as latin1. */
  hears(frame: string): boolean {
    for (const length of this.#prefixLengths.keys()) {
      if (length <= frame.length && this.#prefixes.has(frame.slice(0, length))) return true
    }
    return false
  }

  /** The followers that a batch of this topic is on its way to. */
  followersOf(frame: string): Follower[] {
    return [...this.#followers.values()].filter(
      (follower) => follower.confirmed >= 0 && follower.hears(frame),
    )
  }

  /** Those who have confirmed a subscription to this topic; their feed may just be away. */
  subscribersOf(topic: string): Follower[] {
    const wanting = (follower: Follower): boolean =>
      follower.isConfirmed && follower.patterns.some((pattern) => matches(pattern, topic))
    return [...this.#followers.values()].filter(wanting)
  }

  #prefix(key: string, present: boolean): void {
    if (present === this.#prefixes.has(key)) return
    const others = this.#prefixLengths.get(key.length) ?? 0
    if (present) {
      this.#prefixes.add(key)
      this.#prefixLengths.set(key.length, others + 1)
    } else {
      this.#prefixes.delete(key)
      if (others === 1) this.#prefixLengths.delete(key.length)
      else this.#prefixLengths.set(key.length, others - 1)
    }
    this.#version++
  }
}
