import { isIP } from 'node:net'
import type { Clock } from '../clock.ts'
import { messageOf, SkeinError } from '../errors.ts'
import { endpointOf } from '../protocol/control-frames.ts'
import { isEndpoint, parseEndpoint } from '../protocol/endpoint.ts'
import type { Announcement, Findings, Outcome, ReasonCode, Sighting, Source } from './discovery.ts'

const AGAIN_MS = 500
const AGAIN_MAX_MS = 30_000
/** A seed that answers is asked again this often, so that it is found again and its name resolved anew. */
const REST_MS = 30_000
const RESOLVE_MS = 5000
/** A lookup that hangs is given this long before another one is begun beside it. */
const LOOKUP_MAX_MS = 60_000
/** Addresses of which nothing was heard by then count as silent: nobody may have had the time to try them. */
const ANSWER_MS = 10_000
const MAX_ADDRESSES = 8
/** Reasons come from outside, so neither their number nor their length is to be trusted. */
const MAX_CAUSES = 8
const MAX_REASON = 512
/** Of one that was tried too lately to say more. */
const UNTOLD = 'it has not answered yet'

/** What is said of a connection that stood, and ended because other sockets than ours are behind it. */
const STRANGE = /no control socket/

const codeOf = (kind: SeedState['state'], worst: Outcome | undefined): ReasonCode => {
  if (kind === 'unresolvable') return 'NAME_UNRESOLVED'
  if (kind === 'rejected') return worst?.code ?? 'REJECTED'
  if (kind === 'silent') return 'NO_ANSWER'
  return STRANGE.test(worst?.reason ?? '') ? 'NOT_A_NODE' : 'CONNECTION_REFUSED'
}

/** One seed as it stands, for people. */
export interface SeedState {
  /** As it was written. */
  readonly seed: string
  /** What it was last resolved to. */
  readonly endpoints: readonly string[]
  readonly state: 'resolving' | 'trying' | 'unresolvable' | Outcome['kind']
  readonly reason: string
  /** The same for programs, where there is a reason. */
  readonly code?: ReasonCode
  /** Who answers there. */
  readonly peer?: string
}

export interface SeedsOptions {
  /** Each a valid `tcp://host:port`. */
  readonly seeds: readonly string[]
  readonly clock: Clock
  /** All addresses of a host name. */
  resolve(host: string): Promise<readonly string[]>
}

/** Addresses that a user has named. Each is tried until somebody answers there, and looked at again for ever after. */
export class Seeds implements Source {
  readonly name = 'seed'
  readonly #options: SeedsOptions
  #seeds: readonly Seed[] = []
  #closed = false

  constructor(options: SeedsOptions) {
    this.#options = options
  }

  /** Every address of every seed has had a first answer, or shown that it has none. */
  get isSettled(): boolean {
    return this.#seeds.every((seed) => seed.isSettled)
  }

  start(_self: Announcement | null, on: Findings): Promise<void> {
    if (this.#closed || this.#seeds.length > 0) return Promise.resolve()
    this.#seeds = [...new Set(this.#options.seeds)].map((seed) => new Seed(seed, this.#options, on))
    for (const seed of this.#seeds) if (!this.#closed) seed.ask()
    return Promise.resolve()
  }

  tried(_sighting: Sighting, endpoint: string, outcome: Outcome): void {
    if (this.#closed) return
    // Two seeds may lead to one address, which is tried for one of them.
    for (const seed of this.#seeds) seed.tried(endpoint, outcome)
  }

  /** A peer is lost: if it was one that a seed led to, another boot of it may be there soon. */
  lost(peer: string): void {
    for (const seed of this.#seeds) if (!this.#closed) seed.lost(peer)
  }

  moved(_self: Announcement | null = null): void {
    for (const seed of this.#seeds) if (!this.#closed) seed.askAnew()
  }

  states(): readonly SeedState[] {
    return this.#seeds.map((seed) => seed.state())
  }

  close(): Promise<void> {
    this.#closed = true
    for (const seed of this.#seeds) seed.close()
    return Promise.resolve()
  }
}

class Seed {
  isSettled = false
  readonly #text: string
  readonly #host: string
  readonly #port: number
  readonly #options: SeedsOptions
  readonly #on: Findings
  /** Number of the present try: an answer to an earlier one is nothing. */
  #round = 0
  #failures = 0
  /** At most one at a time: lookups that hang would else use up the threads that file access needs, too. */
  #lookup: Promise<readonly string[]> | undefined
  #lookupAt = 0
  /** Why its name could not be resolved this time; the addresses it had are tried nevertheless. */
  #flaw = ''
  #endpoints: readonly string[] = []
  readonly #outcomes = new Map<string, Outcome>()
  #isAwaited = false
  #state: SeedState['state'] = 'resolving'
  #reason = UNTOLD
  #code: ReasonCode | undefined
  #peer: string | undefined
  #said = new Set<string>()
  #lastSaid = ''
  #cancel: (() => void) | undefined

  constructor(text: string, options: SeedsOptions, on: Findings) {
    const { host, port } = parseEndpoint(text)!
    this.#text = text
    this.#host = host
    this.#port = port
    this.#options = options
    this.#on = on
  }

  ask(): void {
    const round = ++this.#round
    if (isIP(this.#host) !== 0) {
      this.#dial([endpointOf(this.#host, this.#port)])
      return
    }
    this.#arm(RESOLVE_MS, () => this.#unresolved(round, `no answer within ${RESOLVE_MS / 1000} s`))
    void this.#look().then(
      (addresses) => this.#resolved(round, addresses),
      (error: unknown) => this.#unresolved(round, messageOf(error)),
    )
  }

  /** The network is another one: what was found out about this seed no longer counts. */
  askAnew(): void {
    this.#lookup = undefined
    this.#failures = 0
    this.ask()
  }

  lost(peer: string): void {
    if (this.#state !== 'up' || this.#peer !== peer) return
    this.#state = 'trying'
    this.#reason = UNTOLD
    this.#peer = undefined
    this.#askIn(AGAIN_MS)
  }

  tried(endpoint: string, outcome: Outcome): void {
    if (!this.#endpoints.includes(endpoint)) return
    this.#outcomes.set(endpoint, outcome)
    const isComplete = this.#outcomes.size === this.#endpoints.length
    this.isSettled ||= isComplete
    const found = this.#outcomeOf('up') ?? this.#outcomeOf('self')
    if (found !== undefined) this.#found(found)
    else if (isComplete && this.#isAwaited) this.#failed()
  }

  state(): SeedState {
    return {
      seed: this.#text,
      endpoints: this.#endpoints,
      state: this.#state,
      reason: this.#reason,
      ...(this.#code === undefined ? {} : { code: this.#code }),
      ...(this.#peer === undefined ? {} : { peer: this.#peer }),
    }
  }

  close(): void {
    this.#round++
    this.#cancel?.()
  }

  /** The one timer of this seed: what it awaits next. */
  #arm(delayMs: number, run: () => void): void {
    this.#cancel?.()
    this.#cancel = this.#options.clock.after(delayMs, run)
  }

  #askIn(delayMs: number): void {
    this.#arm(delayMs * (0.5 + this.#options.clock.random() / 2), () => {
      this.isSettled = true
      this.ask()
    })
  }

  #look(): Promise<readonly string[]> {
    const now = this.#options.clock.now()
    if (this.#lookup !== undefined && now - this.#lookupAt < LOOKUP_MAX_MS) return this.#lookup
    const lookup = Promise.resolve(this.#host).then((host) => this.#options.resolve(host))
    const forget = (): void => {
      if (this.#lookup === lookup) this.#lookup = undefined
    }
    void lookup.then(forget, forget)
    this.#lookup = lookup
    this.#lookupAt = now
    return lookup
  }

  #resolved(round: number, addresses: readonly string[]): void {
    if (round !== this.#round) return
    const endpoints = blend(addresses.filter((address) => isEndpoint(endpointOf(address, this.#port))))
      .map((address) => endpointOf(address, this.#port))
      .slice(0, MAX_ADDRESSES)
    if (endpoints.length === 0) {
      this.#unresolved(round, 'it has no address')
      return
    }
    this.#flaw = ''
    this.#dial(endpoints)
  }

  #unresolved(round: number, why: string): void {
    if (round !== this.#round) return
    this.#round++
    this.#flaw = why.slice(0, MAX_REASON)
    if (this.#endpoints.length > 0) this.#dial(this.#endpoints)
    else this.#failed()
  }

  #dial(endpoints: readonly string[]): void {
    this.#endpoints = endpoints
    this.#outcomes.clear()
    this.#isAwaited = true
    if (this.#state === 'resolving' || this.#state === 'unresolvable') this.#state = 'trying'
    // Of a connection that stands nothing is reported, so there only a report is news.
    if (this.#isThere) this.#askIn(REST_MS)
    else this.#arm(ANSWER_MS, () => this.#overdue())
    this.#on.seen({ id: undefined, boot: undefined, name: this.#text, endpoints, source: 'seed' })
  }

  get #isThere(): boolean {
    return this.#state === 'up' || this.#state === 'self'
  }

  #outcomeOf(kind: Outcome['kind']): Outcome | undefined {
    return [...this.#outcomes.values()].find((outcome) => outcome.kind === kind)
  }

  /** Somebody is there, or it is this node itself. */
  #found({ kind, reason, peer }: Outcome): void {
    const isKnown = this.#state === kind
    this.#state = kind
    this.#reason = kind === 'self' ? reason : ''
    this.#code = undefined
    this.#peer = peer
    this.#failures = 0
    // What was wrong before is worth a word again, but not when nothing else was wrong in between.
    this.#said = new Set([this.#lastSaid])
    if (!isKnown) this.#askIn(REST_MS)
  }

  #overdue(): void {
    for (const endpoint of this.#endpoints) {
      if (this.#outcomes.has(endpoint)) continue
      this.#outcomes.set(endpoint, { kind: 'silent', reason: 'nothing was heard from there' })
    }
    this.#failed()
  }

  #failed(): void {
    this.#isAwaited = false
    this.isSettled = true
    // A node that answers but will not have us explains more than an address where nobody is.
    const worst = this.#outcomeOf('rejected') ?? this.#outcomeOf('silent') ?? this.#outcomeOf('refused')
    const kind = this.#flaw !== '' || worst === undefined ? 'unresolvable' : worst.kind
    const told = [...this.#outcomes].map(([at, { reason }]) => this.#told(at, reason.slice(0, MAX_REASON)))
    this.#state = kind
    this.#code = codeOf(kind, worst)
    this.#reason = [...(this.#flaw === '' ? [] : [this.#flaw]), ...told].join('; ')
    this.#peer = worst?.peer
    const againMs = Math.min(AGAIN_MAX_MS, AGAIN_MS * 2 ** this.#failures)
    this.#failures++
    this.#askIn(againMs)
    const detail = kind === 'unresolvable' ? this.#flaw : kind === 'rejected' ? worst!.reason : ''
    this.#warn(this.#code, `${this.#code} ${detail.slice(0, MAX_REASON)}`)
  }

  /** What was said of an address, which is named once, and not where it is the seed itself. */
  #told(at: string, reason: string): string {
    const bare = reason.replace(`${at}: `, '').replace(` at ${at}`, '').replace(at, 'it')
    return at === this.#text ? bare : `${at}: ${bare}`
  }

  #warn(code: ReasonCode, cause: string): void {
    if (this.#said.has(cause) || this.#said.size >= MAX_CAUSES) return
    this.#said.add(cause)
    this.#lastSaid = cause
    const { what, remedy } = this.#explain(code)
    // Quoted, because it may hold what a stranger has sent.
    const why = JSON.stringify(this.#reason).slice(1, -1)
    const sentence = `could not reach the seed "${this.#text}", because ${what} (${why}): ${remedy}; it is tried again until somebody answers`
    this.#on.warning(new SkeinError('SEED_UNREACHABLE', sentence))
  }

  #explain(code: ReasonCode): { what: string; remedy: string } {
    switch (code) {
      case 'NAME_UNRESOLVED':
        return {
          what: `the name "${this.#host}" could not be resolved`,
          remedy: 'correct the name or the resolver of this host, or name the seed by its address',
        }
      case 'CONNECTION_REFUSED':
        return { what: 'nobody listens there', remedy: 'start the node there, or correct address and port' }
      case 'NOT_A_NODE':
        return {
          what: 'somebody listens there who does not answer as a node',
          remedy: 'name the first of the three ports of a node',
        }
      case 'NO_ANSWER':
        return {
          what: 'nobody has answered',
          remedy: 'see that a node listens there and that no firewall or route stands between',
        }
      default:
        return {
          what: 'the node there will not have this one',
          remedy: 'give both the same mesh and version, or name another seed',
        }
    }
  }
}

/** Each address once, both families by turns: a limit on their number must not cut off the one that works. */
const blend = (addresses: readonly string[]): string[] => {
  const all = [...new Set(addresses)]
  const first = all.filter((address) => isIP(address) === isIP(all[0]!))
  const other = all.filter((address) => isIP(address) !== isIP(all[0]!))
  return Array.from({ length: Math.max(first.length, other.length) }, (_, at) => [first[at], other[at]])
    .flat()
    .filter((address) => address !== undefined)
}
