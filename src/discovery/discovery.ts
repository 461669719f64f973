import type { ErrorCode, SkeinError } from '../errors.ts'

export { isEndpoint, parseEndpoint } from '../protocol/endpoint.ts'

export type SourceName = 'registry' | 'mdns' | 'seed' | 'gossip' | 'hello'

/** Somebody who may be out there: address hints, believed only once a hello has shown who answers. */
export interface Sighting {
  /** Unknown where only an address is told, as by a seed: whoever answers is taken. */
  readonly id: string | undefined
  readonly boot: string | undefined
  readonly name: string
  /** Control endpoints, `tcp://host:port`, likeliest first: all are tried at once. */
  readonly endpoints: readonly string[]
  readonly source: SourceName
}

/** What a node announces of itself. */
export interface Announcement {
  readonly id: string
  readonly boot: string
  readonly name: string
  readonly mesh: string
  /** Port of the control socket. */
  readonly port: number
  /** Hosts at which others reach it, likeliest first. */
  readonly hosts: readonly string[]
  /** The control endpoint for nodes of the same host. */
  readonly localEndpoint: string
}

/** What a source tells: never anything about the boot it announces itself, but another boot of the same id too. */
export interface Findings {
  seen(sighting: Sighting): void
  /** It withdraws, or somebody says so: a reason to ask, never a proof. */
  gone(id: string, boot: string): void
  warning(error: SkeinError): void
}

/**
 * Why an address has led to no member of the mesh, for programs: nobody listens there, somebody does who is no node (or
 * it is not the first port of one), …; an ErrorCode is what the node there has answered.
 */
export type ReasonCode =
  | 'CONNECTION_REFUSED'
  | 'NOT_A_NODE'
  | 'NO_ANSWER'
  | 'NAME_UNRESOLVED'
  | 'REJECTED'
  | ErrorCode

/** What became of one endpoint of a sighting. */
export interface Outcome {
  /** Refused: nobody listens there. Silent: no answer in time. Rejected: a node that will not have us. */
  readonly kind: 'up' | 'self' | 'refused' | 'silent' | 'rejected'
  readonly reason: string
  /** Of one that rejects: what it has answered. */
  readonly code?: ErrorCode
  /** Who answers there, if somebody does. */
  readonly peer?: string
}

export interface Source {
  readonly name: SourceName
  /** Announces self (null for a node that only dials) and reports sightings, those already there before it resolves. */
  start(self: Announcement | null, on: Findings): Promise<void>
  /** The first answers have had their time: who is there was told. */
  readonly isSettled?: boolean
  /** What became of an address that this source told. */
  tried?(sighting: Sighting, endpoint: string, outcome: Outcome): void
  /** The addresses of this host have changed, or it has slept: announce this, and look again at once. */
  moved?(self: Announcement | null): void
  /** Withdraws self; idempotent. */
  close(): Promise<void>
}
