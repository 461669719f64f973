import { once } from 'node:events'
import { createServer } from 'node:net'
import { holderOf, type PortHolder } from './port-holder.ts'

const ROLES = ['control', 'feed', 'delivery'] as const

/** One of the three ports that a node asks for. */
export interface PortSurvey {
  readonly port: number
  /** What it is for. */
  readonly role: (typeof ROLES)[number]
  readonly state: 'free' | 'taken' | 'forbidden' | 'unusable'
  /** The error code of the socket, where it is not free. */
  readonly code?: string
  /** Who has it, where that can be found out. */
  readonly holder?: PortHolder
}

const STATES: Readonly<Record<string, PortSurvey['state']>> = {
  EADDRINUSE: 'taken',
  EACCES: 'forbidden',
  EPERM: 'forbidden',
}

/** The three ports in a row that a node would listen on, each tried for a moment. */
export const surveyPorts = (host: string, first: number): Promise<PortSurvey[]> =>
  Promise.all(ROLES.map((role, offset) => surveyPort(host, first + offset, role)))

/** Why nothing can listen on an address, as an error code. */
export const listenFault = (host: string): Promise<string | undefined> => tryPort(host, 0)

const surveyPort = async (host: string, port: number, role: PortSurvey['role']): Promise<PortSurvey> => {
  const code = await tryPort(host, port)
  if (code === undefined) return { port, role, state: 'free' }
  const state = STATES[code] ?? 'unusable'
  const holder = state === 'taken' ? await holderOf(port) : undefined
  return { port, role, state, code, ...(holder === undefined ? {} : { holder }) }
}

const tryPort = async (host: string, port: number): Promise<string | undefined> => {
  const server = createServer()
  try {
    server.listen(port, host)
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}
