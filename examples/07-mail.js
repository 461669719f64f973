// A shop publishes what happens; a mail service writes to customers, and catches up when it was down.
//   node examples/07-mail.js shop ./data/shop
//   node examples/07-mail.js mail
// Each line typed into the shop is a customer who signs up. Stop the mail service, sign up some, start it again.
import { createInterface } from 'node:readline'
import { createNode, RetryLater, SkeinError } from 'skein'

const [role = 'mail', dataDir = './data/mail-shop'] = process.argv.slice(2)

if (role === 'shop') {
  const node = await createNode({ name: 'shop', mesh: 'mail', dataDir })
  process.once('SIGINT', () => void node.close())
  console.log('who signs up?')
  for await (const customer of createInterface({ input: process.stdin })) {
    try {
      // 'mail' is owed it even before a mail service was ever seen.
      const options = { delivery: /** @type {const} */ ('at-least-once'), owedTo: ['mail'] }
      const receipt = await node.publish('customer.created', { customer }, options)
      console.log(`${customer} signed up`)
      void receipt.settled.then(([mail]) => console.log(`mail to ${customer}: ${mail?.outcome}`))
    } catch (error) {
      if (!(error instanceof SkeinError)) throw error
      console.log(`${customer} cannot sign up now: ${error.message}`)
    }
  }
  await node.close()
} else {
  const node = await createNode({ name: 'mail', mesh: 'mail' })
  process.once('SIGINT', () => void node.close())
  let isGreylisted = true
  node.subscribe(
    'customer.*',
    (value, { id, redelivered }) => {
      const { customer } = /** @type {{ customer: string }} */ (value)
      // A mail server that says "later" is no failure: this costs no attempt.
      if (isGreylisted) {
        isGreylisted = false
        throw new RetryLater(200, 'the mail server said: later')
      }
      // The id is the same each time: as a Message-ID it lets mail programs show a repeated mail once.
      console.log(
        `mail to ${customer}${redelivered ? ' (again)' : ''}, Message-ID <${id.split('.').at(-1)}@shop>`,
      )
    },
    { group: 'mail' },
  )
  console.log('writing mails')
}
