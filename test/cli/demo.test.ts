import { expect, test, vi } from 'vitest'
import { isAlive, runSkein, startSkein } from '../support/skein-cli.ts'

test('demo - every step happens, it ends by itself within 20 s, and exits 0', async () => {
  const ended = await runSkein(['demo'])
  expect(ended.stdout).toContain('done: every step happened')
  expect(ended.exitCode).toBe(0)
  expect(ended.durationMs).toBeLessThan(20_000)
  expect(ended.stdout).toContain('every order is accounted for')
  expect(ended.lines.filter((line) => /^\d\. /.test(line))).toHaveLength(9)
})

test('demo - Ctrl-C takes its processes with it', async () => {
  const demo = startSkein(['demo'])
  const pids = (): number[] =>
    [...demo.stdout.matchAll(/started as process (\d+)/g)].map((match) => Number(match[1]))
  await demo.until(() => pids().length >= 3, 'start its processes')
  const started = pids()
  expect(started.every(isAlive)).toBe(true)
  demo.kill('SIGINT')
  expect((await demo.ended).exitCode).toBe(130)
  await vi.waitFor(() => expect(started.filter(isAlive)).toEqual([]))
})
