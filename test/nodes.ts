import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Runs the whole suite on each supported Node: `npm run test:nodes`, or `npm run test:nodes -- 22 24`. The binaries are
 * npm packages, kept in the temporary directory from one run to the next.
 */
const MAJORS = ['20', '22', '24', '26']

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const STORE = join(tmpdir(), 'skein-nodes')
const PLATFORM = { linux: 'linux', darwin: 'darwin', win32: 'win' }[process.platform as string]
const PACKAGE = `node-${PLATFORM ?? process.platform}-${process.arch}`

interface Ended {
  readonly code: number
  readonly output: string
}

const run = async (
  command: string,
  args: readonly string[],
  cwd: string,
  path = process.env.PATH,
): Promise<Ended> => {
  const child = spawn(command, args, { cwd, env: { ...process.env, PATH: path, NO_COLOR: '1' } })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  return { code: code ?? 1, output }
}

/** The binary of this major version, fetched if it is not there. */
const binaryOf = async (major: string): Promise<string> => {
  const directory = join(STORE, major)
  const binary = join(
    directory,
    'node_modules',
    PACKAGE,
    'bin',
    process.platform === 'win32' ? 'node.exe' : 'node',
  )
  if (existsSync(binary)) return binary
  mkdirSync(directory, { recursive: true })
  const fetched = await run(
    'npm',
    ['install', '--no-save', '--prefix', directory, `${PACKAGE}@${major}`],
    directory,
  )
  if (fetched.code !== 0 || !existsSync(binary))
    throw new Error(`could not get ${PACKAGE}@${major} from the npm registry:\n${fetched.output}`)
  return binary
}

const suite = async (major: string): Promise<boolean> => {
  const binary = await binaryOf(major)
  const path = `${dirname(binary)}${delimiter}${process.env.PATH}`
  const version = (await run(binary, ['--version'], ROOT)).output.trim()
  const startedAt = Date.now()
  const { code, output } = await run(binary, ['node_modules/vitest/vitest.mjs', 'run'], ROOT, path)
  const seconds = Math.round((Date.now() - startedAt) / 1000)
  const tests = /^ *Tests +(.*)$/m.exec(output)?.[1] ?? 'no result'
  process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'}  ${version.padEnd(10)} ${seconds} s  ${tests}\n`)
  if (code !== 0) process.stdout.write(`${output.slice(-20_000)}\n`)
  return code === 0
}

const wanted = process.argv.slice(2)
let failed = false
for (const major of wanted.length > 0 ? wanted : MAJORS) failed = !(await suite(major)) || failed
process.exitCode = failed ? 1 : 0
