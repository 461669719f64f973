import type { NodeStatus, Peer, PeerState, SubscriptionStatus } from '../index.ts'

/** What every node answers to. */
export const STATUS = '$skein.status'

export const isWorker = ({ addressee }: SubscriptionStatus): boolean => addressee?.kind === 'queue'

/** What it does, of whoever has it: `subscribes by "order.*"`. */
export const doing = (subscription: SubscriptionStatus): string => {
  const { pattern, addressee } = subscription
  if (isWorker(subscription)) return `works on queue "${pattern}"`
  return `subscribes by "${pattern}"${addressee === undefined ? '' : ` in group "${addressee.name}"`}`
}

const STATES: readonly string[] = ['seen', 'up', 'suspect', 'down', 'one-way'] satisfies PeerState[]

/** The status that a peer has answered, or undefined: peers are not believed to send what they should. */
export const readStatus = (value: unknown): NodeStatus | undefined => {
  if (!isObject(value)) return undefined
  const { id, name, boot, mesh, runtime, host, protocol, pid, open, address, wallMs, lagMs, missed } = value
  if (!isText(id) || !isText(name) || !isText(boot) || !isText(mesh) || !isText(runtime) || !isText(host))
    return undefined
  if (!isNumber(protocol) || !isNumber(pid) || !isNumber(wallMs) || !isNumber(lagMs) || !isNumber(missed))
    return undefined
  return {
    ...{ id, name, boot, mesh, runtime, host, protocol, pid, wallMs, lagMs, missed },
    open: open === true,
    address: readAddress(address),
    subscriptions: listOf(value.subscriptions, readSubscription),
    responders: listOf(value.responders, (each) => (isText(each) ? each : undefined)),
    peers: listOf(value.peers, readPeer),
    wanting: textsOf(value.wanting),
  }
}

const readAddress = (value: unknown): NodeStatus['address'] => {
  if (!isObject(value)) return null
  const { control, feed, delivery } = value
  if (!isNumber(control) || !isNumber(feed) || !isNumber(delivery)) return null
  return { hosts: textsOf(value.hosts), control, feed, delivery }
}

const readSubscription = (value: unknown): SubscriptionStatus | undefined => {
  if (!isObject(value)) return undefined
  const { pattern, queued, dropped } = value
  if (!isText(pattern) || !isNumber(queued) || !isNumber(dropped)) return undefined
  const addressee = readAddressee(value.addressee)
  return { pattern, queued, dropped, ...(addressee !== undefined && { addressee }) }
}

const readAddressee = (value: unknown): SubscriptionStatus['addressee'] => {
  if (!isObject(value)) return undefined
  const { kind, name } = value
  return (kind === 'group' || kind === 'queue') && isText(name) ? { kind, name } : undefined
}

const readPeer = (value: unknown): Peer | undefined => {
  if (!isObject(value)) return undefined
  const { id, name, boot, state, reason } = value
  if (!isText(id) || !isText(name) || !isText(boot) || !isText(state) || !STATES.includes(state))
    return undefined
  return {
    ...{ id, name, boot, state: state as PeerState },
    foundBy: textsOf(value.foundBy),
    endpoints: textsOf(value.endpoints),
    ...(isText(reason) && { reason }),
  }
}

const listOf = <T>(value: unknown, read: (each: unknown) => T | undefined): T[] =>
  Array.isArray(value) ? value.map(read).filter((each) => each !== undefined) : []

const textsOf = (value: unknown): string[] => listOf(value, (each) => (isText(each) ? each : undefined))

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

const isText = (value: unknown): value is string => typeof value === 'string'

const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value)
