import { createNode } from 'skein'

const node = await createNode()
if (process.argv[2] === 'publish') {
  await node.waitForSubscribers('sensors.kitchen')
  await node.publish('sensors.kitchen', { c: 21.5 })
  await node.close()
} else {
  node.subscribe('sensors.>', (value, message) => console.log(message.topic, value))
}
