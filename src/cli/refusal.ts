import type { Peer, ReasonCode } from '../index.ts'
import { milliseconds } from './wording.ts'

/** Why an address has not led to a node of the mesh. */
export type Refusal =
  | { readonly kind: 'mesh'; readonly mesh: string | undefined }
  | { readonly kind: 'version' | 'identity' | 'full' | 'rejected' }
  | { readonly kind: 'unresolvable' | 'refused' | 'strange' | 'silent' }

const KINDS: Readonly<Partial<Record<ReasonCode, Exclude<Refusal['kind'], 'mesh'>>>> = {
  VERSION_MISMATCH: 'version',
  NODE_ID_IN_USE: 'identity',
  BUSY: 'full',
  CONNECTION_REFUSED: 'refused',
  NOT_A_NODE: 'strange',
  NO_ANSWER: 'silent',
  NAME_UNRESOLVED: 'unresolvable',
}

/** What the reason of a peer that is not up comes down to. */
export const refusalOf = ({ code, reason = '' }: Pick<Peer, 'code' | 'reason'>): Refusal => {
  const known = code === undefined || code === 'REJECTED' ? codeIn(reason) : code
  if (known === 'MESH_MISMATCH') return { kind: 'mesh', mesh: meshIn(reason) }
  return { kind: KINDS[known] ?? 'rejected' }
}

/** Which mesh the other one is in only its sentence says. */
const meshIn = (reason: string): string | undefined => /this node is in mesh '([^']*)'/.exec(reason)?.[1]

/** Of those that come without a code: what the other side has said. */
const codeIn = (reason: string): ReasonCode => {
  if (/refuses this node/.test(reason)) {
    if (/this node is in mesh|names mesh/.test(reason)) return 'MESH_MISMATCH'
    if (/version \d+ of the wire/.test(reason)) return 'VERSION_MISMATCH'
    if (/node id .* is held/.test(reason)) return 'NODE_ID_IN_USE'
    return /as many peers as it can/.test(reason) ? 'BUSY' : 'REJECTED'
  }
  if (/is no node of this mesh/.test(reason)) return 'MESH_MISMATCH'
  return /connection refused/.test(reason) ? 'CONNECTION_REFUSED' : 'NO_ANSWER'
}

/** In words, with the remedy. */
export const explainRefusal = (
  refusal: Refusal,
  where: string,
  { mesh, waitedMs }: { readonly mesh: string; readonly waitedMs: number },
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
    case 'strange':
      return [
        `somebody listens at ${where} who does not answer as a node`,
        'name the first of the three ports of a node, which skein peers lists where it runs',
      ]
    case 'unresolvable':
      return [`${where} leads to no address`, 'correct the name or the resolver of this host']
    case 'silent':
      return [
        `nobody has answered at ${where} within ${milliseconds(waitedMs)}`,
        'see that a node runs there, is not stopped, that this is the first of its three ports, and that a firewall lets its three ports through in both directions; a slow network is given longer with --timeout 10s',
      ]
  }
}
