/** How a command ended, for scripts. */
export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  timeout: 3,
  noPeers: 4,
  nobody: 5,
  remote: 6,
  partial: 7,
  notAuthorised: 8,
  interrupted: 130,
  terminated: 143,
} as const

export const EXIT_HELP = `Exit codes:
  0  done                            5  nobody to receive or to answer
  1  failed                          6  the other side answered with an error
  2  wrong usage                     7  done in part
  3  timed out                       8  not authorised
  4  waited for peers, none came   130  interrupted (143: terminated)`

/** A failure that the command itself found, with the code to leave with. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exitCode: number

  constructor(exitCode: number, message: string) {
    super(message)
    this.exitCode = exitCode
  }
}
