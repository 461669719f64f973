import { parseArgs } from 'node:util'
import { type KillLoopResult, killLoop } from './kill-loop.ts'
import { noPowerCuts, powerCuts } from './power-cut.ts'

/**
 * The long run of what `npm test` does for seconds: `npm run test:faults`, or for less of it
 * `npm run test:faults -- --minutes 1 --cuts 10 --seed 7`. Ends with 1 if anything is wrong, and then says where the
 * history of it lies.
 */
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '15' },
    cuts: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    rate: { type: 'string', default: '2000' },
  },
})
const minutes = Number(values.minutes)
const cuts = Number(values.cuts)
const seed = Number(values.seed)
const ROUND_MS = 30_000

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const rows: Record<string, string>[] = []
const wrong: string[] = []

const killRounds = async (): Promise<void> => {
  const totals = { sent: 0, accepted: 0, handled: 0, lost: 0, faults: 0, repeats: 0 }
  let senderKills = 0
  let workerKills = 0
  let stops = 0
  let segments = 0
  let window = 0
  const endAt = performance.now() + minutes * 60_000
  for (let round = 0; performance.now() < endAt; round++) {
    const forMs = Math.min(ROUND_MS, Math.max(3000, endAt - performance.now()))
    const result = await killLoop({ seed: seed + round, forMs, perSecond: Number(values.rate), stops: true })
    for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += result[key]
    senderKills += result.senderKills
    workerKills += result.workerKills
    stops += result.stops
    segments = Math.max(segments, result.segments)
    window = result.window
    wrong.push(...faultsOf(result, seed + round))
    say(
      `kill loop, seed ${seed + round}: ${result.accepted} accepted, ${result.lost} lost, ${result.faults} faults, ` +
        `${result.repeats} repeats, at rest after ${result.restMs} ms, ${result.segments} segments; ` +
        `${result.violations.length === 0 ? 'ok' : `WRONG, see ${result.directory}`}`,
    )
  }
  rows.push({
    what: 'kill loop',
    done: `${senderKills} senders and ${workerKills} workers killed, ${stops} stopped`,
    accepted: String(totals.accepted),
    handled: String(totals.handled),
    lost: String(totals.lost),
    repeats: `${totals.repeats} of at most ${totals.faults} × ${window}`,
    segments: String(segments),
  })
}

const faultsOf = (
  { violations, repeats, faults, window, segments, unsettled }: KillLoopResult,
  of: number,
) => {
  const found = violations.map((each) => `kill loop, seed ${of}: ${each}`)
  if (repeats > faults * window) found.push(`kill loop, seed ${of}: ${repeats} repeats are too many`)
  if (segments > 2) found.push(`kill loop, seed ${of}: the journal still has ${segments} segments`)
  if (unsettled !== 0) found.push(`kill loop, seed ${of}: ${unsettled} unsettled at the end`)
  return found
}

const cutRounds = async (): Promise<void> => {
  const why = noPowerCuts()
  if (why !== undefined) return say(`power cuts are skipped: ${why}`)
  const correct = await powerCuts({ seed, cuts, durability: 'disk' })
  const broken = await powerCuts({ seed, cuts: Math.max(1, Math.ceil(cuts / 20)), durability: 'os' })
  wrong.push(...correct.violations.map((each) => `power cuts: ${each}`))
  if (correct.lost > 0) wrong.push(`power cuts: ${correct.lost} lost`)
  if (broken.lost === 0)
    wrong.push('power cuts: a writer that does not sync loses nothing, so they prove nothing')
  for (const [what, { accepted, lost, cuts: done }] of [
    ['power cuts', correct],
    ['power cuts, unsynced on purpose', broken],
  ] as const)
    rows.push({ what, done: String(done), accepted: String(accepted), lost: String(lost) })
}

if (minutes > 0) await killRounds()
if (cuts > 0) await cutRounds()

const columns = ['what', 'done', 'accepted', 'handled', 'lost', 'repeats', 'segments']
const widths = columns.map((column) =>
  Math.max(column.length, ...rows.map((row) => (row[column] ?? '').length)),
)
say('')
for (const row of [Object.fromEntries(columns.map((column) => [column, column])), ...rows])
  say(columns.map((column, at) => (row[column] ?? '').padEnd(widths[at]!)).join('  '))
for (const each of wrong) say(`WRONG: ${each}`)
process.exitCode = wrong.length > 0 ? 1 : 0
