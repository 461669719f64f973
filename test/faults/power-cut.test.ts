import { expect, test } from 'vitest'
import { noPowerCuts, powerCuts } from './power-cut.ts'

const why = noPowerCuts()
if (why !== undefined) console.info(`skipped: ${why}`)
const SEED = Number(process.env.SKEIN_FAULT_SEED ?? 1)

test.skipIf(why !== undefined)(
  'power cut - of what a send to a journal on the disk accepted, nothing is lost when the power goes (G1)',
  async () => {
    const { accepted, lost, violations } = await powerCuts({ seed: SEED, cuts: 3, durability: 'disk' })
    console.info(`seed ${SEED}: 3 power cuts, ${accepted} accepted, ${lost} lost`)
    expect(violations).toEqual([])
    expect(accepted).toBeGreaterThan(0)
    expect(lost).toBe(0)
  },
  60_000,
)

test.skipIf(why !== undefined)(
  'power cut - the same cut takes away what was never synced: it would show',
  async () => {
    const { accepted, lost } = await powerCuts({ seed: SEED, cuts: 3, durability: 'os' })
    console.info(`seed ${SEED}: 3 power cuts without syncing, ${accepted} accepted, ${lost} lost`)
    expect(lost).toBeGreaterThan(0)
  },
  60_000,
)
