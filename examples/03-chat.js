// A chat with no server: node examples/03-chat.js <your name> [room]
import { createInterface } from 'node:readline'
import { createNode } from 'skein'

const [name, room = 'lobby'] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node examples/03-chat.js <your name> [room]')
  process.exit(2)
}

const node = await createNode({ name, mesh: 'chat' })

node.on('peer-up', (peer) => console.log(`* ${peer.name} is here`))
node.on('peer-down', (peer) => console.log(`* ${peer.name} left`))

// echo: false, since one's own lines are on the screen already.
const said = node.subscribe(
  `chat.${room}`,
  (text, message) => console.log(`${message.headers.name}: ${String(text)}`),
  {
    echo: false,
  },
)
await said.ready
const others = node.peers.filter(({ state }) => state === 'up').map((peer) => peer.name)
console.log(`* you are ${name} in ${room}, with ${others.join(' and ') || 'nobody yet'}; Ctrl-D to leave`)

const input = createInterface({ input: process.stdin })
process.once('SIGINT', () => input.close())
for await (const line of input) {
  if (line !== '') await node.publish(`chat.${room}`, line, { headers: { name } })
}
await node.close()
