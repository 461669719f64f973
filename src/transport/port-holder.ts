import { readdir, readFile, readlink } from 'node:fs/promises'

const MAX_COMMAND = 200

/** The process that listens on a port. */
export interface PortHolder {
  readonly pid: number
  readonly command: string
}

/** Who listens on a TCP port of this host, where it can be found out: on Linux, of processes that this user may see. */
export const holderOf = async (port: number): Promise<PortHolder | undefined> => {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => textOf(`/proc/self/net/${name}`)))
  const sockets = new Set(
    tables.flatMap((table) => listenersIn(table, port)).map((inode) => `socket:[${inode}]`),
  )
  if (sockets.size === 0) return undefined
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))
  for (const pid of pids) {
    if (await holdsOne(pid, sockets)) return { pid: Number(pid), command: await commandOf(pid) }
  }
  return undefined
}

/** The inodes of the sockets that listen on this port, in a table as Linux shows it. */
export const listenersIn = (table: string, port: number): string[] => {
  const local = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')}$`)
  return table.split('\n').flatMap((line) => {
    const [, address = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/)
    return state === '0A' && local.test(address) ? [inode] : []
  })
}

const holdsOne = async (pid: string, sockets: ReadonlySet<string>): Promise<boolean> => {
  const directory = `/proc/${pid}/fd`
  for (const fd of await readdir(directory).catch(() => [])) {
    if (sockets.has(await readlink(`${directory}/${fd}`).catch(() => ''))) return true
  }
  return false
}

const commandOf = async (pid: string): Promise<string> => {
  const command = (await textOf(`/proc/${pid}/cmdline`)).replaceAll('\0', ' ').trim()
  return (command || (await textOf(`/proc/${pid}/comm`)).trim()).slice(0, MAX_COMMAND)
}

const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
