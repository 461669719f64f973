import { beforeEach, describe, expect, test } from 'vitest'
import type { Answer, Check } from '../../src/cli/check.ts'
import { eventually, meshName, start } from '../support/mesh.ts'
import { type Ended, runSkein, startSkein } from '../support/skein-cli.ts'

let mesh = ''
beforeEach(() => {
  mesh = meshName()
})

interface Asked extends Answer {
  ok: boolean
  ended: Ended
  problems: Check[]
}

const why = async (subject: string, args: readonly string[] = []): Promise<Asked> => {
  const ended = await runSkein(['why', subject, '--json', '--mesh', mesh, ...args])
  expect(ended.stderr).toBe('')
  const answer = JSON.parse(ended.stdout) as Answer & { ok: boolean }
  const problems = answer.checks.filter(({ verdict }) => verdict === 'problem')
  for (const { remedy } of problems) expect(remedy).toMatch(/\S/)
  expect(answer.ok).toBe(ended.exitCode === 0)
  // A machine that others use, too, may hold up the event loop of a test at any time.
  const checks = answer.checks.filter(({ check, verdict }) => check !== 'event-loop' || verdict !== 'note')
  return { ...answer, checks, ended, problems }
}

const nothing = (): void => {}

describe('why a topic', () => {
  test('everything is well: it says who would get it and who would answer, and exits 0', async () => {
    const billing = await start({ name: 'billing', mesh })
    const prices = await start({ name: 'prices', mesh })
    await billing.subscribe('order.*', nothing).ready
    await prices.respond('price.get', nothing).ready
    const order = await why('order.created')
    expect(order).toMatchObject({
      about: 'topic',
      outcome: 'fine',
      reaches: [expect.stringMatching(/^billing /)],
    })
    expect(order.conclusion).toBe('1 node would get what is published: billing')
    expect(order.ended.exitCode).toBe(0)
    expect(order.checks).toMatchObject([
      { check: 'subscriber', verdict: 'ok', text: expect.stringContaining('"order.*"') },
      { check: 'worker', verdict: 'note', text: expect.stringContaining('skein push order.created') },
    ])
    const price = await why('price.get')
    expect(price.conclusion).toBe('1 node would answer what is asked: prices')
    expect(price.ended.exitCode).toBe(0)
  })

  test('a queue, a group and a topic of one name are told apart', async () => {
    const w1 = await start({ name: 'w1', mesh })
    const worker = w1.pull('jobs', nothing)
    await worker.ready
    const pulled = await why('jobs')
    expect(pulled.conclusion).toBe('1 worker would get what is pushed: w1')
    const archive = await start({ name: 'archive', mesh })
    await archive.subscribe('jobs', nothing, { group: 'archive' }).ready
    const both = await why('jobs')
    expect(both.conclusion).toBe(
      '1 node would get what is published: archive; 1 worker would get what is pushed: w1',
    )
    expect(both.checks.map(({ text }) => text).join()).toContain('in group "archive"')
    const typo = ['push', 'jbos', '1', '--timeout', '200ms', '--mesh', mesh]
    expect((await runSkein(typo)).stderr).toContain('push to "jobs" if that was meant, on which w1 works')
    const invalid = await runSkein(['push', 'my jobs', '1', '--mesh', mesh])
    expect(invalid).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('the queue "my jobs" is not'),
    })
  })

  test('nobody: it says how many are there and what they want instead, and exits 5', async () => {
    const node = await start({ name: 'billing', mesh })
    await node.subscribe('order.*', nothing).ready
    const { ended, conclusion, problems, checks } = await why('sensors.kitchen')
    expect(ended.exitCode).toBe(5)
    expect(conclusion).toContain('nobody subscribes to it, responds to it or works on it, of 1 node up')
    expect(problems).toMatchObject([
      { check: 'topic', remedy: expect.stringContaining('skein sub sensors.kitchen') },
    ])
    expect(checks.find(({ check }) => check === 'subscriptions')!.text).toBe('all that there are: "order.*"')
    expect(checks.find(({ check }) => check === 'responders')!.text).toBe('there is none in the whole mesh')
  })

  test.each([
    ['a typo', 'sensors.kitchn.temp', 'level 2 is "kitchn" there, not "kitchen"'],
    ['the case', 'Sensors.*.temp', 'level 1 is "Sensors" there, not "sensors": upper and lower case differ'],
    ['a level too few', 'sensors.*', 'it has no level for "temp" (level 3)'],
    ['a level too many', 'sensors.kitchen.temp.max', 'it has a level too many, "max" (level 4)'],
    ['nothing left for >', 'sensors.kitchen.temp.>', 'its ">" wants at least one more level'],
  ])(
    'a pattern that does not match for %s is named, with the level and the node',
    async (_, pattern, difference) => {
      const node = await start({ name: 'billing', mesh })
      await node.subscribe(pattern, nothing).ready
      const { ended, problems } = await why('sensors.kitchen.temp')
      expect(ended.exitCode).toBe(5)
      expect(problems).toMatchObject([{ check: 'subscription', subject: pattern }])
      expect(problems[0]!.text).toBe(`"${pattern}" of billing comes near and does not match: ${difference}`)
    },
  )

  test('a responder of nearly the same name is named', async () => {
    const node = await start({ name: 'prices', mesh })
    await node.respond('price.get', nothing).ready
    const { problems } = await why('price.gte')
    expect(problems).toMatchObject([{ check: 'responder', remedy: expect.stringContaining('"price.get"') }])
  })

  test('a subscriber that is one-way is named by those who know what it wants, with its address', async () => {
    const orders = await start({ name: 'orders', mesh })
    const hidden = await start({ name: 'hidden', mesh, advertise: '127.0.0.9' })
    await hidden.waitForPeers(1)
    const subscription = hidden.subscribe('order.*', nothing)
    await eventually(() => orders.peers.some(({ state }) => state === 'one-way'))
    await subscription.ready
    const { ended, outcome, problems, conclusion } = await why('order.created')
    expect(ended.exitCode).toBe(1)
    expect(outcome).toBe('impaired')
    expect(conclusion).toContain('nobody who wants it can be reached')
    expect(problems).toMatchObject([{ check: 'peer', subject: expect.stringMatching(/^hidden /) }])
    expect(problems[0]!.text).toContain('it subscribes or responds to this')
    expect(problems[0]!.text).toMatch(/cannot be dialled \(one-way\) for orders: .*127\.0\.0\.9:\d+/)
    expect(problems[0]!.remedy).toContain('--advertise')
  })

  test('a subscriber that is well here, and one-way for another node, is told as that one sees it', async () => {
    const hidden = await start({ name: 'hidden', mesh, advertise: '127.0.0.9' })
    const orders = await start({ name: 'orders', mesh })
    await orders.subscribe('order.*', nothing).ready
    await eventually(() => orders.peers.some(({ state }) => state === 'one-way'))
    const { problems, reaches } = await why('order.created')
    expect(reaches).toEqual([expect.stringMatching(/^orders /)])
    expect(problems).toMatchObject([{ check: 'outlook', subject: expect.stringMatching(/^orders /) }])
    expect(problems[0]!.text).toContain('it sees hidden')
    expect(hidden.peers.map(({ name }) => name)).toContain('orders')
  })

  test('a subscriber that drops is named with how many a second (G5)', async () => {
    const slow = await start({ name: 'slow', mesh })
    await slow.subscribe('tick', () => new Promise(() => {}), { queue: 1 }).ready
    const ticking = setInterval(() => void slow.publish('tick', 1), 5)
    const { ended, problems } = await why('tick').finally(() => clearInterval(ticking))
    expect(ended.exitCode).toBe(1)
    expect(problems).toMatchObject([{ check: 'subscriber', subject: expect.stringMatching(/^slow /) }])
    expect(problems[0]!.text).toMatch(/is dropping \d+ messages a second/)
    expect(problems[0]!.remedy).toContain('concurrency')
  })

  test('what a subscriber has dropped earlier is worth a note, and no problem', async () => {
    const slow = await start({ name: 'slow', mesh })
    await slow.subscribe('tick', () => new Promise(() => {}), { queue: 1 }).ready
    for (let times = 0; times < 50; times++) await slow.publish('tick', times)
    const { ended, checks } = await why('tick')
    expect(ended.exitCode).toBe(0)
    expect(checks).toMatchObject([
      {
        check: 'subscriber',
        verdict: 'note',
        text: expect.stringContaining('none of them in the last second'),
      },
      { check: 'worker', verdict: 'note' },
    ])
  })

  test('a subscriber that is stopped is told, though it cannot be asked', async () => {
    const other = await start({ name: 'orders', mesh })
    const stopped = startSkein(['sub', 'order.*', '--mesh', mesh, '--name', 'stopped'])
    await stopped.prints('listening on')
    await other.waitForSubscribers('order.created')
    stopped.kill('SIGSTOP')
    // Something is awaited of it, so that its silence is noticed soon.
    other.request('$skein.status', undefined, { to: other.peers[0]!.id, timeoutMs: 20_000 }).catch(() => {})
    await eventually(() => other.peers.some(({ state }) => state === 'suspect'))
    const { ended, problems } = await why('order.created', ['--timeout', '500ms'])
    expect(ended.exitCode).toBe(1)
    expect(problems).toMatchObject([
      {
        check: 'peer',
        subject: expect.stringMatching(/^stopped /),
        text: expect.stringMatching(/suspect for orders/),
      },
    ])
  })

  test('wrong mesh: nobody is here, and it names the mesh that is', async () => {
    const node = await start({ name: 'billing', mesh: `${mesh}x` })
    await node.subscribe('invoice.*', nothing).ready
    const { ended, problems, conclusion } = await why('order.created')
    expect(ended.exitCode).toBe(5)
    expect(conclusion).toContain('perhaps it is the wrong one')
    expect(problems).toMatchObject([
      { check: 'mesh', text: expect.stringContaining(`"${mesh}x" (1 node on this host: billing)`) },
    ])
    expect(problems[0]!.remedy).toContain(`--mesh ${mesh}x`)
  })

  test('wrong mesh: the other mesh of this host that has what is sought is named, whoever is here', async () => {
    const other = await start({ name: 'billing', mesh: `${mesh}x` })
    await other.subscribe('order.*', nothing).ready
    await other.respond('price.get', nothing).ready
    const remedy = expect.stringContaining(`--mesh ${mesh}x`)
    const had = (text: string) => ({
      check: 'mesh',
      subject: `${mesh}x`,
      text: expect.stringContaining(text),
      remedy,
    })

    const alone = await why('order.created')
    expect(alone.conclusion).toBe(`nobody is in mesh "${mesh}", but mesh "${mesh}x" has it`)
    expect(alone.problems).toMatchObject([had('billing subscribes by "order.*"')])

    await start({ name: 'here', mesh })
    const price = await why('price.get')
    expect(price.ended.exitCode).toBe(5)
    expect(price.conclusion).toMatch(/of 1 node up in mesh .*, but mesh .*x" has it$/)
    expect(price.problems[0]).toMatchObject(had('billing responds to it'))
    const peer = await why('billing')
    expect(peer.problems[0]).toMatchObject(had('1 node is called so'))
    // What no mesh has is told with the others that are near.
    const nowhere = await why('nothing.there')
    expect(nowhere.conclusion).not.toContain('has it')
    expect(nowhere.checks[0]).toMatchObject({
      check: 'mesh',
      verdict: 'note',
      text: expect.stringContaining(`"${mesh}x"`),
    })
    expect(other.peers).toEqual([])
  })

  test('wrong mesh: it is found among many', async () => {
    for (let n = 0; n < 6; n++) {
      const node = await start({ name: `n${n}`, mesh: `${mesh}-${n}` })
      if (n === 2) await node.subscribe('order.*', nothing).ready
    }
    const { conclusion } = await why('order.created')
    expect(conclusion).toBe(`nobody is in mesh "${mesh}", but mesh "${mesh}-2" has it`)
  })

  test('wrong mesh: so says a seed that is in another one', async () => {
    const node = await start({ name: 'orders', mesh: 'other', discovery: { registry: false } })
    const { address } = await node.request('$skein.status', undefined, { to: node.id })
    const seed = `127.0.0.1:${address.control}`
    const { ended, problems } = await why('order.created', [
      '--no-registry',
      '--seed',
      seed,
      '--timeout',
      '1s',
    ])
    expect(ended.exitCode).toBe(5)
    expect(problems.map(({ check }) => check)).toEqual(['mesh', 'seed'])
    expect(problems[0]!.text).toContain('"other"')
  })

  test('nobody at all: it says so, and how to look further', async () => {
    const { ended, problems } = await why('order.created')
    expect(ended.exitCode).toBe(5)
    expect(problems).toMatchObject([
      { text: 'no other node is up', remedy: expect.stringContaining('skein doctor') },
    ])
  })

  test('a pattern is no topic: 2', async () => {
    const ended = await runSkein(['why', 'order.*', '--mesh', mesh])
    expect(ended).toMatchObject({ exitCode: 2, stdout: '' })
    expect(ended.stderr).toContain('only patterns have * and >')
  })

  test('a person reads the conclusion first', async () => {
    const node = await start({ name: 'billing', mesh })
    await node.subscribe('order.*', nothing).ready
    const { lines } = await runSkein(['why', 'order.created', '--mesh', mesh])
    expect(lines.slice(0, 2)).toEqual(['order.created: 1 node would get what is published: billing', ''])
    expect(lines[2]).toMatch(/^ok {7}subscriber billing/)
  })
})

describe('why a peer', () => {
  test('by its name, its id, the beginning of it, or its address: how it is doing', async () => {
    const billing = await start({ name: 'billing', mesh })
    await billing.subscribe('order.*', nothing).ready
    await billing.respond('price.get', nothing).ready
    const { address } = await billing.request('$skein.status', undefined, { to: billing.id })
    const { id } = billing
    for (const called of ['billing', id, id.slice(0, 6), `127.0.0.1:${address.control}`]) {
      const { about, ended, reaches, checks } = await why(called)
      expect(ended.exitCode).toBe(0)
      expect(about).toBe('peer')
      expect(reaches).toEqual([`billing (${id.slice(0, 8)})`])
      const texts = new Map(checks.map(({ check, text }) => [check, text]))
      expect(texts.get('peer')).toMatch(/answers in .* at tcp:.* found by registry/)
      expect(texts.get('node')).toContain(`process ${process.pid}`)
      expect(texts.get('responders')).toContain('price.get')
      expect(texts.get('subscriber')).toContain('order.*')
      expect([...texts.keys()]).toEqual(expect.arrayContaining(['address', 'clock', 'event-loop', 'outlook']))
    }
  })

  test('one that only others know is told as they see it, and exits 1', async () => {
    const orders = await start({ name: 'orders', mesh })
    await start({ name: 'hidden', mesh, advertise: '127.0.0.9' })
    await eventually(() => orders.peers.some(({ state }) => state === 'one-way'))
    const { ended, conclusion, problems } = await why('hidden')
    expect(ended.exitCode).toBe(1)
    expect(conclusion).toContain('not known here')
    expect(problems.map(({ check }) => check)).toEqual(['peer', 'view'])
    expect(problems[1]!.text).toMatch(/one-way for orders.*127\.0\.0\.9/)
  })

  test('a seed that leads to nobody is explained by its address', async () => {
    const { ended, problems } = await why('127.0.0.1:1', ['--seed', '127.0.0.1:1', '--timeout', '500ms'])
    expect(ended.exitCode).toBe(1)
    expect(problems).toMatchObject([{ check: 'seed', text: expect.stringContaining('connection refused') }])
  })

  test('of two of one name both are told', async () => {
    await Promise.all([start({ name: 'twin', mesh }), start({ name: 'twin', mesh })])
    const { conclusion, reaches } = await why('twin')
    expect(reaches).toHaveLength(2)
    expect(conclusion).toBe('2 peers are called so: all up; nothing is wrong with them')
  })
})
