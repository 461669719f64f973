import { describe, expect, test } from 'vitest'
import { type Advert, instanceOf } from '../../src/discovery/advert.ts'
import { Neighbours } from '../../src/discovery/neighbours.ts'

const advert = (number: number, over: Partial<Advert> = {}): Advert => {
  const id = number.toString(16).padStart(32, '0')
  return { id, boot: id, name: `n${number}`, mesh: 'shop', port: 7000, hosts: [], ...over }
}

const instance = (number: number): string => `${instanceOf(advert(number).id, advert(number).boot)}${number}`

/** So many nodes that are announced from one address. */
const fill = (neighbours: Neighbours, count: number, source: string, now = 0, from = 0): number => {
  let refused = 0
  for (let number = from; number < from + count; number++) {
    if (neighbours.hear(instance(number), advert(number), source, now) === 'crowd') refused++
  }
  return refused
}

describe('neighbours', () => {
  test('a node is told when it is first heard, when anything has changed, and now and then', () => {
    const neighbours = new Neighbours()
    const hear = (now: number, over: Partial<Advert> = {}, source = '10.0.0.1'): unknown =>
      neighbours.hear('a', advert(1, over), source, now)
    expect(hear(0)).toEqual(['tcp://10.0.0.1:7000'])
    expect(hear(1)).toEqual([])
    expect(hear(9999)).toEqual([])
    expect(hear(10_000)).toEqual(['tcp://10.0.0.1:7000'])
    expect(hear(11_000, { port: 7100 })).toEqual(['tcp://10.0.0.1:7100'])
    expect(hear(12_000, { port: 7100, name: 'other' })).toEqual(['tcp://10.0.0.1:7100'])
    expect(hear(13_000, { port: 7100, name: 'other' }, '10.0.0.2')).toEqual([
      'tcp://10.0.0.2:7100',
      'tcp://10.0.0.1:7100',
    ])
    expect(hear(14_000, { port: 7100, name: 'other' }, '10.0.0.1')).toEqual([])
  })

  test('a node that changes all the time is told once a second, and its last state in the end', () => {
    const neighbours = new Neighbours()
    let told = 0
    for (let now = 0; now < 10_000; now++) {
      if (neighbours.hear('a', advert(1, { port: 1 + now }), '10.0.0.1', now).length > 0) told++
    }
    expect(told).toBe(10)
    expect(neighbours.hear('a', advert(1, { port: 10_000 }), '10.0.0.1', 10_000)).not.toEqual([])
  })

  test('a node whose advert is repeated from many addresses keeps few of them', () => {
    const neighbours = new Neighbours()
    for (let number = 1; number < 100; number++)
      neighbours.hear('a', advert(1), `10.0.0.${number}`, 1000 * number)
    expect(neighbours.hear('a', advert(1), '10.0.1.1', 200_000)).toHaveLength(4)
  })

  test('a goodbye is told once, and adverts and goodbyes in turn no more often than others', () => {
    const neighbours = new Neighbours()
    neighbours.hear('a', advert(1), '10.0.0.1', 0)
    expect(neighbours.withdraw('a')).toEqual(advert(1))
    expect(neighbours.withdraw('a')).toBeUndefined()
    expect(neighbours.withdraw('b')).toBeUndefined()
    expect(neighbours.hear('a', advert(1), '10.0.0.1', 999)).toEqual([])
    expect(neighbours.withdraw('a')).toBeUndefined()
    expect(neighbours.hear('a', advert(1), '10.0.0.1', 1000)).not.toEqual([])
    expect(neighbours.withdraw('a')).toEqual(advert(1))
  })

  test('whoever is heard after a move is told again', () => {
    const neighbours = new Neighbours()
    neighbours.hear('a', advert(1), '10.0.0.1', 0)
    neighbours.tellAgain()
    expect(neighbours.hear('a', advert(1), '10.0.0.1', 1)).not.toEqual([])
  })

  test('one address has 256 places, and takes none from another', () => {
    const neighbours = new Neighbours()
    expect(fill(neighbours, 10_000, '10.0.0.66')).toBe(10_000 - 256)
    expect(neighbours.size).toBe(256)
    expect(fill(neighbours, 1, '10.0.0.1', 0, 20_000)).toBe(0)
    expect(neighbours.hear(instance(0), advert(0), '10.0.0.66', 10_000)).not.toBe('crowd')
  })

  test('where all places are taken, many behind one address make room for the few behind another', () => {
    const neighbours = new Neighbours()
    for (let source = 0; source < 4; source++)
      fill(neighbours, 256, `10.0.0.${source}`, source, 1000 * source)
    expect(neighbours.size).toBe(1024)
    expect(fill(neighbours, 200, '10.0.1.1', 10, 20_000)).toBe(0)
    expect(neighbours.size).toBe(1024)
    // Nobody gains a place by asking more often than the others.
    expect(fill(neighbours, 100, '10.0.1.1', 10, 30_000)).toBeGreaterThan(80)
  })

  test('whoever was silent for five minutes, or has said goodbye, makes room first', () => {
    const neighbours = new Neighbours()
    fill(neighbours, 256, '10.0.0.66')
    expect(fill(neighbours, 1, '10.0.0.66', 299_999, 1000)).toBe(1)
    neighbours.hear(instance(0), advert(0), '10.0.0.66', 299_999)
    expect(fill(neighbours, 300, '10.0.0.66', 300_000, 1000)).toBe(300 - 255)
    expect(neighbours.hear(instance(0), advert(0), '10.0.0.66', 300_000)).not.toBe('crowd')
    neighbours.withdraw(instance(0))
    expect(fill(neighbours, 2, '10.0.0.66', 300_000, 5000)).toBe(1)
  })

  test('a hundred thousand fakes cost less than a second', () => {
    const neighbours = new Neighbours()
    for (let source = 0; source < 4; source++)
      fill(neighbours, 256, `10.0.0.${source}`, source, 1000 * source)
    const before = process.cpuUsage()
    fill(neighbours, 100_000, '10.0.0.1', 1000, 10_000)
    const { user, system } = process.cpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(1000)
  })
})
