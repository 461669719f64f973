import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the range from which systems give out ephemeral ports, so that nobody takes them by chance. */
const LOWEST = 20_000
const RANGE = 10_000

const isFree = async (host: string, port: number): Promise<boolean> => {
  const server = createServer()
  try {
    server.listen(port, host)
    await once(server, 'listening')
    return true
  } catch {
    return false
  } finally {
    server.close()
  }
}

/** The first of three ports in a row that are free on each of the hosts. */
export const threeFreePorts = async (hosts: readonly string[]): Promise<number> => {
  for (;;) {
    const first = LOWEST + Math.floor(Math.random() * RANGE)
    const wanted = hosts.flatMap((host) => [0, 1, 2].map((offset) => isFree(host, first + offset)))
    if ((await Promise.all(wanted)).every((free) => free)) return first
  }
}
