import { expect, test } from 'vitest'
import { killLoop } from './kill-loop.ts'

const SEED = Number(process.env.SKEIN_FAULT_SEED ?? 9)

test('kill loop - sender and workers killed at random under load: nothing is lost, nothing comes from nowhere, in order, every repeat is flagged, and the journal shrinks (G1, G2, G4, G9)', async () => {
  const result = await killLoop({ seed: SEED, forMs: 5000, perSecond: 2000, stops: true })
  const { sent, accepted, handled, repeats, faults, window, violations, segments, unsettled } = result
  console.info(
    `seed ${SEED}: ${sent} sent, ${accepted} accepted, ${handled} handled, ${faults} faults, ` +
      `${repeats} repeats (at most ${faults * window}), ${segments} segments; ${result.directory}`,
  )
  expect(violations).toEqual([])
  expect(accepted).toBeGreaterThan(1000)
  expect(repeats).toBeLessThanOrEqual(faults * window)
  expect(segments).toBeLessThanOrEqual(2)
  expect(unsettled).toBe(0)
}, 60_000)
