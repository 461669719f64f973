import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MUTANTS, type Mutant } from './mutant-list.ts'

/**
 * Breaks a copy of the sources in ways that are known to lose or repeat messages, one at a time, and shows that a test
 * notices each: `npm run test:mutants`, or `npm run test:mutants -- boot credit` for those with these words in their names.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COPIED = ['src', 'test', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'vitest.config.ts']
const LIMIT_MS = 120_000
/** What is broken need not be tidy. */
const UNCHECKED = ['-p', 'tsconfig.build.json', '--noCheck']

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const run = async (command: string, args: readonly string[], cwd: string) => {
  const child = spawn(command, args, { cwd, env: { ...process.env, NO_COLOR: '1' }, timeout: LIMIT_MS })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const [code] = (await once(child, 'close')) as [number | null]
  return { isGood: code === 0, output }
}

const build = async (copy: string): Promise<void> => {
  const { isGood, output } = await run(
    process.execPath,
    ['node_modules/typescript/bin/tsc', ...UNCHECKED],
    copy,
  )
  if (!isGood) throw new Error(`it does not build: ${output.slice(0, 2000)}`)
}

/** Whether the test passes; throws if it was not run at all, or was skipped. */
const passes = async (copy: string, { file, test }: Mutant['caughtBy']): Promise<boolean> => {
  const args = ['node_modules/vitest/vitest.mjs', 'run', file, '-t', test, '--bail', '1']
  const { isGood, output } = await run(process.execPath, args, copy)
  const counts = /^ *Tests +(.*)$/m.exec(output)?.[1] ?? ''
  if (!/passed|failed/.test(counts))
    throw new Error(`no test '${test}' was run in ${file}: ${output.slice(-2000)}`)
  return isGood
}

const broken = (text: string, { name, changes }: Mutant): string => {
  for (const [from, to] of changes) {
    const at = text.indexOf(from)
    if (at === -1 || text.indexOf(from, at + 1) !== -1)
      throw new Error(
        `mutant '${name}': what it changes is ${at === -1 ? 'not' : 'more than once'} there any more`,
      )
    text = text.slice(0, at) + to + text.slice(at + from.length)
  }
  return text
}

const copy = mkdtempSync(join(tmpdir(), 'skein-mutants-'))
const words = process.argv.slice(2)
const wanted = MUTANTS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))
const isRoot = process.getuid?.() === 0
let survivors = 0
try {
  for (const each of COPIED) cpSync(join(ROOT, each), join(copy, each), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  await build(copy)
  const controls = new Map<string, boolean>()
  for (const mutant of wanted) {
    const { name, file, caughtBy } = mutant
    const label = name.padEnd(Math.max(...MUTANTS.map((each) => each.name.length)))
    if (mutant.needsRoot === true && !isRoot) {
      say(`skipped   ${label}  its test needs root`)
      continue
    }
    const key = `${caughtBy.file} ${caughtBy.test}`
    const path = join(copy, file)
    const original = readFileSync(path, 'utf8')
    try {
      const text = broken(original, mutant)
      if (!controls.has(key)) controls.set(key, await passes(copy, caughtBy))
      if (controls.get(key) !== true) throw new Error(`'${caughtBy.test}' fails without it, too`)
      writeFileSync(path, text)
      await build(copy)
      const isCaught = !(await passes(copy, caughtBy))
      if (!isCaught) survivors++
      say(`${isCaught ? 'caught  ' : 'SURVIVED'}  ${label}  ${caughtBy.file}: ${caughtBy.test}`)
    } catch (error) {
      survivors++
      say(`ERROR     ${label}  ${(error as Error).message}`)
    } finally {
      writeFileSync(path, original)
    }
    await build(copy)
  }
} finally {
  rmSync(copy, { recursive: true, force: true })
}
say(`\n${wanted.length} mutants, ${survivors} not caught`)
process.exitCode = survivors > 0 ? 1 : 0
