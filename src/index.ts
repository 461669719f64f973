export type { SendOptions } from './delivery/admission.ts'
export type { DeadLetter, DeadLetters, LastFailure } from './delivery/dead-letters.ts'
export type { Gap, Message, Origin } from './delivery/message.ts'
export type { OwedInspection, OwedMessage, OwedPart } from './delivery/owed-inspection.ts'
export { inspectOwed } from './delivery/owed-inspection.ts'
export type { PublishOptions, PublishOwedOptions, PushOptions } from './delivery/publisher.ts'
export type { Outcome, Receipt } from './delivery/receipt.ts'
export type { Reply, RequestManyOptions, RequestOptions } from './delivery/requests.ts'
export type { Responder, RespondHandler, RespondOptions } from './delivery/responders.ts'
export type {
  PullOptions,
  SubscribeHandler,
  SubscribeOptions,
  Subscription,
} from './delivery/subscription.ts'
export { Reject, RetryLater } from './delivery/verdict.ts'
export type {
  HostSurvey,
  InterfaceSurvey,
  ListeningSurvey,
  MulticastSurvey,
  SeedSurvey,
} from './diagnosis.ts'
export { surveyHost } from './diagnosis.ts'
export type { ReasonCode } from './discovery/discovery.ts'
export type { Stranger } from './discovery/mdns.ts'
export type { MulticastProbe } from './discovery/multicast-probe.ts'
export type { RegistryFlaw, RegistryMesh, RegistryNode, RegistrySurvey } from './discovery/registry-survey.ts'
export type { ErrorCode } from './errors.ts'
export { ERROR_CODES, isSkeinError, SkeinError } from './errors.ts'
export type { Inspection } from './journal/inspection.ts'
export { readOwner } from './journal/owner.ts'
export type { Node, Stats } from './node.ts'
export { createNode } from './node.ts'
export type { DeadLetterAnswer, DeadLetterQuery } from './observe/dead-letter-desk.ts'
export type { Events, Logger } from './observe/reports.ts'
export type { NodeStatus, StatusQuery, SubscriptionStatus } from './observe/status.ts'
export type { DiscoveryOptions, Limits, NodeOptions } from './options.ts'
export { DEFAULTS } from './options.ts'
export type { PeerInfo as Peer, PeerState } from './peers/peer.ts'
export type { Headers } from './protocol/record.ts'
export { matches } from './protocol/topics.ts'
export type { PortHolder } from './transport/port-holder.ts'
export type { PortSurvey } from './transport/port-survey.ts'
