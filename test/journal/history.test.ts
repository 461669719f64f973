import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { FAULTY_HISTORY, HISTORY, History } from '../support/journal-history.ts'

/** A longer run, of other histories: `JOURNAL_RUNS=20000 JOURNAL_SEED=7 npx vitest run test/journal/history.test.ts`. */
const RUNS = Number(process.env.JOURNAL_RUNS ?? 150)
const SEED = Number(process.env.JOURNAL_SEED ?? 1)
const MOST_MS = 10_000 + 100 * RUNS

const parameters = { numRuns: RUNS, seed: SEED }

test(
  'journal - whatever is appended, settled and replaced between power cuts and kills, nothing accepted is lost, nothing is made up (G1)',
  async () => {
    let crashes = 0
    let merges = 0
    await fc.assert(
      fc.asyncProperty(HISTORY, fc.integer(), async (steps, seed) => {
        const history = new History(seed)
        expect(await history.live(steps)).toEqual([])
        crashes += history.crashes
        merges += history.merges
      }),
      parameters,
    )
    expect(crashes).toBeGreaterThan(RUNS)
    expect(merges).toBeGreaterThan(RUNS / 10)
  },
  MOST_MS,
)

test(
  'journal - on a disk that fails at any operation or is full, what was accepted is there and what was refused is not (G1)',
  async () => {
    let refusals = 0
    await fc.assert(
      fc.asyncProperty(FAULTY_HISTORY, fc.integer(), async (steps, seed) => {
        const history = new History(seed)
        expect(await history.live(steps)).toEqual([])
        refusals += history.refusals
      }),
      parameters,
    )
    expect(refusals).toBeGreaterThan(RUNS / 10)
  },
  MOST_MS,
)

test(
  "journal - with durability 'os', what was accepted survives every kill (G1)",
  async () => {
    await fc.assert(
      fc.asyncProperty(FAULTY_HISTORY, fc.integer(), async (steps, seed) => {
        expect(await new History(seed, 'os').live(steps)).toEqual([])
      }),
      parameters,
    )
  },
  MOST_MS,
)
