import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

export interface Ended {
  exitCode: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  lines: string[]
  durationMs: number
}

export interface StartOptions {
  /** Given on stdin; without it stdin is as empty as /dev/null. `open` leaves a pipe to write to. */
  input?: string | Uint8Array
  open?: boolean
  env?: Record<string, string>
}

const running = new Set<Program>()

afterEach(async () => {
  const left = [...running]
  for (const program of left) program.kill('SIGKILL')
  await Promise.all(left.map((program) => program.ended))
})

/** A real process, with what it prints, ended after the test by its own handle. */
export class Program {
  readonly process: ChildProcess
  readonly ended: Promise<Ended>
  readonly #stdout: Buffer[] = []
  #stderr = ''
  #look: () => void = () => {}

  constructor(process: ChildProcess) {
    this.process = process
    const startedAt = performance.now()
    this.ended = new Promise((resolve) => {
      process.once('close', (exitCode, signal) => {
        running.delete(this)
        const { stdout, stderr, lines } = this
        resolve({ exitCode, signal, stdout, stderr, lines, durationMs: performance.now() - startedAt })
        this.#look()
      })
    })
    running.add(this)
    process.stdout?.on('data', (chunk: Buffer) => {
      this.#stdout.push(chunk)
      this.#look()
    })
    process.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString()
      this.#look()
    })
  }

  get stdoutBytes(): Buffer {
    return Buffer.concat(this.#stdout)
  }

  get stdout(): string {
    return this.stdoutBytes.toString()
  }

  get stderr(): string {
    return this.#stderr
  }

  get lines(): string[] {
    return this.stdout.split('\n').slice(0, -1)
  }

  /** Resolves when what was printed, on either stream, contains the text. */
  async prints(text: string | RegExp): Promise<void> {
    await this.until(() => {
      const printed = `${this.stdout}\n${this.#stderr}`
      return typeof text === 'string' ? printed.includes(text) : text.test(printed)
    }, `print ${text}`)
  }

  /** Resolves when the condition holds; rejects if the program ends before. */
  until(holds: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const before = this.#look
      this.#look = () => {
        before()
        if (holds()) resolve()
        else if (this.process.exitCode !== null && !running.has(this)) {
          reject(new Error(`the program ended and did not ${what}:\n${this.stdout}\n${this.#stderr}`))
        }
      }
      this.#look()
    })
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }
}

export const startProgram = (
  path: string,
  args: readonly string[],
  { input, open = false, env = {} }: StartOptions = {},
): Program => {
  const stdin = open || input !== undefined ? 'pipe' : 'ignore'
  const child = spawn(process.execPath, [path, ...args], {
    stdio: [stdin, 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  // A program that does not read what it is given is no error of the test.
  child.stdin?.on('error', () => {})
  if (input !== undefined) child.stdin?.end(input)
  return new Program(child)
}

export const startSkein = (args: readonly string[], options?: StartOptions): Program =>
  startProgram(MAIN, args, options)

export const runSkein = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  startSkein(args, options).ended

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  try {
    // A zombie is dead: it only waits for a parent that looks.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return process.platform !== 'linux'
  }
}
