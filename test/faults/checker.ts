/**
 * What happened in a run, as the processes around the nodes wrote it down: never by the nodes themselves. Times are of
 * the host's monotonic clock, which all its processes share.
 */
export type Happened =
  /** A process began; `pid` is unique in a run. */
  | { readonly kind: 'start'; readonly at: number; readonly pid: number; readonly role: string }
  /** A send is attempted. Each number is attempted once, by whoever sends at that time. */
  | { readonly kind: 'send'; readonly at: number; readonly n: number; readonly key?: string }
  /** It resolved: owed to these from now on. */
  | { readonly kind: 'ok'; readonly at: number; readonly n: number; readonly to: readonly string[] }
  /** It was refused. `isUncertain`: it may be delivered all the same. */
  | {
      readonly kind: 'fail'
      readonly at: number
      readonly n: number
      readonly code: string
      readonly isUncertain: boolean
    }
  /** A handler was called. */
  | {
      readonly kind: 'got'
      readonly at: number
      readonly n: number
      readonly to: string
      readonly pid: number
      readonly id: string
      readonly attempt: number
      readonly redelivered: boolean
    }
  /** The handler succeeded. */
  | {
      readonly kind: 'done'
      readonly at: number
      readonly n: number
      readonly to: string
      readonly pid: number
    }
  /** It ended as a dead letter, expired, or its addressee was given up: with a reason that was told. */
  | { readonly kind: 'ended'; readonly at: number; readonly n: number; readonly to: string }
  /** A process was killed, stopped or cut off. */
  | { readonly kind: 'fault'; readonly at: number; readonly what: string }

export interface Verdict {
  readonly sent: number
  readonly accepted: number
  readonly refused: number
  readonly handled: number
  /** Accepted, and never handled by one of its addressees. */
  readonly lost: number
  readonly faults: number
  /** Calls of handlers beyond the first for each message and addressee. */
  readonly repeats: number
  /** What is wrong, each as one sentence; more than twenty of a sort are only counted. */
  readonly violations: readonly string[]
}

type Got = Extract<Happened, { kind: 'got' }>

const SHOWN = 20

/** Judges a history that has come to rest: whatever was accepted must have been handled by now. */
export const judge = (history: readonly Happened[]): Verdict => {
  const found = new Findings()
  const sends = new Map<number, { key: string | undefined; to: readonly string[]; refused: boolean }>()
  const got = new Map<string, Got[]>()
  const done = new Map<string, number[]>()
  const doneBy = new Map<string, number>()
  const ended = new Set<string>()
  let faults = 0
  for (const each of history) {
    if (each.kind === 'send') {
      if (sends.has(each.n)) found.add('harness', `${each.n} was sent twice`)
      sends.set(each.n, { key: each.key, to: [], refused: false })
    } else if (each.kind === 'ok') {
      sends.set(each.n, { ...sends.get(each.n)!, to: each.to })
    } else if (each.kind === 'fail') {
      if (!each.isUncertain) sends.set(each.n, { ...sends.get(each.n)!, refused: true })
    } else if (each.kind === 'got') {
      const part = partOf(each)
      push(got, part, each)
      const before = doneBy.get(`${part} ${each.pid}`)
      if (before !== undefined && before <= each.at)
        found.add('G9', `${part} ran again in process ${each.pid}, where it had succeeded`)
    } else if (each.kind === 'done') {
      const part = partOf(each)
      push(done, part, each.at)
      doneBy.set(`${part} ${each.pid}`, each.at)
    } else if (each.kind === 'ended') ended.add(partOf(each))
    else if (each.kind === 'fault') faults++
  }
  let accepted = 0
  let refused = 0
  let lost = 0
  for (const [n, { to, refused: isRefused }] of sends) {
    if (to.length > 0) accepted++
    if (isRefused) refused++
    for (const addressee of to) {
      const part = partOf({ n, to: addressee })
      if (done.has(part) || ended.has(part)) continue
      lost++
      found.add('G2 lost', `${part} was accepted and never handled`)
    }
  }
  let repeats = 0
  for (const [part, calls] of got) {
    const { n } = calls[0]!
    const send = sends.get(n)
    if (send === undefined) found.add('phantom', `${part} was handled and never sent`)
    else if (send.refused) found.add('G1 phantom', `${part} was handled although its send was refused`)
    if (new Set(calls.map(({ id }) => id)).size > 1) found.add('phantom', `${part} came under two ids`)
    const unflagged = calls.filter(({ redelivered }) => !redelivered).length
    if (unflagged > 1) found.add('G9', `${part} was handled ${unflagged} times without being flagged`)
    repeats += calls.length - 1
  }
  orderOf(history, sends, found)
  keysOf(history, sends, done, ended, found)
  return {
    ...{ sent: sends.size, accepted, refused, handled: done.size, lost, faults, repeats },
    violations: found.list(),
  }
}

/** G4: what a member gets for the first time, it gets in the order in which it was sent; keys wait for themselves only. */
const orderOf = (
  history: readonly Happened[],
  sends: ReadonlyMap<number, { key: string | undefined }>,
  found: Findings,
): void => {
  const last = new Map<string, number>()
  for (const each of history) {
    if (each.kind !== 'got' || each.redelivered) continue
    const line = `${each.to} ${each.pid} ${sends.get(each.n)?.key ?? ''}`
    const before = last.get(line) ?? -1
    if (each.n < before)
      found.add('G4', `${partOf(each)} was first handed to process ${each.pid} behind ${before}`)
    last.set(line, Math.max(before, each.n))
  }
}

/** G4: of a key nothing is begun before all that was accepted before it has been handled. */
const keysOf = (
  history: readonly Happened[],
  sends: ReadonlyMap<number, { key: string | undefined; to: readonly string[] }>,
  done: ReadonlyMap<string, readonly number[]>,
  ended: ReadonlySet<string>,
  found: Findings,
): void => {
  const before = new Map<number, number>()
  const lastOf = new Map<string, number>()
  for (const [n, { key, to }] of [...sends].sort(([one], [other]) => one - other)) {
    if (key === undefined || to.length === 0) continue
    const previous = lastOf.get(key)
    if (previous !== undefined) before.set(n, previous)
    lastOf.set(key, n)
  }
  for (const each of history) {
    if (each.kind !== 'got') continue
    const previous = before.get(each.n)
    if (previous === undefined) continue
    const part = partOf({ n: previous, to: each.to })
    if (ended.has(part)) continue
    const first = Math.min(...(done.get(part) ?? [Number.POSITIVE_INFINITY]))
    if (first > each.at)
      found.add('G4 key', `${partOf(each)} began before ${previous} of the same key was handled`)
  }
}

class Findings {
  readonly #bySort = new Map<string, string[]>()

  add(sort: string, text: string): void {
    push(this.#bySort, sort, text)
  }

  list(): string[] {
    return [...this.#bySort].flatMap(([sort, texts]) => [
      ...texts.slice(0, SHOWN).map((text) => `${sort}: ${text}`),
      ...(texts.length > SHOWN ? [`${sort}: and ${texts.length - SHOWN} more`] : []),
    ])
  }
}

const partOf = ({ n, to }: { n: number; to: string }): string => `${n} for ${to}`

const push = <T>(map: Map<string, T[]>, key: string, value: T): void => {
  const known = map.get(key)
  if (known === undefined) map.set(key, [value])
  else known.push(value)
}

/** Reads what the processes wrote, in order of time. A line that its writer did not live to end counts for nothing. */
export const parseHistory = (texts: readonly string[]): Happened[] =>
  texts
    .flatMap((text) => text.split('\n').slice(0, -1))
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Happened]
      } catch {
        return []
      }
    })
    .sort((one, other) => one.at - other.at)
