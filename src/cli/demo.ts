import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { type Asks, ROLES, type Role, type Told } from './demo-role.ts'
import { EXIT } from './exit.ts'

const STEP_TIMEOUT_MS = 5000
const DEMO_TIMEOUT_MS = 18_000

type Colour = 'green' | 'red' | 'cyan' | 'yellow' | 'magenta' | 'bold' | 'dim'

const COLOURS: Record<Role, Colour> = { sensors: 'cyan', forecast: 'magenta', desk: 'yellow' }

const colour = (as: Colour, text: string): string =>
  process.stdout.isTTY && process.env.NO_COLOR === undefined ? styleText(as, text) : text

const print = (line = ''): void => void process.stdout.write(`${line}\n`)

const narrate = (role: Role, text: string): void =>
  print(`   ${colour(COLOURS[role], role.padEnd(8))} │ ${colour('dim', text)}`)

const confirm = (text: string): void => print(`   ${colour('green', '✓')} ${text}`)

class Actor {
  readonly role: Role
  readonly #process: ChildProcess
  #lastId = 0

  constructor(role: Role, process: ChildProcess) {
    this.role = role
    this.#process = process
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  async hears(told: Told['told']): Promise<void> {
    await this.#next((message) => 'told' in message && message.told === told)
  }

  async ask<K extends keyof Asks>(name: K, ask: Asks[K]['ask']): Promise<Asks[K]['answer']> {
    const id = ++this.#lastId
    const answered = this.#next((message) => 'id' in message && message.id === id)
    this.#process.send({ id, name, ask })
    const message = await answered
    if ('error' in message) throw new Error(`${this.role} could not "${name}": ${String(message.error)}`)
    return (message as { answer: Asks[K]['answer'] }).answer
  }

  /** The code with which the process ended by itself. */
  async ended(): Promise<number | null> {
    if (this.#process.exitCode === null && this.#process.signalCode === null)
      await once(this.#process, 'exit')
    return this.#process.exitCode
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  #next(wanted: (message: object) => boolean): Promise<object> {
    const next = new Promise<object>((resolve, reject) => {
      const settle = (): void => {
        this.#process.off('message', onMessage)
        this.#process.off('exit', onExit)
      }
      const onMessage = (message: object): void => {
        if (!wanted(message)) return
        settle()
        resolve(message)
      }
      const onExit = (): void => {
        settle()
        reject(new Error(`the process of ${this.role} ended unexpectedly`))
      }
      this.#process.on('message', onMessage)
      this.#process.on('exit', onExit)
    })
    // A step that failed elsewhere waits for it no more.
    next.catch(() => {})
    return next
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const ms = (duration: number): string => `${duration < 10 ? duration.toFixed(1) : Math.round(duration)} ms`

/** The three processes, and how long each step may take. */
class Stage {
  readonly #mesh = `demo-${randomBytes(4).toString('hex')}`
  readonly #all: Actor[] = []
  readonly #endsAt = performance.now() + DEMO_TIMEOUT_MS
  #steps = 0
  step = ''

  /** Runs one step; it fails if it takes too long. */
  async play(title: string, body: () => Promise<void>): Promise<void> {
    this.step = title
    print(`\n${colour('bold', `${++this.#steps}. ${title}`)}`)
    const timeoutMs = Math.min(STEP_TIMEOUT_MS, this.#endsAt - performance.now())
    const late = sleep(timeoutMs, undefined, { ref: false }).then(() => {
      throw new Error(`it did not happen within ${ms(timeoutMs)}`)
    })
    await Promise.race([body(), late])
  }

  async start(role: Role): Promise<Actor> {
    const actor = new Actor(
      role,
      fork(process.argv[1]!, ['demo-role', role, this.#mesh], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      }),
    )
    this.#all.push(actor)
    await actor.hears('started')
    narrate(role, `started as process ${actor.pid}`)
    return actor
  }

  clear(): void {
    for (const actor of this.#all) actor.kill()
  }
}

const check = (happened: boolean, otherwise: string): void => {
  if (!happened) throw new Error(otherwise)
}

const READINGS = 90
const QUESTIONS = 50

const followReadings = async (desk: Actor, text: string): Promise<void> => {
  const { latest, outOfOrder, missed } = await desk.ask('follow', { count: READINGS })
  for (const { room, celsius, sequence } of latest.slice(-3)) {
    narrate('desk', `sensors.${room}.temp  ${celsius.toFixed(1)} °C  (reading ${sequence})`)
  }
  check(outOfOrder === 0, `${outOfOrder} readings came out of order`)
  check(missed === 0, `${missed} readings were missed`)
  confirm(text)
}

const askQuestions = async (desk: Actor): Promise<void> => {
  const { right, tripsMs } = await desk.ask('ask', { count: QUESTIONS })
  check(right === QUESTIONS, `only ${right} of ${QUESTIONS} answers were right`)
  narrate('desk', `asked forecast ${QUESTIONS} times, median ${ms(median(tripsMs))}`)
  confirm(`${QUESTIONS} questions, ${right} right answers`)
}

const perform = async (stage: Stage): Promise<void> => {
  let [sensors, forecast, desk] = [] as Actor[] as [Actor, Actor, Actor]
  let forecastBoot = ''

  await stage.play('three processes find each other', async () => {
    ;[sensors, forecast, desk] = await Promise.all([
      stage.start('sensors'),
      stage.start('forecast'),
      stage.start('desk'),
    ])
    const startedAt = performance.now()
    const rosters = await Promise.all(
      [sensors, forecast, desk].map((actor) =>
        actor.ask('meet', { names: ROLES.filter((role) => role !== actor.role) }),
      ),
    )
    forecastBoot = rosters[0]!.forecast!
    confirm(`each sees the other two, ${ms(performance.now() - startedAt)} after the last one was ready`)
  })

  await stage.play('sensors publishes readings, desk follows "sensors.>"', () =>
    followReadings(desk, `${READINGS} readings of 3 topics, in order, none missed`),
  )

  await stage.play('desk asks forecast', () => askQuestions(desk))

  await stage.play('forecast is killed while it works on a question', async () => {
    const working = forecast.hears('working')
    const asked = desk.ask('askInVain', { slow: true })
    await working
    const noticed = Promise.all([sensors, desk].map((actor) => actor.ask('notice', { boot: forecastBoot })))
    const ended = forecast.ended()
    const killedAt = performance.now()
    forecast.kill()
    const { code } = await asked
    const knewAfterMs = performance.now() - killedAt
    await Promise.all([noticed, ended])
    check(code === 'PEER_LOST', `the question ended with ${code}, not with PEER_LOST`)
    check(knewAfterMs < 1000, `desk knew only after ${ms(knewAfterMs)}`)
    narrate('desk', `the question failed with ${code}`)
    confirm(`desk knew ${ms(knewAfterMs)} after the kill, not at its timeout of 10 s`)

    const again = await desk.ask('askInVain', { slow: false })
    check(again.code === 'NO_RESPONDER', `asking again ended with ${again.code}, not with NO_RESPONDER`)
    check(again.afterMs < 500, `asking again failed only after ${ms(again.afterMs)}`)
    confirm(`asking again fails at once (${again.code}, ${ms(again.afterMs)})`)
    await followReadings(desk, `the readings went on: ${READINGS} more, none missed`)
  })

  await stage.play('forecast returns', async () => {
    forecast = await stage.start('forecast')
    const roster = await desk.ask('meet', { names: ['sensors', 'forecast'] })
    check(roster.forecast !== forecastBoot, 'the forecast that returned is the one that was killed')
    await askQuestions(desk)
  })

  await stage.play('everybody leaves', async () => {
    for (const actor of [desk, forecast, sensors]) {
      await actor.ask('leave', {})
      const exitCode = await actor.ended()
      check(exitCode === 0, `${actor.role} ended with ${exitCode}`)
      narrate(actor.role, 'said goodbye and ended with 0')
    }
    confirm('every process ended by itself')
  })
}

/** `skein demo`: resolves with 0 only if each step really happened. */
export const demo = async (): Promise<number> => {
  const stage = new Stage()
  const clear = (): void => stage.clear()
  const interrupt = (): never => process.exit(EXIT.interrupted)
  process.on('exit', clear)
  // Nobody watches any more, as after `| head`.
  process.stdout.once('error', () => process.exit(EXIT.error))
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  const startedAt = performance.now()
  print(`${colour('bold', 'skein demo')}: three nodes, three processes, no broker`)
  try {
    await perform(stage)
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
    print(`\n${colour('green', 'done')}: every step happened, in ${seconds} s`)
    return EXIT.ok
  } catch (error) {
    print(
      `\n${colour('red', 'failed')} at "${stage.step}": ${error instanceof Error ? error.message : String(error)}`,
    )
    return EXIT.error
  } finally {
    clear()
    process.off('exit', clear)
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
}
