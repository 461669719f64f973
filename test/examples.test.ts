import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
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

const directory = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'skein-example-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

test('examples - orders: a packer is killed, the shop is killed, and every order is packed or given up (G1)', async () => {
  const dataDir = directory()
  const killed = start('06-orders', ['packer'])
  await killed.prints('packing')
  const shop = start('06-orders', ['shop', dataDir, '12'])
  await killed.prints('packed order')
  killed.kill('SIGKILL')
  shop.kill('SIGKILL')
  await Promise.all([killed.ended, shop.ended])
  const packers = [start('06-orders', ['packer']), start('06-orders', ['packer'])]
  await Promise.all(packers.map((packer) => packer.prints('packing')))
  const again = start('06-orders', ['shop', dataDir, '0'])
  const numbers = () =>
    new Set(
      [killed, ...packers].flatMap(({ stdout }) => stdout.match(/(?<=packed order )\d+/g) ?? []).map(Number),
    )
  const given = () =>
    new Set([shop, again].flatMap(({ stdout }) => stdout.match(/(?<=order )\d+(?= is empty)/g) ?? []))
  await again.prints('0 packed')
  expect((await again.ended).exitCode).toBe(0)
  expect([...numbers()].sort((one, other) => one - other)).toEqual([2, 3, 4, 6, 7, 8, 10, 11, 12])
  expect(given().size).toBe(3)
  for (const packer of packers) packer.kill('SIGINT')
  for (const packer of packers) expect((await packer.ended).exitCode).toBe(0)
})

test('examples - mail: who signs up while the mail service is down gets a mail when it is back (G2)', async () => {
  const shop = start('07-mail', ['shop', directory()], { open: true })
  await shop.prints('who signs up?')
  shop.process.stdin?.write('ada\n')
  await shop.prints('ada signed up')
  const first = start('07-mail', ['mail'])
  await shop.prints('mail to ada: handled')
  first.kill('SIGKILL')
  await first.ended
  shop.process.stdin?.write('bob\neve\n')
  await shop.prints('eve signed up')
  const second = start('07-mail', ['mail'])
  await Promise.all([shop.prints('mail to bob: handled'), shop.prints('mail to eve: handled')])
  expect(first.stdout.match(/mail to \w+/g)).toEqual(['mail to ada'])
  expect(second.stdout.match(/mail to \w+/g)!.sort()).toEqual(['mail to bob', 'mail to eve'])
  shop.process.stdin?.end()
  second.kill('SIGINT')
  expect([(await shop.ended).exitCode, (await second.ended).exitCode]).toEqual([0, 0])
})

test('examples - audit: a durable subscriber that was killed has every event, once', async () => {
  const path = join(directory(), 'audit.ndjson')
  const service = start('08-audit', ['service', 'billing', directory()])
  const first = start('08-audit', ['audit', path])
  await first.prints('5 events written')
  first.kill('SIGKILL')
  await first.ended
  await service.prints(/\d+ events, [1-9]\d* not written yet/)
  const second = start('08-audit', ['audit', path])
  await second.prints(/(15|20) events written/)
  service.kill('SIGINT')
  expect((await service.ended).exitCode).toBe(0)
  second.kill('SIGINT')
  expect((await second.ended).exitCode).toBe(0)
  const lines = readFileSync(path, 'utf8').trim().split('\n')
  const numbers = lines.map((line) => (JSON.parse(line) as { value: { number: number } }).value.number)
  expect(numbers.toSorted((one, other) => one - other)).toEqual(numbers.map((_, index) => index + 1))
})

test('examples - inventory: the changes of each article are made in order, by any worker (G4)', async () => {
  const warehouses = [start('09-inventory', ['warehouse']), start('09-inventory', ['warehouse'])]
  await Promise.all(warehouses.map((warehouse) => warehouse.prints('at work')))
  const shop = await start('09-inventory', ['shop']).ended
  expect(shop.exitCode).toBe(0)
  expect(shop.lines).toEqual(['apples', 'pears', 'plums'].map((sku) => `${sku}: 10 changes, in order`))
  for (const warehouse of warehouses) {
    await warehouse.prints('changes made here')
    warehouse.kill('SIGINT')
    expect((await warehouse.ended).exitCode).toBe(0)
  }
})
