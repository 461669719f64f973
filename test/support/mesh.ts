import { afterEach } from 'vitest'
import {
  createNode,
  type Gap,
  type Message,
  type Node,
  type NodeOptions,
  SkeinError,
  type SubscribeOptions,
  type Subscription,
} from '../../src/index.ts'

/** What a node has said of itself since before it was started. */
export interface Warning {
  readonly code: string
  readonly text: string
}

const open = new Set<{ close(): Promise<unknown> }>()
const said = new WeakMap<Node, Warning[]>()
const missed = new WeakMap<Node, Gap[]>()
let meshes = 0

afterEach(async () => {
  const closing = [...open]
  open.clear()
  await Promise.all(closing.map((each) => each.close()))
})

/** Closes it after the test. */
export const closeLater = <T extends { close(): Promise<unknown> }>(each: T): T => {
  open.add(each)
  return each
}

/** A mesh that no other test is in. */
export const meshName = (): string => `test-${process.pid}-${++meshes}`

/** A logger that keeps the warnings. */
export const keeping = (warnings: Warning[]): NonNullable<NodeOptions['logger']> => ({
  debug() {},
  info() {},
  warn: (fields, text) => void warnings.push({ code: (fields as { code: string }).code, text }),
  error() {},
})

/** One node, closed after the test. */
export const start = async (options: NodeOptions = {}): Promise<Node> => {
  const warnings: Warning[] = []
  const node = closeLater(await createNode({ closeTimeoutMs: 1000, logger: keeping(warnings), ...options }))
  const gaps: Gap[] = []
  node.on('gap', (gap) => gaps.push(gap))
  said.set(node, warnings)
  missed.set(node, gaps)
  return node
}

/** So many nodes of one mesh that all see each other, named n0, n1, …, and closed after the test. */
export const mesh = async <N extends number>(
  count: N,
  options: NodeOptions | ((index: number) => NodeOptions) = {},
): Promise<Nodes<N>> => {
  const shared = meshName()
  const own = typeof options === 'function' ? options : () => options
  const nodes = await Promise.all(
    Array.from({ length: count }, (_, index) => start({ name: `n${index}`, mesh: shared, ...own(index) })),
  )
  await Promise.all(nodes.map((node) => node.waitForPeers(count - 1)))
  return nodes as Nodes<N>
}

type Nodes<N extends number> = N extends 1
  ? [Node]
  : N extends 2
    ? [Node, Node]
    : N extends 3
      ? [Node, Node, Node]
      : N extends 4
        ? [Node, Node, Node, Node]
        : Node[]

export const warningsOf = (node: Node): readonly Warning[] => said.get(node)!

export const gapsOf = (node: Node): readonly Gap[] => missed.get(node)!

/** How many messages a node has reported as missed. */
export const missedBy = (node: Node): number =>
  gapsOf(node).reduce((total, { count = 0 }) => total + count, 0)

export interface Collected {
  readonly subscription: Subscription
  readonly messages: Message[]
  /** Their values, in the order in which they came. */
  readonly values: unknown[]
}

/** Subscribes and keeps what comes; resolves when the subscription is confirmed. */
export const collect = async (
  node: Node,
  pattern: string,
  options: SubscribeOptions = {},
): Promise<Collected> => {
  const messages: Message[] = []
  const values: unknown[] = []
  const subscription = node.subscribe(
    pattern,
    (value, message) => {
      messages.push(message)
      values.push(value)
    },
    options,
  )
  await subscription.ready
  return { subscription, messages, values }
}

/** Resolves when the condition holds; fails after `timeoutMs` and shows the condition. */
export const eventually = async (holds: () => unknown, timeoutMs = 10_000): Promise<void> => {
  const until = performance.now() + timeoutMs
  while (!(await holds())) {
    if (performance.now() > until)
      throw new Error(`after ${timeoutMs} ms this does not hold: ${holds.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** The SkeinError that a call ends in; fails if it ends in anything else. */
export const errorOf = async (call: () => unknown): Promise<SkeinError> => {
  try {
    await call()
  } catch (error) {
    if (error instanceof SkeinError) return error
    throw error
  }
  throw new Error(`no error came of ${call.toString()}`)
}

/** Whether a node counts somebody as a subscriber of this topic at this moment. */
export const hasSubscriber = async (node: Node, topic: string): Promise<boolean> => {
  try {
    await node.waitForSubscribers(topic, { timeoutMs: 0 })
    return true
  } catch {
    return false
  }
}

/** Something that a handler can wait for until the test lets it go on. */
export const gate = (): { readonly passed: Promise<void>; open(): void } => {
  let open = (): void => {}
  const passed = new Promise<void>((resolve) => {
    open = resolve
  })
  return { passed, open: () => open() }
}
