import { randomBytes } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { threeFreePorts } from '../support/ports.ts'
import { type Program, runSkein, startSkein } from '../support/skein-cli.ts'

let mesh = ''
beforeEach(() => {
  mesh = `test-${randomBytes(4).toString('hex')}`
})

const run = (args: readonly string[]) => runSkein([...args, '--mesh', mesh])
const start = (args: readonly string[]) => startSkein([...args, '--mesh', mesh])

const startSub = async (args: readonly string[]): Promise<Program> => {
  const program = start(['sub', ...args])
  await program.prints('listening on')
  return program
}

describe('cli peers', () => {
  test('peers - it lists who is there, as NDJSON when piped', async () => {
    await startSub(['x', '--name', 'kitchen'])
    const { exitCode, lines } = await run(['peers', '--wait', '1'])
    expect(exitCode).toBe(0)
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ name: 'kitchen', state: 'up' }])
    const text = await run(['peers', '--wait', '1', '--format', 'text', '-v'])
    expect(text.lines[0]).toMatch(/^NAME +ID +STATE +FOUND BY +ENDPOINTS +BOOT +WHY/)
    expect(text.lines[1]).toMatch(/^kitchen +[0-9a-f]{32} +up +registry/)
  })

  test('peers - nobody is no error, unless they were waited for: then 4', async () => {
    expect(await run(['peers'])).toMatchObject({ exitCode: 0, stdout: '' })
    const waited = await run(['peers', '--wait', '1', '--timeout', '300ms'])
    expect(waited.exitCode).toBe(4)
    expect(waited.stderr).toContain('waited 300 ms for 1 peer')
    const seeded = ['peers', '--format', 'text', '--seed', '127.0.0.1:1']
    const why = await run([...seeded, '--wait', '1', '--timeout', '1s'])
    expect(why.lines[0]).toMatch(/^NAME +ID +STATE +FOUND BY +ENDPOINTS +WHY$/)
    expect(why.lines[1]).toMatch(/^tcp:\/\/127\.0\.0\.1:1 +\(a seed: no node yet\) +seen +seed .*refused/)
  })

  test('peers - a seed that is in another mesh is told once, with what to do', async () => {
    const port = await threeFreePorts(['127.0.0.1'])
    const node = start(['sub', 'a', '--port', `${port}`, '--no-registry'])
    await node.prints('listening on')
    const other = ['peers', '--mesh', 'another', '--no-registry', '--seed', `127.0.0.1:${port}`]
    const { stderr } = await runSkein([...other, '--wait', '1', '--timeout', '1s'])
    expect(stderr.match(/refuses this node/g)).toHaveLength(1)
    expect(stderr).toContain('give both the same mesh')
  })

  test('peers - other meshes are never seen', async () => {
    await startSub(['x'])
    expect((await runSkein(['peers', '--mesh', `${mesh}-other`])).stdout).toBe('')
  })

  test('peers - --watch prints who comes and goes', async () => {
    const watch = start(['peers', '--watch'])
    const sub = await startSub(['x', '--name', 'guest'])
    await watch.prints('"state":"up"')
    sub.kill('SIGKILL')
    await watch.prints(/"change":"gone"|"state":"down"/)
    watch.kill('SIGINT')
    const { exitCode, lines } = await watch.ended
    expect(exitCode).toBe(130)
    expect(lines.every((line) => JSON.parse(line).peer.name === 'guest')).toBe(true)
  })
})
