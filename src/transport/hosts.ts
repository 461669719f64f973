import type { HostAddress } from './transport.ts'

const MAX_HOSTS = 8

/** Interfaces of containers, virtual machines and tunnels: others seldom reach this host through them. */
const VIRTUAL =
  /^(?:docker|br-|veth|virbr|vmnet|vboxnet|podman|cni|flannel|cali|utun|tun|tap|wg|tailscale|zt)/

export const isVirtual = (name: string): boolean => VIRTUAL.test(name)

export const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::' || host === '*'

export const isLoopback = (host: string): boolean =>
  /^127\.|^::ffff:127\./.test(host) || host === '::1' || host === 'localhost'

/** A link-local address means something else on each link, and needs a zone to be dialled. */
const isLinkLocal = ({ address, family }: HostAddress): boolean =>
  family === 'IPv6' ? /^fe[89ab]/i.test(address) : address.startsWith('169.254.')

/** The addresses of an interface, which is named by its name or by one of its addresses; all where none is named. */
export const addressesOf = (all: readonly HostAddress[], wanted: string | undefined): HostAddress[] =>
  all.filter((each) => wanted === undefined || each.interface === wanted || each.address === wanted)

/** The addresses at which others may reach a node that listens on `bind`, likeliest first, at most 8. */
export const reachableHosts = (addresses: readonly HostAddress[], bind: string): string[] => {
  if (!isWildcard(bind)) return [bind]
  const outward = addresses.filter((each) => !each.internal && (bind === '::' || each.family === 'IPv4'))
  const usable = outward.filter((each) => each.family === 'IPv4' || !isLinkLocal(each))
  const cost = (each: HostAddress): number =>
    (isLinkLocal(each) ? 4 : 0) + (isVirtual(each.interface) ? 2 : 0) + (each.family === 'IPv6' ? 1 : 0)
  const hosts = usable.toSorted((a, b) => cost(a) - cost(b)).map(({ address }) => address)
  return hosts.length === 0 ? ['127.0.0.1'] : hosts.slice(0, MAX_HOSTS)
}
