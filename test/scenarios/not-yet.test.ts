import { expect, test } from 'vitest'
import { createNode, type Node, type NodeOptions, SkeinError } from '../../src/index.ts'
import { errorOf, start } from '../support/mesh.ts'

test('createNode - a secret is refused instead of ignored, and not repeated', async () => {
  const error = await errorOf(() => createNode({ secret: 's3cret' }))
  expect(error).toMatchObject({ code: 'NOT_SUPPORTED', retryable: false, mayHaveRun: false })
  expect(error.message).toContain("'secret'")
  expect(error.message).not.toContain('s3cret')
})

// What a caller without types can write.
const call = (run: (node: Record<keyof Node, (...args: unknown[]) => unknown>) => unknown) => (node: Node) =>
  run(node as never)

test.each<[string, object, RegExp]>([
  ['an unknown option', { topcis: 1 }, /'topcis'.*known are.*mesh/],
  ['an unknown limit', { limits: { maxBytes: 1 } }, /'limits\.maxBytes'.*maxValueBytes/],
  ['an unknown kind of discovery', { discovery: { bonjour: true } }, /'discovery\.bonjour'.*registry/],
  ['a limit of none', { limits: { maxTopics: 0 } }, /'limits\.maxTopics'.*0.*positive/],
  ['a fraction as limit', { limits: { feedBytes: 1.5 } }, /'limits\.feedBytes'.*1\.5/],
  ['feed values above what is safe', { limits: { feedValueBytes: 1e6 } }, /'limits\.feedValueBytes'.*262144/],
  ['an empty name', { name: '' }, /'name'.*""/],
  ['a number as name', { name: 5 }, /'name'.*5/],
  ['an empty mesh', { mesh: '' }, /'mesh'/],
  ['a mesh of 256 bytes', { mesh: 'm'.repeat(256) }, /'mesh'.*255/],
  ['an id that is none', { id: 'nobody' }, /'id'.*'nobody'.*32/],
  ['an id in upper case', { id: 'AB'.repeat(16) }, /'id'.*lower/],
  ['a negative port', { port: -1 }, /'port'.*-1/],
  ['a port without two behind it', { port: 65_534 }, /'port'.*65534.*three/],
  ['a text as port', { port: '7400' }, /'port': '7400' \(a text\) is not a port; a number is/],
  ['a text as choice', { open: 'yes' }, /'open'.*yes.*true or false/],
  ['a text as listen', { listen: 1 }, /'listen'/],
  ['a negative time', { settleMs: -1 }, /'settleMs'.*-1.*milliseconds/],
  ['a text as time', { settleMs: '5' }, /'settleMs': '5' \(a text\) is not a time; a number/],
  ['no number as time', { goneMs: Number.NaN }, /'goneMs'.*NaN/],
  ['an endless time', { closeTimeoutMs: Number.POSITIVE_INFINITY }, /'closeTimeoutMs'/],
  ['a seed that is no list', { discovery: { seeds: 'db:7400' } }, /'discovery\.seeds'.*db:7400.*array/],
  ['a seed without a port', { discovery: { seeds: ['db.local'] } }, /'discovery\.seeds'.*'db\.local'.*port/],
  [
    'a seed with two',
    { open: true, discovery: { seeds: ['tcp://a:1;b:2'] } },
    /'discovery\.seeds'.*endpoint/,
  ],
  [
    'a seed far away',
    { discovery: { seeds: ['10.0.0.5:7400'] } },
    /10\.0\.0\.5:7400.*beyond this host.*open/,
  ],
  [
    'a seed far away of a node that only dials',
    { listen: false, discovery: { seeds: ['10.0.0.5:7400'] } },
    /10\.0\.0\.5:7400.*beyond this host.*open/,
  ],
  ['a text as mdns', { discovery: { mdns: 'yes' } }, /'discovery\.mdns'.*true or false/],
  ['a text as gossip', { discovery: { gossip: 1 } }, /'discovery\.gossip'/],
  ['an address that is none', { open: true, bind: '10.0.0.5:7' }, /'bind'.*10\.0\.0\.5:7/],
  ['an open address', { bind: '10.0.0.5' }, /'bind'.*beyond this host.*open/],
  ['nothing to advertise', { open: true, advertise: [] }, /'advertise'.*0 entries/],
  ['a wildcard to advertise', { open: true, advertise: '0.0.0.0' }, /'advertise'.*cannot be dialled/],
  ['an interface that is not there', { interface: 'nowhere0' }, /'interface'.*nowhere0.*this host has .*lo/],
  ['an empty dataDir', { dataDir: '' }, /'dataDir'.*""/],
  ['a durability that is none', { durability: 'tape' }, /'durability'.*tape.*'disk', 'os' and 'memory'/],
  ['a durability without files', { durability: 'os' }, /'durability'.*'os' needs files.*'dataDir'/],
  ['no attempts', { maxAttempts: 0 }, /'maxAttempts'.*0/],
  ['a text as time to remember', { rememberMs: '7d' }, /'rememberMs'.*7d/],
  ['a number as registry', { discovery: { registry: 5 } }, /'discovery\.registry'/],
])('createNode - %s is refused with the option and its rule', async (_, options, text) => {
  const error = await errorOf(() => createNode(options as NodeOptions))
  expect(error.code).toBe('OPTION_INVALID')
  expect(error.message).toMatch(text)
})

test.each<[string, (node: Node) => unknown, RegExp]>([
  ['publish: unknown', call((node) => node.publish('v', 1, { header: {} })), /'header'.*headers/],
  ['publish: header value', call((node) => node.publish('v', 1, { headers: { a: 1 } })), /'a'.*number/],
  ['publish: header name', call((node) => node.publish('v', 1, { headers: { '': 'x' } })), /name ''/],
  ['publish: headers', call((node) => node.publish('v', 1, { headers: { a: 'x'.repeat(17_000) } })), /16384/],
  [
    'publish: level',
    call((node) => node.publish('v', 1, { delivery: 'exactly-once' })),
    /'delivery'.*'exactly-once'.*'at-least-once'/,
  ],
  [
    'publish: key at most once',
    call((node) => node.publish('v', 1, { key: 'k' })),
    /'key'.*delivery: 'at-least-once'/,
  ],
  [
    'publish: owedTo',
    call((node) => node.publish('v', 1, { delivery: 'at-least-once', owedTo: 'billing' })),
    /'owedTo'.*billing.*array/,
  ],
  ['push: unknown', call((node) => node.push('v', 1, { delay: 5 })), /'delay'.*delayMs/],
  ['push: ttlMs', call((node) => node.push('v', 1, { ttlMs: -1 })), /'ttlMs'.*-1/],
  ['push: key', call((node) => node.push('v', 1, { key: '' })), /'key'.*""/],
  ['pull: concurrency', call((node) => node.pull('v', () => {}, { concurrency: 0 })), /'concurrency'.*0/],
  ['pull: group', call((node) => node.pull('v', () => {}, { group: 'g' })), /'group'.*concurrency/],
  ['pull: handler', call((node) => node.pull('v', 'handler')), /'v'.*function/],
  ['subscribe: unknown', call((node) => node.subscribe('v', () => {}, { qeue: 1 })), /'qeue'.*queue/],
  ['subscribe: queue', call((node) => node.subscribe('v', { queue: 0 })), /'queue'.*0/],
  [
    'subscribe: concurrency',
    call((node) => node.subscribe('v', { concurrency: 1.5 })),
    /'concurrency'.*1\.5/,
  ],
  [
    'subscribe: policy',
    call((node) => node.subscribe('v', { onOverflow: 'block' })),
    /'onOverflow'.*'block'/,
  ],
  ['subscribe: echo', call((node) => node.subscribe('v', { echo: 'no' })), /'echo'/],
  ['respond: handler', call((node) => node.respond('v', 'handler')), /'v'.*function/],
  ['respond: unknown', call((node) => node.respond('v', () => 1, { workers: 2 })), /'workers'.*concurrency/],
  ['request: unknown', call((node) => node.request('v', 1, { timeout: 5 })), /'timeout'.*timeoutMs/],
  ['request: timeoutMs', call((node) => node.request('v', 1, { timeoutMs: '5' })), /'timeoutMs'/],
  ['request: waitMs', call((node) => node.request('v', 1, { waitMs: -1 })), /'waitMs'.*-1/],
  [
    'requestMany: max',
    call((node) => (node.requestMany('v', 1, { max: 0 }) as AsyncGenerator).next()),
    /'max'.*0/,
  ],
  ['waitForPeers', call((node) => node.waitForPeers(-1)), /-1/],
  ['waitForSubscribers', call((node) => node.waitForSubscribers('v', { count: 'all' })), /'count'.*all/],
])('node - %s: a wrong option is refused with its name and rule', async (_, run, text) => {
  const node = await start()
  const error = await errorOf(() => run(node))
  expect(error.code).toBe('OPTION_INVALID')
  expect(error.message).toMatch(text)
})

const BAD_TOPICS: readonly [unknown, RegExp][] = [
  ['', /at least one level/],
  ['.', /empty level/],
  ['a.', /empty level/],
  ['.a', /empty level/],
  ['a..b', /empty level/],
  ['a b', /" " at position 1/],
  ['a\n', /position 1/],
  ['a\u0000', /position 1/],
  ['a.*', /only patterns/],
  ['>', /only patterns/],
  ['a'.repeat(256), /255 bytes/],
  ['ä'.repeat(128), /255 bytes/],
  ['a.'.repeat(16).concat('a'), /17 levels, of at most 16/],
  ['\ud800', /surrogate/],
  [5, /string/],
  [null, /string/],
]

test.each(BAD_TOPICS)('topic - %j is refused by each verb that takes one', async (topic, rule) => {
  const node = await start()
  const calls = [
    call((any) => any.publish(topic, 1)),
    call((any) => any.respond(topic, () => 1)),
    call((any) => any.request(topic)),
    call((any) => any.waitForSubscribers(topic)),
  ]
  for (const run of calls) {
    const error = await errorOf(() => run(node))
    expect(error).toMatchObject({ code: 'TOPIC_INVALID', mayHaveRun: false })
    expect(error.message).toMatch(rule)
  }
})

test.each<[unknown, RegExp]>([
  ...BAD_TOPICS.filter(([topic]) => typeof topic !== 'string' || !/[*>]/.test(topic)),
  ['a.>.b', /last level/],
  ['>.a', /last level/],
  ['a.b*', /whole levels/],
  ['a>', /whole levels/],
  ['**', /whole levels/],
])('pattern - %j is refused by subscribe at the call', async (pattern, rule) => {
  const node = await start()
  let error: unknown
  try {
    node.subscribe(pattern as string, () => {})
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(SkeinError)
  expect(error).toMatchObject({ code: 'PATTERN_INVALID', message: expect.stringMatching(rule) })
})
