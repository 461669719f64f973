import { expect, test } from 'vitest'
import { type HostAddress, NetworkWatch } from '../../src/discovery/network-watch.ts'
import { FakeClock } from '../support/fake-clock.ts'

class Bench {
  readonly clock = new FakeClock()
  readonly reports: string[] = []
  looks = 0
  fails = false
  addresses: HostAddress[] = [
    { interface: 'lo', address: '127.0.0.1' },
    { interface: 'eth0', address: '10.0.0.5' },
  ]
  readonly watch = new NetworkWatch({
    clock: this.clock,
    addresses: () => {
      this.looks++
      if (this.fails) throw new Error('uv_interface_addresses')
      return this.addresses
    },
    changed: (why) => this.reports.push(why),
  })

  constructor() {
    this.watch.start()
  }

  /** Until the next look is over, which comes after 4.5 to 5.5 s. */
  async look(): Promise<string[]> {
    await this.clock.advance(5500)
    return this.reports.splice(0)
  }
}

test('network watch - it looks every 5 s, a tenth more or less, so that nodes started together part', async () => {
  const at = new Bench()
  const seen: number[] = []
  for (let i = 0; i < 2000; i++) {
    const before = at.looks
    await at.clock.advance(25)
    if (at.looks > before) seen.push(at.clock.now())
  }
  const pauses = seen.slice(1).map((ms, i) => ms - seen[i]!)
  expect(pauses.every((ms) => ms >= 4475 && ms <= 5525)).toBe(true)
  expect(new Set(pauses).size).toBeGreaterThan(3)
  expect([at.reports, at.clock.pendingTimers]).toEqual([[], 1])
})

test('network watch - an address that came or went, or moved to another interface, is reported once', async () => {
  const at = new Bench()
  at.addresses = [...at.addresses, { interface: 'wlan0', address: '192.168.1.7' }]
  expect(await at.look()).toEqual(['addresses'])
  expect(await at.look()).toEqual([])
  at.addresses = [at.addresses[0]!, { interface: 'eth1', address: '10.0.0.5' }]
  expect(await at.look()).toEqual(['addresses'])
  at.addresses = []
  expect(await at.look()).toEqual(['addresses'])
})

test('network watch - the same addresses in another order, or listed twice, are the same', async () => {
  const at = new Bench()
  at.addresses = [...at.addresses, ...at.addresses].reverse()
  expect(await at.look()).toEqual([])
})

test('network watch - where the addresses cannot be read nothing has changed, until they can and have', async () => {
  const at = new Bench()
  at.fails = true
  expect(await at.look()).toEqual([])
  at.fails = false
  expect(await at.look()).toEqual([])
  at.fails = true
  at.addresses = []
  expect(await at.look()).toEqual([])
  at.fails = false
  expect(await at.look()).toEqual(['addresses'])
})

test('network watch - sleep shows by the clock of people, where the own one stands still meanwhile', async () => {
  const at = new Bench()
  await at.clock.advance(1000)
  at.clock.sleep(3_600_000)
  expect(await at.look()).toEqual(['woke'])
  expect(await at.look()).toEqual([])
  at.clock.sleep(4999)
  expect(await at.look()).toEqual([])
  at.clock.sleep(5000)
  expect(await at.look()).toEqual(['woke'])
})

test('network watch - sleep shows by a look that comes half a minute late, where the own clock goes on', async () => {
  const at = new Bench()
  at.clock.random = () => 0.5
  await at.look()
  at.clock.stall(20_000)
  expect(await at.look()).toEqual([])
  at.clock.stall(40_000)
  expect(await at.look()).toEqual(['woke'])
  expect(await at.look()).toEqual([])
})

test('network watch - a clock that people set back is no sleep, and one that they set forward is taken for one', async () => {
  const at = new Bench()
  at.clock.wallAheadMs -= 86_400_000
  expect(await at.look()).toEqual([])
  at.clock.wallAheadMs += 86_400_000
  expect(await at.look()).toEqual(['woke'])
  for (let i = 0; i < 10; i++) {
    at.clock.wallAheadMs += 500
    expect(await at.look()).toEqual([])
  }
})

test('network watch - who woke elsewhere is told so once, not twice', async () => {
  const at = new Bench()
  at.clock.sleep(60_000)
  at.addresses = [{ interface: 'wlan0', address: '192.168.9.9' }]
  expect(await at.look()).toEqual(['woke'])
  expect(await at.look()).toEqual([])
})

test('network watch - it may be closed from within a report, and then looks no more (G10)', async () => {
  const clock = new FakeClock()
  let looks = 0
  const watch = new NetworkWatch({
    clock,
    addresses: () => [{ interface: 'lo', address: `127.0.0.${++looks}` }],
    changed: () => watch.close(),
  })
  watch.start()
  watch.start()
  await clock.advance(60_000)
  expect([looks, clock.pendingTimers]).toEqual([2, 0])
  watch.close()
})
