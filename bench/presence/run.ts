import { measureReal, type Presence } from './real.ts'
import { measureSimulated, type Scale } from './simulated.ts'

/** What it costs to be a member: `npm run bench:presence`, or `-- --json` for the figures alone. */
const REAL: readonly (readonly [nodes: number, processes: number])[] = [
  [50, 1],
  [50, 10],
  [50, 50],
]
const SIMULATED = [50, 125, 250, 500]
const MUST_MESH_MS = 5000
const MUST_IDLE_PERCENT = 3
const IDLE_MS = 20_000

const round = (value: number, digits = 0): string => value.toFixed(digits)

const print = (header: readonly string[], rows: readonly (readonly string[])[]): void => {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  )
  for (const row of [header, ...rows])
    console.log(row.map((cell, column) => cell.padStart(widths[column]!)).join('  '))
  console.log()
}

const real: Presence[] = []
for (const [nodes, processes] of REAL) real.push(await measureReal(nodes, processes, IDLE_MS))
const simulated: Scale[] = []
for (const nodes of SIMULATED) simulated.push(await measureSimulated(nodes))

if (process.argv.includes('--json')) console.log(JSON.stringify({ real, simulated }, undefined, 2))
else {
  console.log(
    `Real sockets, this host: must mesh in ${MUST_MESH_MS} ms and idle at ${MUST_IDLE_PERCENT} % of a core\n`,
  )
  print(
    ['nodes', 'processes', 'meshed ms', 'CPU ms a node', 'idle % of a core'],
    real.map((each) => [
      `${each.nodes}`,
      `${each.processes}`,
      round(each.meshedMs),
      round(each.joinCpuMs / each.nodes),
      round(each.idlePercent, 2),
    ]),
  )
  console.log('Simulated: what one node costs in a mesh of so many\n')
  print(
    [
      'nodes',
      'join batches',
      'KiB',
      'CPU ms',
      'newcomer ms',
      'batches',
      'leaver batches',
      'idle batches/s',
      'CPU ms/min',
      'heap KiB',
    ],
    simulated.map((each) => [
      `${each.nodes}`,
      round(each.joinBatchesPerNode),
      round(each.joinBytesPerNode / 1024),
      round(each.joinCpuMsPerNode),
      round(each.newcomerMs, 1),
      `${each.newcomerBatches}`,
      `${each.leaverBatches}`,
      round(each.idleBatchesPerNodeAndSecond, 2),
      round(each.idleCpuMsPerNodeAndMinute, 1),
      round(each.heapKiBPerNode),
    ]),
  )
}
