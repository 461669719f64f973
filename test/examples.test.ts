import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type StartOptions, startProgram } from './support/skein-cli.ts'

const start = (name: string, args: readonly string[], options?: StartOptions) =>
  startProgram(fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url)), args, options)

test('examples - publish and subscribe: what one terminal publishes, the other prints', async () => {
  const subscriber = start('01-publish-subscribe', ['subscribe'])
  const publisher = start('01-publish-subscribe', ['publish'])
  await subscriber.prints('sensors.kitchen { c: 21.5 }')
  expect((await publisher.ended).exitCode).toBe(0)
  // The smallest program has no handler of its own: Ctrl-C ends it as it ends any other.
  subscriber.kill('SIGINT')
  expect(await subscriber.ended).toMatchObject({ signal: 'SIGINT', stderr: '' })
})

test('examples - request and respond: one service asks another, in whatever order they start', async () => {
  const shop = start('02-request-respond', ['shop', 'a1', 'nothing'])
  const prices = start('02-request-respond', ['prices'])
  expect(await shop.ended).toMatchObject({
    exitCode: 0,
    stdout: "{ sku: 'a1', price: 19.9 }\nno price for nothing: UNKNOWN_SKU\n",
  })
  prices.kill('SIGINT')
  expect(await prices.ended).toMatchObject({ exitCode: 0, stderr: '' })
})

test('examples - chat: everybody reads what the others say, and not what they said themselves', async () => {
  const ada = start('03-chat', ['ada'], { open: true })
  const bob = start('03-chat', ['bob'], { open: true })
  await Promise.all([ada.prints(/with bob|\* bob is here/), bob.prints(/with ada|\* ada is here/)])
  await Promise.all([ada.prints('you are ada'), bob.prints('you are bob')])
  ada.process.stdin?.write('hello\n')
  await bob.prints('ada: hello')
  bob.process.stdin?.write('hello yourself\n')
  await ada.prints('bob: hello yourself')
  ada.process.stdin?.end()
  await bob.prints('* ada left')
  bob.kill('SIGINT')
  const [adaEnded, bobEnded] = await Promise.all([ada.ended, bob.ended])
  expect([adaEnded.exitCode, bobEnded.exitCode]).toEqual([0, 0])
  expect(adaEnded.stdout).not.toContain('ada: hello')
})

test('examples - sensor readings: one view of all sensors, and nothing missed', async () => {
  const watch = start('04-sensor-readings', ['watch'])
  const kitchen = start('04-sensor-readings', ['sensor', 'kitchen'])
  const hall = start('04-sensor-readings', ['sensor', 'hall'])
  await Promise.all([watch.prints(/kitchen: .* on average/), watch.prints(/hall: .* on average/)])
  for (const program of [watch, kitchen, hall]) program.kill('SIGINT')
  const ended = await Promise.all([watch, kitchen, hall].map((program) => program.ended))
  expect(ended.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0])
  expect(ended[0]!.stdout).toContain('2 rooms, 0 readings missed')
})

test('examples - a test of a service of one’s own: a partition of a minute in a simulated network', async () => {
  const ran = await start('05-test-with-a-partition', []).ended
  expect(ran.stdout).toMatch(/^. pass 1$/m)
  expect(ran.exitCode).toBe(0)
})
