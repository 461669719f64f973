import type { Chance } from '../chance.ts'
import type { VirtualClock } from '../virtual-clock.ts'
import type { Conditions } from './conditions.ts'
import type { Connection, Fabric, Happening } from './fabric.ts'
import type { Listening, Machine } from './machine.ts'
import { type Line, type LineEnd, Pipe, type Road } from './pipe.ts'

/** One connection, from a machine that dialled to one that listens. */
export class Wire implements Line, Connection {
  readonly road: Road
  readonly route: string
  readonly near: Machine
  readonly far: Machine
  readonly there: Pipe
  readonly back = new Pipe()
  severedAt: number | undefined
  readonly #fabric: Fabric
  readonly #source: string | undefined
  readonly #address: string
  /** Undefined once closed from that end, or told that the connection is gone. */
  #nearEnd: LineEnd | undefined
  #farEnd: LineEnd | undefined

  constructor(fabric: Fabric, road: Road, near: Machine, far: Machine, address: string, there: Pipe) {
    this.#fabric = fabric
    this.road = road
    this.route = fabric.nextRoute()
    this.near = near
    this.far = far
    this.there = there
    this.#address = address
    this.#source = near.addresses[0]
  }

  get clock(): VirtualClock {
    return this.#fabric.clock
  }

  get chance(): Chance {
    return this.#fabric.chance
  }

  /** The connection stands: what waits at its ends leaves. */
  connect(nearEnd: LineEnd, listening: Listening): void {
    this.#fabric.connections.add(this)
    this.#nearEnd = nearEnd
    this.#farEnd = listening.accept(this)
    this.#tell('connected')
    this.there.connect(this, this.#farEnd.sink)
    this.back.connect(this, nearEnd.sink)
  }

  isOpen(pipe: Pipe): boolean {
    return this.severedAt === undefined && this.#fabric.isOpen(this.#from(pipe), this.#to(pipe))
  }

  conditions(pipe: Pipe): Conditions {
    const conditions = this.#fabric.conditions(this.#from(pipe), this.#to(pipe))
    // A subscription is said once a connection: real ones do not lose it, and a barrier has to come behind it.
    return this.road === 'feed' && pipe === this.there ? { ...conditions, drop: 0, reorder: 0 } : conditions
  }

  delay(pipe: Pipe): number {
    return this.#fabric.delay(this.#from(pipe), this.#to(pipe))
  }

  stuck(pipe: Pipe): void {
    this.#fabric.stuck.add(pipe)
  }

  happened(what: 'arrived' | 'dropped' | 'held back', pipe: Pipe, bytes: number): void {
    this.#fabric.happened(what, this.road, this.#from(pipe), this.#to(pipe), bytes)
  }

  readdress(): void {
    if (this.near === this.far) {
      if (!this.near.hasAddress(this.#address)) this.severedAt ??= this.clock.now()
    } else if (!this.far.hasAddress(this.#address) || !this.near.addresses.includes(this.#source!)) {
      this.severedAt ??= this.clock.now()
    }
  }

  break(why: 'reset' | 'frame too large' | 'timed out', by?: Pipe): void {
    if (!this.#release()) return
    this.#tell(why)
    this.clock.at(this.clock.now(), {
      run: () => {
        const nearEnd = this.#nearEnd
        const farEnd = this.#farEnd
        this.#nearEnd = this.#farEnd = undefined
        farEnd?.lost(this, by === this.there)
        nearEnd?.lost(this, by === this.back)
      },
    })
  }

  ended(pipe: Pipe): void {
    if (!this.#release()) return
    this.#tell('closed')
    const end = pipe === this.there ? this.#farEnd : this.#nearEnd
    this.#nearEnd = this.#farEnd = undefined
    end?.lost(this, false)
  }

  /** One end is closed: what it has sent arrives, and then the other learns of it. */
  close(end: LineEnd): void {
    if (end === this.#nearEnd) {
      this.#nearEnd = undefined
      this.there.end()
    } else if (end === this.#farEnd) {
      this.#farEnd = undefined
      this.back.end()
    }
    if (this.#nearEnd === undefined && this.#farEnd === undefined && this.#release()) this.#tell('closed')
  }

  /** Answers false if it was released before. */
  #release(): boolean {
    if (!this.#fabric.connections.delete(this)) return false
    this.#fabric.stuck.delete(this.there)
    this.#fabric.stuck.delete(this.back)
    this.#fabric.counts.lost += this.there.cut() + this.back.cut()
    return true
  }

  #from(pipe: Pipe): Machine {
    return pipe === this.back ? this.far : this.near
  }

  #to(pipe: Pipe): Machine {
    return pipe === this.back ? this.near : this.far
  }

  #tell(what: Happening['what']): void {
    this.#fabric.happened(what, this.road, this.near, this.far)
  }
}
