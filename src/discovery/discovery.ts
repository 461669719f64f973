import type { SkeinError } from '../errors.ts'

/** Somebody who may be out there: an address hint, believed only once a hello has shown the same id and boot. */
export interface Sighting {
  readonly id: string
  readonly boot: string
  readonly name: string
  /** The control endpoint, `tcp://host:port`. */
  readonly endpoint: string
  readonly source: 'registry' | 'mdns' | 'seed' | 'gossip' | 'hello'
}

/** What a source tells: never anything about the boot it announces itself, but another boot of the same id too. */
export interface Findings {
  seen(sighting: Sighting): void
  gone(id: string, boot: string): void
  warning(error: SkeinError): void
}

export interface Source {
  /** Announces self (null for a node that only dials) and reports sightings, those already there before it resolves. */
  start(self: Sighting | null, on: Findings): Promise<void>
  /** The endpoint of this sighting refused a connection: the source may forget it. */
  refused(sighting: Sighting): void
  /** Withdraws self; idempotent. */
  close(): Promise<void>
}

const ENDPOINT = /^tcp:\/\/(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}):([1-9][0-9]{0,4})$/

/** True for `tcp://host:port` with one host and a port that can be dialled: no wildcard, no `source;target` pair. */
export const isEndpoint = (text: string): boolean => Number(ENDPOINT.exec(text)?.[1] ?? 65_536) < 65_536
