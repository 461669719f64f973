import { SimulatedNetwork } from 'skein/testing'

/** What a mesh of so many nodes costs, counted on a simulated network: batches and bytes that all nodes send. */
export interface Scale {
  readonly nodes: number
  /** All start at the same moment, until each has every other one up. */
  readonly joinBatchesPerNode: number
  readonly joinBytesPerNode: number
  /** Of this machine, not of the network. */
  readonly joinCpuMsPerNode: number
  /** One more comes: what it and all others send. */
  readonly newcomerBatches: number
  readonly newcomerMs: number
  readonly leaverBatches: number
  /** Nothing happens. */
  readonly idleBatchesPerNodeAndSecond: number
  readonly idleCpuMsPerNodeAndMinute: number
  readonly heapKiBPerNode: number
}

const IDLE_MS = 60_000

const cpuMs = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

export const measureSimulated = async (count: number): Promise<Scale> => {
  const network = new SimulatedNetwork({ seed: 7 })
  const sent = (): { batches: number; bytes: number } => network.stats()

  const joinCpu = cpuMs()
  const nodes = await Promise.all(
    Array.from({ length: count }, (_, index) => network.createNode({ name: `n${index}` })),
  )
  const meshed = Promise.all(nodes.map((node) => node.waitForPeers(count - 1, { timeoutMs: 120_000 })))
  await network.run(meshed, { limitMs: 120_000 })
  const joined = { ...sent(), cpu: cpuMs() - joinCpu }

  await network.advance(10_000)
  const idle = { ...sent(), cpu: cpuMs() }
  await network.advance(IDLE_MS)
  const rested = { ...sent(), cpu: cpuMs() }

  const cameAt = network.clock.now()
  const late = await network.createNode({ name: 'late' })
  await network.run(late.waitForPeers(count))
  const come = { ...sent(), ms: network.clock.now() - cameAt }
  await network.run(late.close())
  await network.advance(100)
  const left = sent()

  const heapKiBPerNode = process.memoryUsage().heapUsed / 1024 / count
  await network.close()
  return {
    nodes: count,
    joinBatchesPerNode: joined.batches / count,
    joinBytesPerNode: joined.bytes / count,
    joinCpuMsPerNode: joined.cpu / count,
    newcomerBatches: come.batches - rested.batches,
    newcomerMs: come.ms,
    leaverBatches: left.batches - come.batches,
    idleBatchesPerNodeAndSecond: ((rested.batches - idle.batches) / count / IDLE_MS) * 1000,
    idleCpuMsPerNodeAndMinute: (rested.cpu - idle.cpu) / count,
    heapKiBPerNode,
  }
}
