import { type Advert, endpointsOf } from './advert.ts'

export const MAX_NEIGHBOURS = 1024
/** Of those whose adverts come from one address. */
export const MAX_PER_SOURCE = 256
/** Addresses from which one node was heard: it may have several, and anybody may repeat its advert. */
const MAX_SOURCES = 4
/** Everybody is asked again at least every two minutes: who kept silent for so long may have to make room. */
const STALE_MS = 300_000
/** Known already, but perhaps forgotten by who was told, as after a long break. */
const TELL_AGAIN_MS = 10_000
const TELL_CHANGED_MS = 1000

interface Neighbour {
  /** Who introduced it, on whose account it stands. */
  readonly account: string
  /** The last first. */
  sources: string[]
  advert: Advert
  heardAt: number
  toldAt: number
  /** What was told of it, if anything. */
  told: string
  endpoints: readonly string[]
}

/** Whose adverts were heard, within bounds: nobody can fill the memory, or take the places of nodes elsewhere. */
export class Neighbours {
  /** By instance, those heard least lately first. */
  #all = new Map<string, Neighbour>()
  readonly #accounts = new Map<string, number>()

  get size(): number {
    return this.#all.size
  }

  /** The endpoints to be told; none where there is no news, 'crowd' where there is no room for one more. */
  hear(instance: string, advert: Advert, source: string, now: number): readonly string[] | 'crowd' {
    const neighbour = this.#all.get(instance) ?? this.#introduce(advert, source, now)
    if (neighbour === undefined) return 'crowd'
    this.#all.delete(instance)
    this.#all.set(instance, neighbour)
    neighbour.advert = advert
    neighbour.heardAt = now
    neighbour.sources = [source, ...neighbour.sources.filter((other) => other !== source)].slice(
      0,
      MAX_SOURCES,
    )
    const text = JSON.stringify(advert)
    const endpoints = endpointsOf(advert, neighbour.sources)
    const isNews =
      text !== neighbour.told || endpoints.some((endpoint) => !neighbour.endpoints.includes(endpoint))
    if (now - neighbour.toldAt < (isNews ? TELL_CHANGED_MS : TELL_AGAIN_MS)) return []
    neighbour.toldAt = now
    neighbour.told = text
    neighbour.endpoints = endpoints
    return endpoints
  }

  /** It withdraws, or somebody says so. Answers what had been told of it, once. */
  withdraw(instance: string): Advert | undefined {
    const neighbour = this.#all.get(instance)
    if (neighbour === undefined || neighbour.told === '') return undefined
    // Kept, so that adverts and goodbyes in turn are not told more often than others; but the first to make room.
    neighbour.told = ''
    neighbour.heardAt = Number.NEGATIVE_INFINITY
    this.#all = new Map([[instance, neighbour], ...this.#all])
    return neighbour.advert
  }

  /** Whoever is heard next is told again. */
  tellAgain(): void {
    for (const neighbour of this.#all.values()) neighbour.toldAt = Number.NEGATIVE_INFINITY
  }

  #introduce(advert: Advert, account: string, now: number): Neighbour | undefined {
    if (!this.#makeRoom(account, now)) return undefined
    this.#accounts.set(account, (this.#accounts.get(account) ?? 0) + 1)
    const toldAt = Number.NEGATIVE_INFINITY
    return { account, sources: [], advert, heardAt: now, toldAt, told: '', endpoints: [] }
  }

  #makeRoom(account: string, now: number): boolean {
    const own = this.#accounts.get(account) ?? 0
    if (own >= MAX_PER_SOURCE) return this.#dropStale(now, account)
    if (this.#all.size < MAX_NEIGHBOURS || this.#dropStale(now)) return true
    // Many behind one address make room for the few behind another.
    const [largest, count] = [...this.#accounts].reduce((most, one) => (one[1] > most[1] ? one : most))
    return count > own + 1 && this.#dropStale(Number.POSITIVE_INFINITY, largest)
  }

  /** Drops one who has been silent for long, of this account if one is named. */
  #dropStale(now: number, account?: string): boolean {
    for (const [instance, neighbour] of this.#all) {
      if (now - neighbour.heardAt < STALE_MS) return false
      if (account === undefined || neighbour.account === account)
        return this.#drop(instance, neighbour.account)
    }
    return false
  }

  #drop(instance: string, account: string): true {
    this.#all.delete(instance)
    const others = this.#accounts.get(account)! - 1
    if (others === 0) this.#accounts.delete(account)
    else this.#accounts.set(account, others)
    return true
  }
}
