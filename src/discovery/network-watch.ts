import type { Clock } from '../clock.ts'

const POLL_MS = 5000
/** How far people's clock has to run ahead of ours between two looks. */
const SLEPT_MS = 5000
/** A look that comes this much later than asked for. */
const LATE_MS = 30_000

export interface HostAddress {
  readonly interface: string
  readonly address: string
}

export interface NetworkWatchOptions {
  readonly clock: Clock
  /** All addresses that this host has now. */
  addresses(): readonly HostAddress[]
  /** Who has to announce itself and to look for others anew; 'woke' where both are true. */
  changed(why: 'addresses' | 'woke'): void
}

/**
 * Notices that this host has other addresses than before, or that it has slept. No platform tells a process of either,
 * so it looks every few seconds.
 *
 * Sleep shows in two ways. Where the monotonic clock stands still meanwhile (Linux; a paused virtual machine), people's
 * clock is ahead of it afterwards; where it goes on (macOS, Windows; a stopped process), the look comes late. A clock
 * that is set forward, and a process that was stopped, look the same: to ask everybody once more costs little. A clock
 * that is set back says nothing, and hides a sleep only if both fall between the same two looks: then everybody is
 * asked at the usual rhythm, within half a minute. So do sleeps of a few seconds, which connections survive.
 */
export class NetworkWatch {
  readonly #options: NetworkWatchOptions
  #addresses = ''
  #looked = { now: 0, wall: 0, delayMs: 0 }
  #cancel: (() => void) | undefined

  constructor(options: NetworkWatchOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#cancel !== undefined) return
    this.#addresses = this.#read() ?? ''
    this.#arm()
  }

  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  #arm(): void {
    const { clock } = this.#options
    const delayMs = POLL_MS * (0.9 + 0.2 * clock.random())
    this.#looked = { now: clock.now(), wall: clock.wall(), delayMs }
    this.#cancel = clock.after(delayMs, () => this.#look())
  }

  #look(): void {
    const { clock, changed } = this.#options
    const { now, wall, delayMs } = this.#looked
    const passedMs = clock.now() - now
    const woke = clock.wall() - wall - passedMs >= SLEPT_MS || passedMs - delayMs >= LATE_MS
    const addresses = this.#read() ?? this.#addresses
    const differs = addresses !== this.#addresses
    this.#addresses = addresses
    // Before the report, because whoever hears of it may close this.
    this.#arm()
    if (woke || differs) changed(woke ? 'woke' : 'addresses')
  }

  /** The addresses in an order of their own, because the system's says nothing; undefined where it refuses to tell. */
  #read(): string | undefined {
    try {
      const all = this.#options.addresses().map((at) => `${at.interface} ${at.address}`)
      return [...new Set(all)].sort().join('\n')
    } catch {
      return undefined
    }
  }
}
