import { isIP } from 'node:net'
import type { Clock } from '../clock.ts'
import { type Outcome, parseEndpoint, type Sighting } from '../discovery/discovery.ts'
import { messageOf } from '../errors.ts'
import { endpointOf } from '../protocol/control-frames.ts'
import type { Link } from '../transport/link.ts'

const MAX_CANDIDATES = 1024
/** Of hints that a stranger can make up by the thousand, so that they leave room for the others. */
const MAX_HEARSAY = 256
const MAX_WAITING = 4096
const MAX_ENDPOINTS = 8
/** An address that has not welcomed by then is given up; its node says hello itself when it can. */
const CANDIDATE_MS = 5000
/** Sockets report a connection that nobody answered as they report a refused one, but that one at once. */
const REFUSED_MS = 2000

export interface Hint {
  readonly sighting: Sighting
  /** The endpoint as it was told, which a name stands for. */
  readonly told: string
}

/** An address where somebody may be, and the throw-away link that finds out. */
export interface Candidate {
  readonly endpoint: string
  readonly link: Link
  readonly since: number
  /** All that told of this address, and how they named it. */
  readonly hints: Hint[]
  /** Who should answer there, as far as is known. */
  readonly id: string | undefined
  readonly boot: string | undefined
  /** It has said who it is, and says it once. */
  readonly shown: boolean
}

export interface CandidatesOptions {
  readonly clock: Clock
  open(candidate: Omit<Candidate, 'link'>): Link
  /** Whether the node of a hint is still sought. */
  isMissing(sighting: Sighting): boolean
  resolve(host: string): Promise<string[]>
  tried(sighting: Sighting, endpoint: string, outcome: Outcome): void
  /** None of the addresses told for this node has led to it. */
  failed(candidate: Candidate, outcome: Outcome): void
  changed(): void
}

/** The addresses that are being tried: all of one sighting at once, and the first that shows who was expected wins. */
export class Candidates {
  readonly #options: CandidatesOptions
  readonly #byEndpoint = new Map<string, Candidate>()
  /** The same by the id of the node that is sought there. */
  readonly #byId = new Map<string, Set<Candidate>>()
  readonly #deadlines = new Map<Candidate, () => void>()
  #resolving = 0
  /** Hints that there was no room for. */
  #waiting: [hint: Hint, endpoint: string][] = []
  #hearsay = 0
  #closed = false

  constructor(options: CandidatesOptions) {
    this.#options = options
  }

  /** Addresses that have not answered yet. */
  get size(): number {
    return this.#byEndpoint.size + this.#resolving + this.#waiting.length
  }

  [Symbol.iterator](): IterableIterator<Candidate> {
    return this.#byEndpoint.values()
  }

  /** The candidate of this link, as long as it is one. */
  of(link: Link): Candidate | undefined {
    const candidate = this.#byEndpoint.get(link.endpoint)
    return candidate?.link === link ? candidate : undefined
  }

  isSought(id: string, boot: string): boolean {
    return this.#of(id, boot).length > 0
  }

  dial(sighting: Sighting): void {
    for (const endpoint of sighting.endpoints.slice(0, MAX_ENDPOINTS)) {
      const parsed = parseEndpoint(endpoint)
      if (parsed === undefined) continue
      if (isIP(parsed.host) !== 0) this.#try({ sighting, told: endpoint }, endpoint)
      else void this.#resolve(sighting, endpoint, parsed)
    }
  }

  /** It has said who it is, whoever was expected. */
  show(candidate: Candidate, id: string, boot: string): void {
    this.#unindex(candidate)
    Object.assign(candidate, { id, boot, shown: true })
    this.#index(candidate)
  }

  /** This link has led to whom it should: the other ways to it are not needed. */
  won(candidate: Candidate, id: string, boot: string): void {
    this.#drop(candidate, { kind: 'up', reason: '', peer: id }, false)
    for (const other of this.#of(id, boot)) this.end(other, { kind: 'up', reason: '', peer: id })
  }

  /** No connection came about. */
  unconnected(candidate: Candidate, reason?: string): void {
    const { endpoint, since } = candidate
    if (reason !== undefined)
      return this.end(candidate, { kind: 'refused', reason: `${endpoint}: ${reason}` })
    const waitedMs = this.#options.clock.now() - since
    if (waitedMs < REFUSED_MS)
      this.end(candidate, { kind: 'refused', reason: `connection refused at ${endpoint}` })
    else this.end(candidate, silent(endpoint, waitedMs))
  }

  end(candidate: Candidate, outcome: Outcome): void {
    this.#drop(candidate, outcome, true)
    // Where only an address was told at first, somebody may have said meanwhile that it is his.
    const told = candidate.hints.map(({ sighting }) => sighting).find((each) => each.id !== undefined)
    const { id, boot } = candidate.id === undefined ? (told ?? candidate) : candidate
    const isAbsent = outcome.kind === 'refused' || outcome.kind === 'silent'
    if (!isAbsent || id === undefined || boot === undefined || this.isSought(id, boot)) return
    this.#options.failed({ ...candidate, id, boot }, outcome)
  }

  /** A source withdraws what it told. */
  withdraw(id: string, boot: string): void {
    for (const candidate of this.#of(id, boot)) this.#drop(candidate, undefined, true)
  }

  close(): void {
    this.#closed = true
    this.#waiting = []
    for (const candidate of [...this.#byEndpoint.values()]) this.#drop(candidate, undefined, true)
  }

  /** Names are not left to ZeroMQ, which would hold up every socket of the node until the DNS has answered. */
  async #resolve(sighting: Sighting, endpoint: string, at: { host: string; port: number }): Promise<void> {
    this.#resolving++
    try {
      const hosts = await this.#options.resolve(at.host)
      for (const host of hosts.slice(0, MAX_ENDPOINTS))
        this.#try({ sighting, told: endpoint }, endpointOf(host, at.port))
    } catch (error) {
      const reason = `'${at.host}' has no address: ${messageOf(error)}`
      this.#options.tried(sighting, endpoint, { kind: 'refused', reason })
    } finally {
      this.#resolving--
      this.#options.changed()
    }
  }

  #try(hint: Hint, endpoint: string): void {
    const { sighting } = hint
    const known = this.#byEndpoint.get(endpoint)
    if (known !== undefined) {
      if (!known.hints.some((other) => other.sighting.source === sighting.source)) known.hints.push(hint)
      return
    }
    if (this.#closed) return
    if (!this.#hasRoom(hint)) return this.#wait(hint, endpoint)
    const { clock, open } = this.#options
    const { id, boot } = sighting
    const expected = { endpoint, since: clock.now(), hints: [hint], id, boot, shown: false }
    const candidate: Candidate = Object.assign(expected, { link: open(expected) })
    if (isHearsay(sighting)) this.#hearsay++
    this.#byEndpoint.set(endpoint, candidate)
    this.#index(candidate)
    this.#deadlines.set(
      candidate,
      clock.after(CANDIDATE_MS, () => this.end(candidate, silent(endpoint, CANDIDATE_MS))),
    )
    candidate.link.open()
  }

  #drop(candidate: Candidate, outcome: Outcome | undefined, closes: boolean): void {
    this.#byEndpoint.delete(candidate.endpoint)
    this.#unindex(candidate)
    this.#deadlines.get(candidate)?.()
    this.#deadlines.delete(candidate)
    if (isHearsay(candidate.hints[0]!.sighting)) this.#hearsay--
    if (closes) candidate.link.close()
    if (outcome !== undefined) {
      for (const { sighting, told } of candidate.hints) this.#options.tried(sighting, told, outcome)
    }
    this.#goOn()
    this.#options.changed()
  }

  /** Tries the hints that waited; whoever has come by another way meanwhile need not be visited. */
  #goOn(): void {
    for (;;) {
      const next = this.#waiting[0]
      if (next === undefined || !this.#hasRoom(next[0])) return
      this.#waiting.shift()
      if (this.#options.isMissing(next[0].sighting)) this.#try(...next)
    }
  }

  #hasRoom({ sighting }: Hint): boolean {
    return this.#byEndpoint.size < MAX_CANDIDATES && (!isHearsay(sighting) || this.#hearsay < MAX_HEARSAY)
  }

  /** Those that have come by themselves, or were named by the user, go before hearsay. */
  #wait(hint: Hint, endpoint: string): void {
    if (!isHearsay(hint.sighting)) this.#waiting.unshift([hint, endpoint])
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push([hint, endpoint])
    if (this.#waiting.length > MAX_WAITING) this.#waiting.pop()
  }

  #index(candidate: Candidate): void {
    if (candidate.id === undefined) return
    const sought = this.#byId.get(candidate.id)
    if (sought === undefined) this.#byId.set(candidate.id, new Set([candidate]))
    else sought.add(candidate)
  }

  #unindex(candidate: Candidate): void {
    if (candidate.id === undefined) return
    const sought = this.#byId.get(candidate.id)
    sought?.delete(candidate)
    if (sought?.size === 0) this.#byId.delete(candidate.id)
  }

  #of(id: string, boot: string): Candidate[] {
    return [...(this.#byId.get(id) ?? [])].filter((candidate) => candidate.boot === boot)
  }
}

const silent = (endpoint: string, waitedMs: number): Outcome => ({
  kind: 'silent',
  reason: `${endpoint} has not answered for ${Math.round(waitedMs / 1000)} s`,
})

const isHearsay = ({ source }: Sighting): boolean => source === 'gossip' || source === 'mdns'
