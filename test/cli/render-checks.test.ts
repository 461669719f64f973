import { describe, expect, test } from 'vitest'
import type { Check } from '../../src/cli/check.ts'
import { renderChecks, renderSummary } from '../../src/cli/render-checks.ts'

const plain = { colour: false }
const ok: Check = { check: 'registry', verdict: 'ok', text: '/run/skein can be used' }
const note: Check = { check: 'mode', verdict: 'note', text: 'orders stays on this host' }
const problem: Check = {
  ...{ check: 'seed', subject: '10.0.0.5:7400', text: 'nobody listens there' },
  ...{ verdict: 'problem', remedy: 'start the node there' },
}

describe('cli render checks', () => {
  test('what is well takes one line, what is not says in the next one what helps', () => {
    expect(renderChecks([ok, problem], plain)).toBe(
      [
        'ok       registry: /run/skein can be used',
        'PROBLEM  seed 10.0.0.5:7400: nobody listens there',
        '         → start the node there',
        '',
      ].join('\n'),
    )
  })

  test('long texts are broken at spaces and stand below each other', () => {
    const lines = renderChecks([{ ...problem, text: 'word '.repeat(60).trim() }], plain)
      .trimEnd()
      .split('\n')
    expect(lines.length).toBeGreaterThan(3)
    expect(lines.every((line) => line.length <= 100)).toBe(true)
    expect(lines[1]).toMatch(/^ {9}word/)
  })

  test('of very many that are well only some are shown', () => {
    const peers = Array.from(
      { length: 40 },
      (_, at): Check => ({ check: 'peer', subject: `n${at}`, verdict: 'ok', text: 'up' }),
    )
    const lines = renderChecks([ok, ...peers, problem], plain)
      .trimEnd()
      .split('\n')
    expect(lines).toHaveLength(1 + 10 + 1 + 2)
    expect(lines[11]).toBe('ok       peer: 30 more are well')
  })

  test('the summary counts problems and notes', () => {
    expect(renderSummary([ok, note, problem], plain)).toBe('1 problem, 1 note\n')
    expect(renderSummary([ok], plain)).toBe('no problem\n')
  })

  test('what a peer is called cannot move the cursor or forge a line (all input is hostile)', () => {
    const shown = renderChecks(
      [{ ...problem, subject: 'a\u001b[2J\nok all', text: 'b\r\u202ec', remedy: 'd\ne' }],
      plain,
    )
    expect(shown.split('\n')).toHaveLength(3)
    for (const hostile of ['\u001b', '\r', '\u202e']) expect(shown).not.toContain(hostile)
  })
})
