import type { Peer } from '../index.ts'

/** Why an address has not led to a node of the mesh. */
export type Refusal =
  | { readonly kind: 'mesh'; readonly mesh: string | undefined }
  | { readonly kind: 'version' | 'identity' | 'full' | 'rejected' }
  | { readonly kind: 'unresolvable' | 'refused' | 'silent' }

/** What the reason of a peer that is not up comes down to: its sentence holds what the other side has said. */
export const refusalOf = ({ reason = '' }: Pick<Peer, 'reason'>): Refusal => {
  if (/refuses this node/.test(reason)) {
    const [, mesh] = /this node is in mesh '([^']*)'/.exec(reason) ?? []
    if (mesh !== undefined || /names mesh/.test(reason)) return { kind: 'mesh', mesh }
    if (/version \d+ of the wire/.test(reason)) return { kind: 'version' }
    if (/node id .* is held/.test(reason)) return { kind: 'identity' }
    return { kind: /as many peers as it can/.test(reason) ? 'full' : 'rejected' }
  }
  if (/is no node of this mesh/.test(reason)) return { kind: 'mesh', mesh: undefined }
  if (/connection refused/.test(reason)) return { kind: 'refused' }
  return { kind: /no address|ENOTFOUND|EAI_AGAIN|getaddrinfo/.test(reason) ? 'unresolvable' : 'silent' }
}

/** In words, with the remedy. */
export const explainRefusal = (
  refusal: Refusal,
  where: string,
  mesh: string,
): readonly [text: string, remedy: string] => {
  switch (refusal.kind) {
    case 'mesh': {
      const other = refusal.mesh === undefined ? 'another mesh' : `mesh "${refusal.mesh}"`
      return [
        `a node answers at ${where}, but it is in ${other} and this one is in mesh "${mesh}"`,
        `give both the same mesh: --mesh, SKEIN_MESH or createNode({ mesh })`,
      ]
    }
    case 'version':
      return [
        `a node answers at ${where}, but it speaks another version of the wire`,
        'update the older of the two: both need versions of skein that go together',
      ]
    case 'identity':
      return [
        `the node at ${where} says that another node has the same id`,
        'give each its own id, or leave the option id out',
      ]
    case 'full':
      return [`the node at ${where} knows as many nodes as it can`, 'divide the mesh into several']
    case 'rejected':
      return [`a node answers at ${where}, but refuses this one`, 'see what its own warnings say']
    case 'refused':
      return [
        `nobody listens at ${where} (connection refused)`,
        'start the node there, or correct address and port; a node that others are to reach needs --open',
      ]
    case 'unresolvable':
      return [`${where} leads to no address`, 'correct the name or the resolver of this host']
    case 'silent':
      return [
        `nobody has answered at ${where} yet`,
        'see that a node runs there, is not stopped, and that a firewall lets its three ports through in both directions',
      ]
  }
}
