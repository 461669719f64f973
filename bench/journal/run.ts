import { parseArgs } from 'node:util'
import { describeMachine } from '../machine.ts'
import { type Append, measureAppend } from './append.ts'
import { measureRecovery } from './recovery.ts'

/** What the journal costs: `npm run bench:journal`, or `-- --quick`, or `-- --json` for the figures alone. */
const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
})

const DURABILITIES = ['disk', 'os', 'memory'] as const
const GROUPS = [1, 10, 100, 500]
const MEASURE_MS = values.quick ? 200 : 2000
const OWED = values.quick ? 100_000 : 1_000_000
const MUST_OPEN_MS = 2000
const MUST_RSS_MIB = 400

const append: Append[] = []
for (const durability of DURABILITIES) {
  for (const group of GROUPS) append.push(await measureAppend(durability, group, MEASURE_MS))
}
const recovery = await measureRecovery(OWED)
const machine = describeMachine()

if (values.json) console.log(JSON.stringify({ machine, append, recovery }, undefined, 2))
else {
  const { cpu, cores, memoryGiB, os, node, commit } = machine
  console.log(`${cpu}, ${cores} cores, ${memoryGiB} GiB, ${os}, node ${node}; commit ${commit}\n`)
  console.log(
    'Appending records of 100 B, one group after the other; bare: the same bytes, written by hand\n',
  )
  const row = (cells: readonly string[]): void => console.log(cells.map((cell) => cell.padStart(12)).join(''))
  row(['durability', 'group', 'records/s', 'bare', 'ratio', 'p50 µs', 'p99 µs', 'bare p50'])
  for (const each of append) {
    row([
      each.durability,
      `${each.group}`,
      each.recordsPerSecond.toFixed(0),
      each.durability === 'memory' ? '-' : each.barePerSecond.toFixed(0),
      each.durability === 'memory' ? '-' : (each.recordsPerSecond / each.barePerSecond).toFixed(2),
      each.p50Us.toFixed(0),
      each.p99Us.toFixed(0),
      each.durability === 'memory' ? '-' : each.bareP50Us.toFixed(0),
    ])
  }
  const { records, openMs, shownMs, rssMiB, emptyRssMiB } = recovery
  console.log(
    `\nOpening ${records} owed records: ${openMs.toFixed(0)} ms (must: ${MUST_OPEN_MS}), all shown after ` +
      `${shownMs.toFixed(0)} ms, ${rssMiB.toFixed(0)} MiB RSS (must: ${MUST_RSS_MIB}; ${emptyRssMiB.toFixed(0)} with one record)`,
  )
}
if (!values.quick && (recovery.openMs > MUST_OPEN_MS || recovery.rssMiB > MUST_RSS_MIB)) process.exitCode = 1
