import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { DEFAULTS, ERROR_CODES } from '../src/index.ts'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const readme = read('README.md')

describe('readme', () => {
  test('its program is an example that runs, and stands before line 30 with two terminals', () => {
    const program = read('examples/01-publish-subscribe.js').trim()
    expect(readme).toContain(program)
    const head = readme.split('\n').slice(0, 30).join('\n')
    expect(head).toContain(program)
    expect(head).toMatch(/terminal 1[\s\S]*terminal 2/)
  })

  test('it names every option with its default, and no other', () => {
    const { limits, discovery, ...options } = DEFAULTS
    const sources = Object.entries(discovery).map(([name, value]) => [`discovery.${name}`, value] as const)
    for (const [name, value] of [...Object.entries(options), ...sources]) {
      const row = readme.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${name}\``))
      expect(row, name).toContain(typeof value === 'string' ? `'${value}'` : String(value))
    }
    for (const name of Object.keys(limits)) expect(readme).toContain(`\`${name}\``)
  })

  test('it names every error code, and no other', () => {
    const table = readme.slice(readme.indexOf('## Errors'))
    const named = [...table.matchAll(/`([A-Z_]{4,})`/g)].map((match) => match[1])
    expect(named.sort()).toEqual([...ERROR_CODES].sort())
  })
})
