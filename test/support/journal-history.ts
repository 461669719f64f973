import * as fc from 'fast-check'
import { isSkeinError } from '../../src/errors.ts'
import { FakeClock } from './fake-clock.ts'
import { JournalModel, type Opened, openOn, SMALL } from './journal-model.ts'
import { type Choose, type Failure, type Operation, SimFiles } from './sim-fs.ts'

/** One thing that happens to a journal. */
export type Step =
  | { readonly do: 'append'; readonly bytes: number; readonly times: number; readonly reserve: boolean }
  | { readonly do: 'settle'; readonly which: number; readonly times: number }
  | { readonly do: 'replace'; readonly which: number; readonly bytes: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'turn' }
  | { readonly do: 'fail'; readonly after: number; readonly how: Failure; readonly times: number }
  | { readonly do: 'fill'; readonly spareBytes: number }
  | { readonly do: 'empty' }
  | { readonly do: 'crash'; readonly power: boolean; readonly after: number }
  | { readonly do: 'close' }

const RECORD_BYTES = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 4, max: 200 }) },
  { weight: 2, arbitrary: fc.integer({ min: 200, max: 1500 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1500, max: 4000 }) },
)

const STEP: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      bytes: RECORD_BYTES,
      times: fc.integer({ min: 1, max: 6 }),
      reserve: fc.boolean(),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(20),
      times: fc.integer({ min: 1, max: 8 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('replace' as const), which: fc.nat(20), bytes: RECORD_BYTES }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 20, 1500, 20_000) }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'turn' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('crash' as const), power: fc.boolean(), after: fc.nat(12) }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'close' as const }) },
)

const FAULT: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('fail' as const),
    after: fc.nat(15),
    how: fc.constantFrom<Failure[]>('EIO', 'ENOSPC', 'EINTR', 'short'),
    times: fc.integer({ min: 1, max: 5 }),
  }),
  fc.record({ do: fc.constant('fill' as const), spareBytes: fc.nat(3000) }),
  fc.constant({ do: 'empty' as const }),
)

/** Histories of a healthy disk that loses its power, and of one that fails and fills up as well. */
export const HISTORY = fc.array(STEP, { minLength: 5, maxLength: 60, size: 'max' })
export const FAULTY_HISTORY = fc.array(
  fc.oneof({ weight: 5, arbitrary: STEP }, { weight: 1, arbitrary: FAULT }),
  { minLength: 5, maxLength: 60, size: 'max' },
)

/** What an operation that is made to fail may not be: a record that cannot be read back counts as damage. */
const SPARED: readonly Operation[] = ['list', 'size', 'close', 'read']

/** Lives through a history, crash after crash; answers what a journal must never do and did. */
export class History {
  readonly #choose: Choose
  readonly #durability: 'disk' | 'os'
  readonly #model = new JournalModel()
  readonly #wrong: string[] = []
  #files = new SimFiles()
  #clock = new FakeClock()
  #opened: Opened | undefined
  /** The disk had no room at some time. */
  #wasFull = false
  merges = 0
  crashes = 0
  refusals = 0

  constructor(seed: number, durability: 'disk' | 'os' = 'disk') {
    const { random } = new FakeClock(seed)
    this.#choose = (count) => Math.floor(random() * count)
    this.#durability = durability
  }

  async live(steps: readonly Step[]): Promise<string[]> {
    await this.#files.makeDirectory('/data')
    await this.#files.syncDirectory('/')
    await this.#open()
    for (const step of steps) {
      await this.#take(step)
      if (this.#wrong.length > 0) return this.#wrong.map((wrong) => `${JSON.stringify(step)}: ${wrong}`)
    }
    await this.#end()
    return this.#wrong
  }

  async #take(step: Step): Promise<void> {
    if (this.#opened === undefined) await this.#open()
    const { journal } = this.#opened!
    const model = this.#model
    switch (step.do) {
      case 'append':
        for (let times = 0; times < step.times; times++) {
          if (!model.append(journal, step.bytes, { reserve: step.reserve })) this.refusals++
        }
        break
      case 'settle':
        for (let times = 0; times < step.times; times++) {
          const { owed } = model
          if (owed.length > 0) model.settle(journal, owed[step.which % owed.length]!)
        }
        break
      case 'replace': {
        const { owed } = model
        if (owed.length > 0) model.append(journal, step.bytes, { replaces: owed[step.which % owed.length]! })
        break
      }
      case 'wait':
        await this.#clock.advance(step.ms)
        break
      case 'turn':
        await this.#clock.microtasks()
        break
      case 'fail':
        this.#fail(step.after, step.how, step.times)
        break
      case 'fill':
        this.#wasFull = true
        this.#files.capacityBytes = this.#files.usedBytes + step.spareBytes
        break
      case 'empty':
        this.#files.capacityBytes = Number.POSITIVE_INFINITY
        break
      case 'crash':
        await this.#crash(step.power && this.#durability === 'disk', step.after)
        break
      default:
        this.#files.fail = () => undefined
        await journal.close()
        await this.#open()
    }
    const most = SMALL.totalBytes + SMALL.segmentBytes + 256
    const journalBytes = this.#files.usedBytesIn('/data/journal')
    if (journalBytes > most + 4096) this.#wrong.push(`the journal takes ${journalBytes} bytes of ${most}`)
  }

  #fail(after: number, how: Failure, times: number): void {
    const first = this.#files.operations + 1 + after
    this.#wasFull ||= how === 'ENOSPC'
    this.#files.fail = (operation, _, number) =>
      number >= first && number < first + times && !SPARED.includes(operation) ? how : undefined
  }

  async #crash(power: boolean, after: number): Promise<void> {
    this.crashes++
    this.merges += this.#opened!.journal.stats().merges
    const end = this.#files.operations + after
    // Somewhere within what is under way.
    for (let patience = 0; this.#files.operations < end && patience < 40; patience++) await Promise.resolve()
    this.#files = power ? this.#files.crash(this.#choose, true) : this.#files.kill()
    await this.#open()
  }

  async #open(): Promise<void> {
    this.#clock = new FakeClock(1 + this.#choose(1000))
    try {
      this.#opened = await openOn(this.#files, this.#clock, SMALL, this.#durability)
    } catch (error) {
      if (!isSkeinError(error, 'JOURNAL_FULL')) throw error
      // Nothing can be begun on a disk without any room; with some it must go on.
      this.#files.capacityBytes = Number.POSITIVE_INFINITY
      this.#opened = await openOn(this.#files, this.#clock, SMALL, this.#durability)
    }
    const { journal, recovery } = this.#opened
    this.#wrong.push(...(await this.#model.check(journal, recovery, this.#wasFull)))
  }

  /** The disk is well again: everything is accepted, settled and gone. */
  async #end(): Promise<void> {
    this.#files.fail = () => undefined
    this.#files.capacityBytes = Number.POSITIVE_INFINITY
    await this.#clock.advance(120_000)
    const { journal } = this.#opened!
    this.merges += journal.stats().merges
    if (journal.stats().state !== 'ok')
      this.#wrong.push(`it is ${journal.stats().state} on a disk that is well`)
    for (const sequence of this.#model.owed) this.#model.settle(journal, sequence)
    await this.#clock.advance(20_000)
    if (this.#model.append(journal, 60) === false)
      this.#wrong.push('nothing is accepted on a disk that is well')
    await this.#clock.advance(20_000)
    const { segments, liveRecords } = journal.stats()
    if (segments > 2) this.#wrong.push(`${segments} segments are left when all is settled`)
    if (liveRecords !== this.#model.owed.length)
      this.#wrong.push(`${liveRecords} records are owed, not ${this.#model.owed.length}`)
    await journal.close()
    await this.#open()
    await this.#opened!.journal.close()
  }
}
