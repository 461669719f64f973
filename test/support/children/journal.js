// Holds the data directory it is given, and appends to its journal until it is killed: one line for each group that is
// durable, with its last sequence.
import { systemClock } from '../../../dist/clock.js'
import { Journal } from '../../../dist/journal/journal.js'

const [directory = '', groups = '0'] = process.argv.slice(2)

const { journal } = await Journal.open({
  directory,
  durability: 'disk',
  clock: systemClock,
  fault(error) {
    throw error
  },
})
console.log('ready')
for (let group = 0; group < Number(groups); group++) {
  let last = { sequence: 0, durable: Promise.resolve() }
  for (let each = 0; each < 10; each++) last = journal.append(1, [`record ${group}.${each}`])
  await last.durable
  console.log(last.sequence)
}
setInterval(() => {}, 1000)
