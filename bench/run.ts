import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { describeMachine } from './machine.ts'
import { CONTENDERS, importQuestion, QUESTIONS, type Question, type QuestionName } from './question.ts'
import { detailsOf, type Report, type Round, resultOf, tableOf } from './report.ts'
import { type Sample, type Timing, takeSample } from './sample.ts'

const HELP = `usage: npm run bench -- [--rounds 5] [--quick] [--only NAME]... [--json FILE]

  --rounds N    rounds of each question (5)
  --quick       1 short round: shows that the bench works; misses no "must"
  --only NAME   this question only, repeatable: ${QUESTIONS.join(', ')}
  --json FILE   the figures of every round, the machine and the versions`

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const isQuestion = (name: string): name is QuestionName => QUESTIONS.includes(name as QuestionName)

const rounds = values.quick ? 1 : Number(values.rounds)
const unknown = values.only.find((name) => !isQuestion(name))
if (values.help || !Number.isInteger(rounds) || rounds < 1 || unknown !== undefined) {
  if (unknown !== undefined) console.error(`no question is named "${unknown}"\n`)
  console.error(HELP)
  process.exit(values.help ? 0 : 2)
}

const timing: Timing = values.quick ? { warmUpMs: 300, measureMs: 500 } : { warmUpMs: 2000, measureMs: 2000 }
const names = values.only.length > 0 ? values.only.filter(isQuestion) : [...QUESTIONS]
const questions: Question[] = await Promise.all(names.map(importQuestion))

const takeRound = async (question: Question, number: number): Promise<Round> => {
  // Who goes first alternates, so that a machine that warms up or slows down favours nobody.
  const order = number % 2 === 0 ? CONTENDERS : CONTENDERS.toReversed()
  const samples: Sample[] = []
  for (const contender of order) samples.push(await takeSample(question, contender, timing))
  const of = (name: (typeof CONTENDERS)[number]) => samples.find(({ contender }) => contender === name)!
  return { skein: of('skein'), bare: of('bare') }
}

const runtimeDir = mkdtempSync(join(tmpdir(), 'skein-bench-'))
process.env.SKEIN_RUNTIME_DIR = runtimeDir
try {
  const taken = new Map<Question, Round[]>(questions.map((question) => [question, []]))
  for (let round = 0; round < rounds; round++) {
    for (const question of questions) {
      process.stderr.write(`round ${round + 1} of ${rounds}: ${question.name}\n`)
      taken.get(question)!.push(await takeRound(question, round))
    }
  }
  const report: Report = {
    machine: describeMachine(),
    rounds,
    measureMs: timing.measureMs,
    results: questions.map((question) => resultOf(question, taken.get(question)!)),
  }
  const { machine, results } = report
  const versions = Object.entries(machine.packages).map(([name, version]) => `${name} ${version}`)
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}, node ${machine.node}`,
  )
  console.log(`${versions.join(', ')}; commit ${machine.commit}; medians of ${rounds} rounds\n`)
  console.log(tableOf(results))
  for (const result of results) {
    const details = detailsOf(result)
    if (details !== undefined) console.log(`\n${details}`)
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`)
  const missed = results.filter(({ met, unaccounted }) => met === 'not met' || unaccounted !== 0)
  if (missed.length > 0 && !values.quick) {
    console.error(`\nnot met: ${missed.map(({ question }) => question).join(', ')}`)
    process.exitCode = 1
  }
} finally {
  rmSync(runtimeDir, { recursive: true, force: true })
}
