// An audit log that misses nothing: a durable subscriber is a group that only one uses.
//   node examples/08-audit.js service billing ./data/billing
//   node examples/08-audit.js audit ./audit.ndjson
import { appendFile, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { createNode } from 'skein'

const [role = 'audit', ...rest] = process.argv.slice(2)
const leaving = new AbortController()
process.once('SIGINT', () => leaving.abort())

if (role === 'service') {
  const [name = 'billing', dataDir = `./data/${name}`] = rest
  const node = await createNode({ name, mesh: 'audit', dataDir })
  for (let number = 1; !leaving.signal.aborted; number++) {
    const options = { delivery: /** @type {const} */ ('at-least-once'), owedTo: ['audit'] }
    await node.publish(`audit.${name}.paid`, { number }, options)
    await sleep(100, undefined, { signal: leaving.signal }).catch(() => {})
    if (number % 5 === 0) console.log(`${number} events, ${node.stats().owed} not written yet`)
  }
  await node.close()
} else {
  const [path = './audit.ndjson'] = rest
  const before = await readFile(path, 'utf8').catch(() => '')
  // Written before it was acknowledged, it may come again: the id tells.
  const seen = new Set(before.split('\n').flatMap((line) => (line === '' ? [] : JSON.parse(line).id)))
  const node = await createNode({ name: 'audit', mesh: 'audit' })
  node.subscribe(
    'audit.>',
    async (value, { id, topic }) => {
      if (seen.has(id)) return
      await appendFile(path, `${JSON.stringify({ id, topic, value })}\n`)
      seen.add(id)
      if (seen.size % 5 === 0) console.log(`${seen.size} events written`)
    },
    { group: 'audit' },
  )
  console.log('writing')
  leaving.signal.addEventListener('abort', () => void node.close())
}
