import type { Command, HelpConfiguration, Option } from 'commander'

/** The global options that matter to a command; all of them stand in the help of skein itself. */
const GLOBALS: Readonly<Record<string, readonly string[]>> = {
  pub: ['mesh', 'open', 'seed', 'dataDir'],
  push: ['mesh', 'open', 'seed', 'dataDir'],
  sub: ['mesh', 'name', 'open', 'seed', 'format'],
  pull: ['mesh', 'name', 'open', 'seed', 'format'],
  respond: ['mesh', 'name', 'open', 'seed'],
  doctor: ['mesh', 'open', 'seed', 'port'],
  'dead-letters': ['dataDir', 'mesh', 'format'],
  'dead-letters ls': ['dataDir', 'format'],
  'dead-letters show': ['dataDir', 'format'],
  'dead-letters retry': ['dataDir', 'mesh', 'open', 'seed', 'format'],
  'dead-letters drop': ['dataDir', 'mesh', 'open', 'seed'],
  journal: ['dataDir', 'format'],
  demo: [],
}

const OTHERS = ['mesh', 'open', 'seed', 'format']

const TITLE = 'Global Options:'

const pathOf = (command: Command): string =>
  command.parent?.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name()

const rootOf = (command: Command): Command => (command.parent === null ? command : rootOf(command.parent))

const globalsOf = (command: Command): readonly Option[] => {
  if (command.parent === null) return []
  const path = pathOf(command)
  const wanted = GLOBALS[path] ?? GLOBALS[path.split(' ')[0]!] ?? OTHERS
  return wanted.flatMap(
    (name) => rootOf(command).options.find((option) => option.attributeName() === name) ?? [],
  )
}

export const help: HelpConfiguration = {
  visibleGlobalOptions: (command) => [...globalsOf(command)],
  showGlobalOptions: true,
  styleTitle: (title) => (title === TITLE ? 'Global Options (skein --help lists all):' : title),
}
