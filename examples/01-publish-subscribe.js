// Terminal 1: node examples/01-publish-subscribe.js subscribe
// Terminal 2: node examples/01-publish-subscribe.js publish
import { createNode } from 'skein'

const node = await createNode()
if (process.argv[2] === 'publish') {
  await node.waitForSubscribers('sensors.kitchen')
  await node.publish('sensors.kitchen', { c: 21.5 })
  await node.close()
} else {
  node.subscribe('sensors.>', (value, message) => console.log(message.topic, value))
  process.once('SIGINT', () => void node.close())
}
