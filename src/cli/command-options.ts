import { type Command, Option } from 'commander'
import {
  parseCount,
  parseDurationMs,
  parseFlag,
  parseHeader,
  parseRateToIntervalMs,
  parseSeeds,
  parseSpanMs,
} from './arguments.ts'
import type { Globals } from './run.ts'

/** Options are spelled for people (`--timeout 5s`) and named for programs (`timeoutMs`). */
export const named = (
  flags: string,
  description: string,
  name: string,
  parse: (text: string) => unknown,
): Option => {
  const option = new Option(flags, description).argParser(parse)
  option.attributeName = () => name
  return option
}

export const timeoutOption = (description: string): Option =>
  named('-W, --timeout <duration>', description, 'timeoutMs', parseDurationMs)

export const countOption = (description: string): Option =>
  new Option('-n, --count <n>', description).argParser(parseCount)

export const headerOption = (): Option =>
  new Option('-H, --header <key=value>', 'a header, repeatable').argParser(parseHeader)

export const fileOption = (): Option => new Option('--file <path>', 'take the payload from a file')

export const rawOption = (description: string): Option => new Option('--raw', description)

export const jsonOption = (): Option =>
  new Option('--json', 'the payload has to be JSON: what is none is refused').conflicts('raw')

export const rateOption = (): Option =>
  named('--rate <n/s>', 'at most so many a second (or /m, /h)', 'intervalMs', parseRateToIntervalMs)

export const intervalOption = (): Option =>
  named('--interval <duration>', 'the time between two messages', 'intervalMs', parseDurationMs)

/** Of what is sent at least once. */
export const owedOptions = (): Option[] => [
  new Option('--key <key>', 'messages of one key are handled one at a time, in order'),
  named('--delay <duration>', 'not to be handled before so long', 'delayMs', parseDurationMs),
  named('--ttl <duration>', 'it expires where it is not handled within so long', 'ttlMs', parseSpanMs),
  new Option(
    '--dedupe-id <id>',
    'sent once with this id, it is not sent again while it is owed, nor for 5 min after, by this call or with the same --data-dir',
  ),
  new Option('-v, --verbose', 'print the receipt of each message, and what became of it'),
]

export const addAll = (command: Command, options: readonly Option[]): Command => {
  for (const option of options) command.addOption(option)
  return command
}

const LISTENING = ['port', 'bind', 'advertise'] as const

/** The options of a command and the global ones, with the environment behind them. */
export const optionsOf = <T extends object>(command: Command): T => {
  const options = command.optsWithGlobals<T & Globals>()
  const { SKEIN_OPEN, SKEIN_SEED, SKEIN_MDNS, SKEIN_REGISTRY } = process.env
  return {
    ...options,
    open: options.open ?? parseFlag('SKEIN_OPEN', SKEIN_OPEN),
    seed: options.seed ?? (SKEIN_SEED ? parseSeeds(SKEIN_SEED) : undefined),
    mdns: options.mdns ?? (SKEIN_MDNS ? parseFlag('SKEIN_MDNS', SKEIN_MDNS) : undefined),
    registry: options.registry !== false && parseFlag('SKEIN_REGISTRY', SKEIN_REGISTRY || '1'),
    // The environment is that of all commands: only what was typed was meant for this one.
    listening: LISTENING.filter((name) => command.getOptionValueSourceWithGlobals(name) === 'cli').map(
      (name) => `--${name}`,
    ),
    owing: command.getOptionValueSourceWithGlobals('dataDir') === 'cli' ? ['--data-dir'] : [],
  }
}
