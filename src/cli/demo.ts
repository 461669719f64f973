import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { POISON } from './demo-orders.ts'
import { type Asks, ROLES, type Role, type Told } from './demo-role.ts'
import { EXIT } from './exit.ts'

const STEP_TIMEOUT_MS = 5000
const DEMO_TIMEOUT_MS = 18_000

type Colour = 'green' | 'red' | 'cyan' | 'yellow' | 'magenta' | 'bold' | 'dim'

const COLOURS: Record<Role, Colour> = {
  ...{ sensors: 'cyan', forecast: 'magenta', desk: 'yellow' },
  ...{ shop: 'cyan', anna: 'magenta', ben: 'yellow' },
}

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

  constructor(role: Role, process: ChildProcess, told: (told: Told) => void) {
    this.role = role
    this.#process = process
    process.on('message', (message: object) => {
      if ('told' in message) told(message as Told)
    })
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

/** The processes, and how long each step may take. */
class Stage {
  readonly #mesh = `demo-${randomBytes(4).toString('hex')}`
  readonly #directory = mkdtempSync(join(tmpdir(), 'skein-demo-'))
  readonly #all: Actor[] = []
  /** How often each order was packed, and how often that was not flagged as a repeat. */
  readonly packed = new Map<number, { times: number; unflagged: number }>()
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
      fork(process.argv[1]!, ['demo-role', role, this.#mesh, this.#directory], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      }),
      (told) => {
        if (told.told === 'packed') this.#count(told.number, told.redelivered)
      },
    )
    this.#all.push(actor)
    await actor.hears('started')
    narrate(role, `started as process ${actor.pid}`)
    return actor
  }

  #count(number: number, redelivered: boolean): void {
    const { times, unflagged } = this.packed.get(number) ?? { times: 0, unflagged: 0 }
    this.packed.set(number, { times: times + 1, unflagged: unflagged + (redelivered ? 0 : 1) })
  }

  clear(): void {
    for (const actor of this.#all) actor.kill()
    rmSync(this.#directory, { recursive: true, force: true })
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

const BEFORE_THE_KILL = 50
const BACKLOG = 200

/** Every order up to the last was packed, and whatever was packed again was flagged. */
const checkPacked = (stage: Stage, last: number, but?: number): string => {
  const all = Array.from({ length: last }, (_, n) => n + 1).filter((number) => number !== but)
  const missing = all.filter((number) => !stage.packed.has(number))
  check(missing.length === 0, `${missing.length} orders were never packed, the first is ${missing[0]}`)
  const counts = [...stage.packed.values()]
  check(
    counts.every(({ unflagged }) => unflagged <= 1),
    'an order was packed again without a flag',
  )
  const again = counts.reduce((sum, { times }) => sum + times - 1, 0)
  return `${all.length} packed, ${again === 0 ? 'none' : again} of them twice`
}

/** Orders, those who pack them, and what happens when either is killed. */
const takeOrders = async (stage: Stage): Promise<Actor[]> => {
  let [shop, anna, ben] = [] as Actor[] as [Actor, Actor, Actor]

  await stage.play('shop takes orders, anna and ben pack; anna is killed while she does', async () => {
    ;[shop, anna, ben] = await Promise.all([stage.start('shop'), stage.start('anna'), stage.start('ben')])
    await anna.ask('hang', {})
    const packing = anna.hears('packing')
    const { durability } = await shop.ask('take', { first: 1, count: BEFORE_THE_KILL })
    narrate('shop', `took ${BEFORE_THE_KILL} orders, which are kept on ${durability}`)
    await packing
    const ended = anna.ended()
    anna.kill()
    await ended
    narrate('anna', 'killed with an order in her hands')
    await shop.ask('owing', { until: 0 })
    confirm(`ben did it all: ${checkPacked(stage, BEFORE_THE_KILL)}, and none is missing`)
  })

  const last = BEFORE_THE_KILL + BACKLOG
  await stage.play('nobody packs, and shop is killed; all return', async () => {
    await ben.ask('leave', {})
    await ben.ended()
    narrate('ben', 'went home')
    await shop.ask('take', { first: BEFORE_THE_KILL + 1, count: BACKLOG })
    const ended = shop.ended()
    shop.kill()
    await ended
    narrate('shop', `took ${BACKLOG} orders more, and was killed`)
    shop = await stage.start('shop')
    const { owed } = await shop.ask('owing', { until: BACKLOG })
    check(owed === BACKLOG, `shop remembers ${owed} orders, not ${BACKLOG}`)
    narrate('shop', `still owes ${owed} orders`)
    ;[anna, ben] = await Promise.all([stage.start('anna'), stage.start('ben')])
    const { dead, lastError } = await shop.ask('owing', { until: 0 })
    check(dead === 1, `${dead} orders were given up, not one`)
    confirm(`every order is accounted for: ${checkPacked(stage, last, POISON)}, and one is a dead letter`)
    narrate('shop', `dead letter: ${lastError}`)
  })

  await stage.play('somebody finds a larger box, and the dead letter is retried', async () => {
    await Promise.all([anna.ask('fix', {}), ben.ask('fix', {})])
    const { outcome } = await shop.ask('retry', {})
    check(outcome === 'handled', `the dead letter that was retried ended as ${outcome}`)
    confirm(`order ${POISON} is packed, too: ${checkPacked(stage, last)}`)
  })
  return [anna, ben, shop]
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

  const shift = await takeOrders(stage)

  await stage.play('everybody leaves', async () => {
    for (const actor of [desk, forecast, sensors, ...shift]) {
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
  print(`${colour('bold', 'skein demo')}: nodes, each a process of its own, and no broker`)
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
