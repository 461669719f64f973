import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Advert,
  endpointsOf,
  instanceOf,
  meshTag,
  parseAdvert,
  type Service,
  serviceOf,
} from '../../src/discovery/advert.ts'
import { type Announcement, isEndpoint } from '../../src/discovery/discovery.ts'

const ID = '0123456789abcdef0123456789abcdef'
const BOOT = 'fedcba9876543210fedcba9876543210'
const INSTANCE = `${ID}-fedcba98`

const announcement = (over: Partial<Announcement> = {}): Announcement => ({
  id: ID,
  boot: BOOT,
  name: 'kitchen',
  mesh: 'shop',
  port: 7400,
  hosts: ['10.0.0.5', 'fd00::5'],
  localEndpoint: 'tcp://127.0.0.1:7400',
  ...over,
})

const service = (over: Partial<Announcement> = {}): Service => {
  const made = serviceOf(announcement(over))
  if (typeof made === 'string') throw new Error(made)
  return made
}

/** As bonjour-service encodes it. */
const itemsOf = ({ txt }: Service): Buffer[] =>
  Object.entries(txt).map(([key, value]) => Buffer.from(`${key}=${value}`))

const advertOf = (over: Partial<Announcement> = {}): Advert => {
  const parsed = parseAdvert(INSTANCE, itemsOf(service(over)))
  if (typeof parsed === 'string') throw new Error(parsed)
  return parsed
}

/** The items of a good advert with some of them changed, or left out. */
const items = (over: Record<string, string | undefined>): Buffer[] =>
  Object.entries({ ...service().txt, ...over })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => Buffer.from(`${key}=${value}`))

const hex = fc.stringMatching(/^[0-9a-f]{32}$/)
const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 60 }).map((each) => each.toWellFormed())
const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain())

describe('advert', () => {
  test('what a node announces arrives as it was', () => {
    expect(service().instance).toBe(INSTANCE)
    expect(advertOf()).toEqual({
      ...{ id: ID, boot: BOOT, name: 'kitchen', mesh: 'shop', port: 7400 },
      hosts: ['10.0.0.5', 'fd00::5'],
    })
  })

  test('whatever a node is called, its items fit into 255 bytes each and 1200 together, and are read again', () => {
    fc.assert(
      fc.property(
        ...[hex, hex, text, text, fc.integer({ min: 1, max: 65_535 }), fc.array(host, { maxLength: 20 })],
        (id, boot, name, mesh, port, hosts) => {
          const made = service({ id, boot, name: name.repeat(5), mesh: mesh.repeat(5), port, hosts })
          const sent = itemsOf(made)
          expect(Math.max(...sent.map((item) => item.length))).toBeLessThanOrEqual(255)
          expect(sent.reduce((sum, item) => sum + item.length + 1, 0)).toBeLessThanOrEqual(1200)
          const read = parseAdvert(made.instance, sent) as Advert
          expect(read).toMatchObject({ id, boot, port, mesh: meshTag(mesh.repeat(5)) })
          expect(name.repeat(5).startsWith(read.name)).toBe(true)
          expect(hosts).toEqual(expect.arrayContaining([...read.hosts]))
        },
      ),
    )
  })

  test('an instance has no dots and fits into a label', () => {
    expect(instanceOf(ID, BOOT)).toMatch(/^[0-9a-f-]{1,63}$/)
  })

  test('a name that is too long ends with a whole character', () => {
    expect(advertOf({ name: 'ü'.repeat(100) }).name).toBe('ü'.repeat(64))
    expect(advertOf({ name: `a${'ü'.repeat(100)}` }).name).toBe(`a${'ü'.repeat(63)}`)
    expect(advertOf({ name: '🙂'.repeat(33) }).name).toBe('🙂'.repeat(32))
    expect(advertOf({ name: 'a'.repeat(128) }).name).toBe('a'.repeat(128))
  })

  test('long mesh names are told apart by a hash, and never taken for a short one', () => {
    const long = 'shop'.repeat(50)
    expect(meshTag('shop')).toBe('shop')
    expect(meshTag(long)).not.toBe(meshTag(`${long}s`))
    expect(Buffer.byteLength(meshTag(long))).toBeGreaterThan(64)
    expect(Buffer.byteLength(meshTag('ü'.repeat(127)))).toBeLessThanOrEqual(73)
    expect(meshTag(meshTag(long))).not.toBe(meshTag(long))
  })

  test('of many hosts the likeliest seven are told that fit and can be dialled', () => {
    const many = Array.from({ length: 20 }, (_, index) => `10.0.0.${index}`)
    expect(advertOf({ hosts: many }).hosts).toEqual(many.slice(0, 7))
    const name = `${'h'.repeat(239)}.local`
    expect(advertOf({ hosts: [name, '10.0.0.1', '::1'] }).hosts).toEqual([name, '::1'])
    expect(advertOf({ hosts: ['h'.repeat(250), '10.0.0.1', '10.0.0.1'] }).hosts).toEqual(['10.0.0.1'])
    expect(advertOf({ hosts: ['fe80::1%eth0', 'fe80::1', '*', '', 'a;b', '10.0.0.1'] }).hosts).toEqual([
      '10.0.0.1',
    ])
  })

  test('a node that cannot be announced says why', () => {
    expect(serviceOf(announcement({ id: 'me' }))).toBe('its id is not 32 lower-case hex digits')
    expect(serviceOf(announcement({ port: 0 }))).toBe('its port is none')
  })

  test.each([
    ['another version', { v: '2' }, 'it is of another version'],
    ['no version', { v: undefined }, 'it is of another version'],
    ['a bad id', { id: ID.toUpperCase() }, 'its id is not 32 lower-case hex digits'],
    ['a short id', { id: ID.slice(1) }, 'its id is not 32 lower-case hex digits'],
    ['no boot', { boot: undefined }, 'its boot is not 32 lower-case hex digits'],
    ['the id of another', { id: BOOT }, 'its instance is not named after its id and boot'],
    ['another boot', { boot: ID }, 'its instance is not named after its id and boot'],
    ['no name', { name: '' }, 'it has no name'],
    ['no mesh', { mesh: undefined }, 'it names no mesh'],
    ['port 0', { port: '0' }, 'its port is none'],
    ['a port beyond the last', { port: '65536' }, 'its port is none'],
    ['a port in hex', { port: '0x50' }, 'its port is none'],
    ['no port', { port: undefined }, 'its port is none'],
    ['a second endpoint', { hosts: 'tcp://10.0.0.1:1;tcp://10.0.0.2:2' }, 'one of its hosts is'],
    ['a source address', { hosts: '10.0.0.1;10.0.0.2' }, 'one of its hosts is'],
    ['a wildcard', { hosts: '10.0.0.1,*' }, 'one of its hosts is'],
    ['a bracket', { hosts: '[::1]' }, 'one of its hosts is'],
    ['too many hosts', { hosts: 'a,b,c,d,e,f,g,h' }, 'it names more than 7 hosts'],
  ] as const)('%s is a flaw', (_, over, flaw) => {
    expect(parseAdvert(INSTANCE, items(over))).toContain(flaw)
  })

  test('what is too large or no text is a flaw', () => {
    const one = Buffer.alloc(255, 97)
    expect(parseAdvert(INSTANCE, [...items({}), Buffer.alloc(256)])).toBe('it is larger than 1200 bytes')
    expect(parseAdvert(INSTANCE, [one, one, one, one, one])).toBe('it is larger than 1200 bytes')
    expect(parseAdvert(INSTANCE, Array(1201).fill(Buffer.alloc(0)))).toBe('it is larger than 1200 bytes')
    expect(parseAdvert(INSTANCE, [...items({}), Buffer.from([0xff])])).toBe('it is not UTF-8')
    expect(parseAdvert(INSTANCE, 'v=1')).toBe('it is not a list of items')
    expect(parseAdvert(INSTANCE, ['v=1'])).toBe('it is not a list of items')
    expect(parseAdvert(INSTANCE, undefined)).toBe('it is not a list of items')
  })

  test('of an item that comes twice the first counts, and what is unknown is passed over', () => {
    const unknown = ['id=other', 'V=2', 'later=1', 'flag', '=', '__proto__=1'].map((item) =>
      Buffer.from(item),
    )
    expect(parseAdvert(INSTANCE, [...items({}), ...unknown])).toEqual(advertOf())
  })

  test('any bytes are an advert that is whole, or a flaw', () => {
    const key = fc.constantFrom('v=1', 'id=', 'boot=', 'name=', 'mesh=', 'port=', 'hosts=', '')
    const item = fc.tuple(key, fc.uint8Array({ maxLength: 60 }))
    fc.assert(
      fc.property(fc.array(item, { maxLength: 20 }), (parts) => {
        const bytes = parts.map(([name, value]) => Buffer.concat([Buffer.from(name), value]))
        const parsed = parseAdvert(INSTANCE, [...bytes, ...items({})])
        if (typeof parsed === 'string') return
        expect(parsed).toMatchObject({ id: ID, boot: BOOT })
        expect(endpointsOf(parsed, ['127.0.0.1']).every((endpoint) => isEndpoint(endpoint))).toBe(true)
      }),
    )
  })

  test('the source of the packets is dialled first, then the hosts, eight in all, IPv6 in brackets', () => {
    const many = Array.from({ length: 7 }, (_, index) => `fd00::${index}`)
    const endpoints = endpointsOf(advertOf({ hosts: many }), ['192.168.1.9', '192.168.2.9'])
    expect(endpoints).toEqual([
      'tcp://192.168.1.9:7400',
      'tcp://192.168.2.9:7400',
      ...many.slice(0, 6).map((each) => `tcp://[${each}]:7400`),
    ])
    expect(endpointsOf(advertOf({ hosts: ['10.0.0.5'] }), ['10.0.0.5'])).toEqual(['tcp://10.0.0.5:7400'])
    expect(endpointsOf(advertOf(), ['fe80::1%eth0'])).not.toContain('tcp://[fe80::1%eth0]:7400')
  })
})
