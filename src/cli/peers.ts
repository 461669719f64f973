import { isSkeinError, type Peer } from '../index.ts'
import { CliError, EXIT } from './exit.ts'
import { type PeerChange, renderPeerChange, renderPeers } from './render.ts'
import { type Globals, run, type Session, unlessStopped } from './run.ts'
import { until } from './until.ts'
import { isUp } from './visit.ts'

export interface PeersOptions extends Globals {
  watch?: boolean
  verbose?: boolean
  wait?: number
  timeoutMs?: number
}

/** A seed that has led to nobody has no id, only an address. */
const keyOf = ({ id, name }: Peer): string => (id === '' ? name : id)

/** What differs between two looks at the roster. */
export const changesBetween = (before: readonly Peer[], after: readonly Peer[]): PeerChange[] => {
  const known = new Map(before.map((peer) => [keyOf(peer), peer]))
  const still = new Set(after.map(keyOf))
  const changed = after.flatMap((peer): PeerChange[] => {
    const old = known.get(keyOf(peer))
    if (old === undefined) return [{ change: 'new', peer }]
    const same = old.state === peer.state && old.boot === peer.boot && old.reason === peer.reason
    return same ? [] : [{ change: 'changed', peer }]
  })
  const gone = before.filter((peer) => !still.has(keyOf(peer)))
  return [...changed, ...gone.map((peer): PeerChange => ({ change: 'gone', peer }))]
}

// Coming and going are events; in between, a peer that is slow or unreachable shows at the next look.
const LOOK_MS = 250

const watch = async ({ node, output, format, stop }: Session, options: PeersOptions): Promise<void> => {
  const limit = until(options, stop)
  let seen: readonly Peer[] = []
  let writing = Promise.resolve()
  const look = (): void => {
    const changes = changesBetween(seen, node.peers)
    seen = node.peers
    const lines = changes.map((change) => renderPeerChange(change, format, options.verbose === true))
    if (lines.length > 0) writing = writing.then(() => output.write(lines.join('')))
  }
  const timer = setInterval(look, LOOK_MS)
  node.on('peer-up', look)
  node.on('peer-down', look)
  look()
  await limit.ended
  clearInterval(timer)
  node.off('peer-up', look)
  node.off('peer-down', look)
  await writing
}

const DEFAULT_WAIT_MS = 10_000

/** `skein peers`: who is in the mesh, and with `--watch` who comes and goes. */
export const peers = (options: PeersOptions): Promise<number> =>
  run(options, { name: 'peers', listen: false }, async (session) => {
    const { node, output, format, stop, note } = session
    const { wait, verbose = false, timeoutMs = DEFAULT_WAIT_MS } = options
    if (wait !== undefined) {
      try {
        await unlessStopped(stop, node.waitForPeers(wait, { timeoutMs }))
      } catch (error) {
        if (!isSkeinError(error, 'WAIT_TIMEOUT')) throw error
        await output.write(renderPeers(node.peers, format, { boot: verbose, why: true }))
        const up = node.peers.filter(isUp).length
        throw new CliError(
          EXIT.noPeers,
          `waited ${timeoutMs} ms for ${wait === 1 ? '1 peer' : `${wait} peers`} in mesh "${node.mesh}", ${up} came: are they in the same mesh ` +
            'and, beyond this host, started with --open?',
        )
      }
    }
    if (options.watch === true) {
      await watch(session, options)
      return EXIT.ok
    }
    await output.write(renderPeers(node.peers, format, { boot: verbose, why: verbose }))
    if (node.peers.every(({ id }) => id === '')) note(`no other node was found in mesh "${node.mesh}"`)
    return EXIT.ok
  })
