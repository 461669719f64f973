import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../src', import.meta.url))

/** From the bottom up: a file imports from its own layer's module or from a lower layer. */
const LAYERS: readonly RegExp[] = [
  /^(errors|clock|changes|deadlines)\.ts$|^protocol\//,
  /^(discovery|transport|journal)\//,
  /^peers\//,
  /^(delivery|observe)\//,
  /^(node|options|calls|presence|surroundings|diagnosis)\.ts$/,
  /^(index|testing)\.ts$/,
  /^cli\//,
]

/** Who may touch the file system: the journal, the registry, commands, and who looks up the holder of a port. */
const FILES = /^(journal|cli)\/|^discovery\/registry(-[a-z]+)?\.ts$|^transport\/port-holder\.ts$/

/** Where a package may be imported: it can be replaced by rewriting what stands here. */
const DOORS: Readonly<Record<string, RegExp>> = {
  zeromq: /^transport\/zeromq\.ts$/,
  msgpackr: /^protocol\/codec\.ts$/,
  'bonjour-service': /^discovery\/mdns\.ts$/,
  commander: /^cli\//,
  'node:fs': FILES,
  'node:fs/promises': FILES,
}

const BANNED = /(^|\/)(utils?|helpers?|common|misc|shared|lib|types|constants)(\.ts$|\/)/

const importsOf = (text: string): string[] =>
  [...text.matchAll(/^(?:import|export|\}).*? from '([^']+)'|^import '([^']+)'|import\('([^']+)'\)/gm)].map(
    (match) => (match[1] ?? match[2] ?? match[3])!,
  )

const layerOf = (file: string): number => LAYERS.findIndex((layer) => layer.test(file))
const moduleOf = (file: string): string => file.split('/')[0]!

/** What is wrong with a source tree, given as path → text. */
const faultsOf = (tree: ReadonlyMap<string, string>): string[] => {
  const faults: string[] = []
  const graph = new Map<string, string[]>()
  for (const [file, text] of tree) {
    if (layerOf(file) === -1) faults.push(`${file} stands on no layer`)
    if (BANNED.test(file)) faults.push(`${file} has a name that says nothing`)
    if (file === 'index.ts' && /^(?!export |import |\s|\}|\/\/|$)/m.test(text))
      faults.push('index.ts holds code')
    const targets: string[] = []
    for (const target of importsOf(text)) {
      if (!target.startsWith('.')) {
        if (Object.hasOwn(DOORS, target) && !DOORS[target]!.test(file))
          faults.push(`${file} imports ${target}`)
        continue
      }
      const to = relative('/', join('/', dirname(file), target))
      targets.push(to)
      if (layerOf(to) > layerOf(file)) faults.push(`${file} imports up: ${to}`)
      if (layerOf(file) === 1 && layerOf(to) === 1 && moduleOf(file) !== moduleOf(to))
        faults.push(`${file} sees ${to}`)
      if (moduleOf(file) === 'cli' && moduleOf(to) !== 'cli' && to !== 'index.ts')
        faults.push(`${file} goes past index.ts: ${to}`)
      if (to === 'node.ts' && file !== 'index.ts' && file !== 'testing.ts')
        faults.push(`${file} is handed the node`)
    }
    graph.set(file, targets)
  }
  return [...faults, ...cyclesOf(graph)]
}

const cyclesOf = (graph: ReadonlyMap<string, readonly string[]>): string[] => {
  const cycles: string[] = []
  const done = new Set<string>()
  const walk = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) {
      cycles.push(`cycle: ${[...path.slice(path.indexOf(file)), file].join(' > ')}`)
      return
    }
    if (done.has(file)) return
    for (const target of graph.get(file) ?? []) walk(target, [...path, file])
    done.add(file)
  }
  for (const file of graph.keys()) walk(file, [])
  return cycles
}

const readTree = (): Map<string, string> => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  return new Map(files.map((file) => [file.replaceAll('\\', '/'), readFileSync(join(SRC, file), 'utf8')]))
}

describe('architecture', () => {
  test('imports go down the layers, packages have one door each, and nothing goes in circles', () => {
    expect(faultsOf(readTree())).toEqual([])
  })

  test.each([
    ['an import up', 'protocol/a.ts', "import { b } from '../node.ts'"],
    ['a neighbour of layer 1', 'transport/a.ts', "import { b } from '../discovery/b.ts'"],
    ['a package beside its door', 'delivery/a.ts', "import { Push } from 'zeromq'"],
    ['a package by a lazy import', 'delivery/a.ts', "const z = await import('msgpackr')"],
    ['a command past the public surface', 'cli/a.ts', "import { Feed } from '../transport/feed.ts'"],
    ['code in the public surface', 'index.ts', 'const a = 1'],
    ['an attic', 'protocol/utils.ts', ''],
    ['a file on no layer', 'elsewhere/a.ts', ''],
    ['a module that is handed the node', 'delivery/a.ts', "import type { Node } from '../node.ts'"],
    ['a cycle', 'protocol/a.ts', "import { a } from './a.ts'"],
  ])('%s is found', (_, file, text) => {
    expect(faultsOf(new Map([[file, text]]))).not.toEqual([])
  })

  test('nobody outside the list is named as a runtime dependency', () => {
    const manifest = JSON.parse(readFileSync(join(SRC, '../package.json'), 'utf8')) as {
      dependencies: object
    }
    expect(Object.keys(manifest.dependencies).every((name) => name in DOORS)).toBe(true)
  })
})
