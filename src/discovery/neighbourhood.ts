import type { Clock } from '../clock.ts'
import type { Announcement, Findings, Source } from './discovery.ts'

/** How often everybody is told of everybody, as multicast would: a node that was given up is found again. */
const AGAIN_MS = 30_000

interface Member {
  readonly on: Findings
  self: Announcement | null
}

/** What multicast is to a real network, for a simulated one: all nodes of a mesh are told of each other. */
export class Neighbourhood {
  readonly #clock: Clock
  readonly #members = new Map<string, Set<Member>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  source(mesh: string): Source {
    let member: Member | undefined
    let cancel = (): void => {}
    const members = this.#members.get(mesh) ?? new Set()
    this.#members.set(mesh, members)
    const lookAround = (): void => {
      if (member === undefined) return
      for (const other of members) if (other !== member) tell(member, other)
      cancel = this.#clock.after(AGAIN_MS * (0.5 + this.#clock.random()), lookAround)
    }
    const announce = (): void => {
      for (const other of members) if (other !== member) tell(other, member!)
    }
    return {
      name: 'mdns',
      start: async (self, on) => {
        member = { self, on }
        members.add(member)
        lookAround()
        announce()
      },
      moved: (self) => {
        if (member === undefined) return
        member.self = self
        announce()
      },
      close: async () => {
        cancel()
        if (member === undefined) return
        members.delete(member)
        const { self } = member
        if (self !== null) for (const { on } of members) on.gone(self.id, self.boot)
        member = undefined
      },
    }
  }
}

const tell = ({ on }: Member, { self }: Member): void => {
  if (self === null) return
  const { id, boot, name, hosts, port } = self
  const endpoints = hosts.map((host) => `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`)
  on.seen({ id, boot, name, endpoints, source: 'mdns' })
}
