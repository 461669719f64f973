// Live readings of any number of sensors, and one view of them all.
//   node examples/04-sensor-readings.js sensor kitchen
//   node examples/04-sensor-readings.js sensor hall
//   node examples/04-sensor-readings.js watch
import { setTimeout as sleep } from 'node:timers/promises'
import { createNode } from 'skein'

const [role = 'watch', room = 'kitchen'] = process.argv.slice(2)
const node = await createNode({ name: role === 'sensor' ? `sensor-${room}` : 'watch', mesh: 'sensors' })
const leaving = new AbortController()
process.once('SIGINT', () => leaving.abort())

/** @param {number} ms */
const wait = (ms) => sleep(ms, undefined, { signal: leaving.signal }).catch(() => {})

if (role === 'sensor') {
  console.log(`sensor in ${room}`)
  for (let n = 0; !leaving.signal.aborted; n++) {
    await node.publish(`sensors.${room}.temp`, { celsius: 21 + Math.sin(n / 10) })
    await node.publish(`sensors.${room}.humidity`, { percent: 45 + (n % 5) })
    await wait(100)
  }
} else {
  /** @type {Map<string, { count: number, sum: number, last: number }>} */
  const rooms = new Map()
  let missed = 0

  // "*" is any one level: the temperature of every room, and nothing else.
  node.subscribe('sensors.*.temp', (value, { topic }) => {
    const { celsius } = /** @type {{ celsius: number }} */ (value)
    const key = topic.split('.')[1] ?? topic
    const { count, sum } = rooms.get(key) ?? { count: 0, sum: 0 }
    rooms.set(key, { count: count + 1, sum: sum + celsius, last: celsius })
  })

  // What a subscriber misses at most once, it is told.
  node.on('gap', ({ topic, count, reason }) => {
    missed += count ?? 0
    console.log(`missed ${count ?? 'some'} of ${topic}: ${reason}`)
  })

  while (!leaving.signal.aborted) {
    await wait(1000)
    for (const [key, { count, sum, last }] of rooms) {
      console.log(`${key}: ${last.toFixed(2)} °C now, ${(sum / count).toFixed(2)} on average of ${count}`)
    }
  }
  console.log(`${rooms.size} rooms, ${missed} readings missed`)
}
await node.close()
