import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Node } from '../../src/index.ts'
import { collect, errorOf, eventually, gapsOf, mesh, meshName, start } from '../support/mesh.ts'
import { threeFreePorts } from '../support/ports.ts'
import { startProgram } from '../support/skein-cli.ts'

test('close - delivers what was published before it: 5,000 of 5,000 (G10)', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'v')
  for (let i = 0; i < 5000; i++) void a.publish('v', i)
  await a.close()
  await eventually(() => values.length === 5000)
  expect(values).toEqual(Array.from({ length: 5000 }, (_, i) => i))
  expect(gapsOf(b)).toEqual([])
})

test('close - delivers large messages that were published before it, too (G10)', async () => {
  const [a, b] = await mesh(2)
  const { values } = await collect(b, 'v')
  for (let i = 0; i < 10; i++) await a.publish('v', Buffer.alloc(1024 * 1024, i))
  await a.close()
  await eventually(() => values.length === 10)
  expect(values.map((value) => (value as Buffer)[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
})

test('close - twice is the same promise, and disposing is closing', async () => {
  const node = await start()
  const closing = node.close()
  expect(node.close()).toBe(closing)
  expect(await closing).toEqual({ unsettled: 0 })
  await node[Symbol.asyncDispose]()
})

const VERBS: readonly [string, (node: Node) => unknown][] = [
  ['publish', (node) => node.publish('v', 1)],
  ['subscribe', (node) => node.subscribe('v', () => {})],
  ['subscribe for a loop', (node) => node.subscribe('v')],
  ['respond', (node) => node.respond('v', () => 1)],
  ['request', (node) => node.request('v')],
  ['requestMany', (node) => node.requestMany('v').next()],
  ['waitForPeers', (node) => node.waitForPeers(1)],
  ['waitForSubscribers', (node) => node.waitForSubscribers('v')],
  ['drain', (node) => node.drain()],
]

test.each(VERBS)('close - %s afterwards is CLOSED, and certainly did nothing', async (_, call) => {
  const node = await start()
  await node.close()
  expect(await errorOf(() => call(node))).toMatchObject({ code: 'CLOSED', mayHaveRun: false })
})

test('close - looking at a closed node still works', async () => {
  const [a] = await mesh(2)
  await a.close()
  expect(a.stats().requestsPending).toBe(0)
  expect(JSON.parse(JSON.stringify(a.peers))).toEqual(a.peers)
})

test('close - ends loops, waits and requests at once (G7)', async () => {
  const [a, b] = await mesh(2)
  await b.respond('slow', () => new Promise(() => {})).ready
  const subscription = a.subscribe('v')
  await subscription.ready
  await b.publish('v', 1)
  const seen: unknown[] = []
  const loop = (async () => {
    for await (const { value } of subscription) seen.push(value)
  })()
  await eventually(() => seen.length === 1)
  const ended = Promise.all([
    errorOf(() => a.request('slow', 1, { timeoutMs: 15_000 })),
    errorOf(() => a.request('appears', 1, { timeoutMs: 15_000, waitMs: 15_000 })),
    errorOf(() => a.waitForPeers(5, { timeoutMs: 15_000 })),
    errorOf(() => a.waitForSubscribers('nobody', { timeoutMs: 15_000 })),
  ])
  const replies = errorOf(async () => {
    for await (const { error } of a.requestMany('slow', 1, { timeoutMs: 15_000 })) throw error
  })
  await eventually(() => b.stats().load === 2)
  const closedAt = performance.now()
  await a.close()
  for (const error of [...(await ended), await replies]) expect(error.code).toBe('CLOSED')
  await loop
  expect(performance.now() - closedAt).toBeLessThan(5000)
  expect(seen).toEqual([1])
})

test('close - the other side learns it, and its requests go elsewhere', async () => {
  const [a, b, c] = await mesh(3)
  for (const node of [b, c]) await node.respond('who', () => node.name).ready
  const asked: Promise<unknown>[] = []
  const closing: Promise<unknown>[] = []
  for (let i = 0; i < 200; i++) {
    asked.push(a.request('who', i).catch((error: unknown) => error))
    if (i === 100) closing.push(b.close())
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(closing)
  for (const answer of await Promise.all(asked)) {
    if (typeof answer !== 'string') expect(answer).toMatchObject({ code: 'PEER_LOST' })
  }
  await eventually(() => a.stats().peers === 1)
  expect(await a.request('who')).toBe(c.name)
})

test('close - while peers are starting up disturbs nobody', async () => {
  const name = meshName()
  const stays = await start({ mesh: name })
  for (let round = 0; round < 5; round++) {
    const starting = Promise.all([start({ mesh: name }), start({ mesh: name })])
    const early = await start({ mesh: name })
    const closing = early.close()
    const nodes = await starting
    await closing
    await Promise.all(nodes.map((node) => node.waitForPeers(2)))
    await Promise.all(nodes.map((node) => node.close()))
  }
  await eventually(() => stays.peers.length === 0)
})

test('close - releases its ports and its file, so that the next node can have them', async () => {
  const port = await threeFreePorts(['127.0.0.1'])
  const name = meshName()
  const entries = (): string[] => readdirSync(join(process.env.SKEIN_RUNTIME_DIR!, name))
  for (let round = 0; round < 5; round++) {
    let node: Node | undefined
    await eventually(async () => {
      // libzmq lets go of a port in a thread of its own, a moment after the close.
      node = await start({ mesh: name, port }).catch(() => undefined)
      return node !== undefined
    })
    expect(entries()).toEqual([`${node!.id}.json`])
    await node!.close()
    expect(entries()).toEqual([])
  }
})

test('close - a process whose nodes are closed ends by itself, whatever is still pending (G10)', async () => {
  const child = fileURLToPath(new URL('../support/children/closes.js', import.meta.url))
  const { exitCode, signal, lines, stderr, durationMs } = await startProgram(child, []).ended
  expect([exitCode, signal, stderr]).toEqual([0, null, ''])
  expect(lines).toEqual(['CLOSED', 'got 2'])
  expect(durationMs).toBeLessThan(15_000)
})
