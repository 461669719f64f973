import { type ChildProcess, spawn } from 'node:child_process'

/** A command that ended badly: its code travels to the asker. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
  readonly code: string
  /** How it ended, for whoever has seen its stderr. */
  readonly ending: string

  constructor(code: string, message: string, ending: string = message) {
    super(message)
    this.code = code
    this.ending = ending
  }
}

export interface Execution {
  /** Given to the shell. */
  command: string
  stdin: string | Uint8Array
  env: Record<string, string>
  /** The command, and what it started, is ended when this aborts. */
  signal: AbortSignal
}

const OUTPUT_LIMIT_BYTES = 16 * 2 ** 20
const STDERR_TAIL_BYTES = 4096
const KILL_AFTER_MS = 500

// Its own group on POSIX, so that whatever the shell started ends with it.
const hasGroups = process.platform !== 'win32'

const end = (child: ChildProcess, signal: NodeJS.Signals): void => {
  try {
    if (hasGroups && child.pid !== undefined) process.kill(-child.pid, signal)
    else child.kill(signal)
  } catch {
    // It is already gone.
  }
}

const lastLineOf = (text: string): string => text.trimEnd().split('\n').at(-1)?.trim() ?? ''

/** Runs a command for one request; resolves with what it printed. */
export const execute = ({ command, stdin, env, signal }: Execution): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const child = spawn(command, { shell: true, detached: hasGroups, env: { ...process.env, ...env } })
    const printed: Buffer[] = []
    let printedBytes = 0
    let complaint = ''
    let stopped: unknown

    let killTimer: NodeJS.Timeout | undefined
    const stop = (reason: unknown): void => {
      stopped ??= reason
      end(child, 'SIGTERM')
      killTimer ??= setTimeout(() => end(child, 'SIGKILL'), KILL_AFTER_MS)
    }
    const onAbort = (): void => stop(signal.reason)
    const onExit = (): void => end(child, 'SIGKILL')
    signal.addEventListener('abort', onAbort)
    process.on('exit', onExit)
    const forget = (): void => {
      clearTimeout(killTimer)
      signal.removeEventListener('abort', onAbort)
      process.off('exit', onExit)
    }

    child.stdout.on('data', (chunk: Buffer) => {
      printedBytes += chunk.length
      if (printedBytes <= OUTPUT_LIMIT_BYTES) printed.push(chunk)
      else
        stop(
          new CommandFailed('OUTPUT_TOO_LARGE', `"${command}" printed more than ${OUTPUT_LIMIT_BYTES} bytes`),
        )
    })
    child.stderr.on('data', (chunk: Buffer) => {
      process.stderr.write(chunk)
      complaint = (complaint + chunk.toString()).slice(-STDERR_TAIL_BYTES)
    })
    // A command that does not read its stdin is no error.
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)

    child.once('error', (error) => {
      forget()
      reject(new CommandFailed('EXEC_FAILED', `"${command}" could not be started: ${error.message}`))
    })
    child.once('close', (exitCode, exitSignal) => {
      forget()
      if (stopped !== undefined) return reject(stopped)
      if (exitCode === 0) return resolve(Buffer.concat(printed))
      const ending = exitSignal === null ? `exited with ${exitCode}` : `was ended by ${exitSignal}`
      const code = exitSignal === null ? `EXIT_${exitCode}` : exitSignal
      reject(new CommandFailed(code, lastLineOf(complaint) || `"${command}" ${ending}`, ending))
    })
  })
