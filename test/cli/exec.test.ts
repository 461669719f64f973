import { readFileSync } from 'node:fs'
import { describe, expect, test, vi } from 'vitest'
import { type CommandFailed, execute } from '../../src/cli/exec.ts'
import { isAlive } from '../support/skein-cli.ts'

const never = (): AbortSignal => new AbortController().signal

describe('cli exec', () => {
  test('exec - a command reads the payload and its environment, and what it prints is the answer', async () => {
    const printed = await execute({
      command: 'cat; printf " %s" "$SKEIN_TOPIC"',
      stdin: 'hello',
      env: { SKEIN_TOPIC: 'a.b' },
      signal: never(),
    })
    expect(printed.toString()).toBe('hello a.b')
  })

  test('exec - a command that does not read its stdin answers all the same', async () => {
    const stdin = 'x'.repeat(1_000_000)
    const printed = await execute({ command: 'echo done', stdin, env: {}, signal: never() })
    expect(printed.toString()).toBe('done\n')
  })

  test('exec - a code other than 0 is an error with the last line of stderr', async () => {
    const running = execute({
      command: 'echo first >&2; echo last >&2; exit 3',
      stdin: '',
      env: {},
      signal: never(),
    })
    await expect(running).rejects.toMatchObject({
      code: 'EXIT_3',
      message: 'last',
    } satisfies Partial<CommandFailed>)
  })

  test('exec - a command that fails silently is named', async () => {
    const running = execute({ command: 'exit 4', stdin: '', env: {}, signal: never() })
    await expect(running).rejects.toMatchObject({ message: '"exit 4" exited with 4' })
  })

  test('exec - an abort ends the command and whatever it started, even if it ignores a polite signal', async () => {
    const aborting = new AbortController()
    const pidFile = `${process.env.SKEIN_RUNTIME_DIR}/grandchild`
    const command = `trap '' TERM; (trap '' TERM; echo $BASHPID > ${pidFile}; exec sleep 60) & wait; sleep 60`
    const running = execute({
      command: `bash -c ${JSON.stringify(command).replaceAll('$', '\\$')}`,
      stdin: '',
      env: {},
      signal: aborting.signal,
    })
    const pid = await vi.waitFor(() => {
      const found = Number(readFileSync(pidFile, 'utf8'))
      expect(found).toBeGreaterThan(0)
      return found
    })
    expect(isAlive(pid)).toBe(true)
    aborting.abort(new Error('the asker gave up'))
    await expect(running).rejects.toThrow('the asker gave up')
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false))
  })

  test('exec - an output without end is cut off (G6)', async () => {
    const running = execute({ command: 'yes', stdin: '', env: {}, signal: never() })
    await expect(running).rejects.toMatchObject({ code: 'OUTPUT_TOO_LARGE' })
  })
})
