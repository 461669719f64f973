import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { changesBetween } from '../../src/cli/peers.ts'
import {
  describeGap,
  jsonOf,
  printable,
  renderMessage,
  renderPeerChange,
  renderPeers,
  renderReply,
  renderValue,
  toJson,
} from '../../src/cli/render.ts'
import { SkeinError } from '../../src/errors.ts'

const message = { topic: 'a.b', id: 'm1', from: 'f0', headers: {}, attempt: 1, redelivered: false }

describe('cli render', () => {
  test('json - bytes are base64, and what JSON lacks is text', () => {
    const value = {
      bytes: Uint8Array.of(1, 2, 3),
      big: 12345678901234567890n,
      when: new Date(0),
      nan: Number.NaN,
      map: new Map([['k', Uint8Array.of(255)]]),
      nothing: undefined,
    }
    expect(toJson(value)).toEqual({
      bytes: { base64: 'AQID' },
      big: '12345678901234567890',
      when: '1970-01-01T00:00:00.000Z',
      nan: 'NaN',
      map: { k: { base64: '/w==' } },
      nothing: null,
    })
  })

  test('json - a view of a larger buffer shows its own bytes only', () => {
    expect(jsonOf(Uint8Array.of(9, 1, 2, 9).subarray(1, 3))).toBe('{"base64":"AQI="}')
  })

  test('json - any JSON value is shown as it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        expect(JSON.parse(jsonOf(JSON.parse(text)))).toEqual(JSON.parse(text))
      }),
    )
  })

  test('json - a message is one line, and says only what there is to say', () => {
    expect(renderMessage({ ...message, value: { c: 21 } }, 'json')).toBe(
      '{"topic":"a.b","value":{"c":21},"from":"f0","id":"m1"}\n',
    )
    const rich = { ...message, value: 'x\ny', headers: { k: 'v' }, key: 'o1', redelivered: true, attempt: 3 }
    expect(renderMessage(rich, 'json')).toBe(
      '{"topic":"a.b","value":"x\\ny","from":"f0","id":"m1","headers":{"k":"v"},"key":"o1","redelivered":true,"attempt":3}\n',
    )
  })

  test('json - no value is null', () => {
    expect(renderMessage({ ...message, value: undefined }, 'json')).toContain('"value":null')
  })

  test('raw - text and JSON end with a newline, bytes are exact', () => {
    expect(renderMessage({ ...message, value: 'hi' }, 'raw')).toBe('hi\n')
    expect(renderMessage({ ...message, value: [1] }, 'raw')).toBe('[1]\n')
    expect(renderMessage({ ...message, value: Uint8Array.of(0, 10) }, 'raw')).toEqual(Uint8Array.of(0, 10))
  })

  test('text - what a peer sends cannot move the cursor or forge a line (all input is hostile)', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (topic, value) => {
        const shown = renderMessage({ ...message, topic, value }, 'text') as string
        const codes = Array.from(shown.slice(0, -1), (character) => character.codePointAt(0)!)
        expect(
          codes.filter((code) => code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0x202e),
        ).toEqual([])
        expect(shown.endsWith('\n')).toBe(true)
      }),
    )
    expect(printable('a\u001b[2Jb\nc')).toBe('a\\u001b[2Jb\\nc')
  })

  test('text - bytes are shown by their number and their beginning', () => {
    expect(renderMessage({ ...message, value: Uint8Array.of(0xca, 0xfe) }, 'text')).toBe(
      'a.b  <2 bytes cafe>\n',
    )
    expect(renderMessage({ ...message, value: new Uint8Array(100) }, 'text')).toContain('<100 bytes 0000')
  })

  test('value - an answer keeps its lines in text, and only those', () => {
    expect(renderValue('a\nb\u0007', 'text')).toBe('a\nb\\u0007\n')
    expect(renderValue({ sku: 'a1' }, 'json')).toBe('{"sku":"a1"}\n')
  })

  test('reply - an error is shown in its place', () => {
    const error = new SkeinError('REMOTE_ERROR', 'it is closed')
    expect(renderReply({ from: 'p1', error }, 'json')).toBe(
      '{"from":"p1","error":{"code":"REMOTE_ERROR","message":"it is closed"}}\n',
    )
    expect(renderReply({ from: 'p1', value: 7 }, 'json')).toBe('{"from":"p1","value":7}\n')
    expect(renderReply({ from: 'p1', error }, 'raw')).toBe('')
  })

  test('gap - it says how many were missed, or that nobody knows (G5)', () => {
    const gap = { publisher: 'p1', topic: 't', reason: 'slow' } as const
    expect(describeGap({ ...gap, count: 1 })).toBe('missed 1 message of "t" from p1: slow')
    expect(describeGap(gap)).toBe('missed an unknown number of messages of "t" from p1: slow')
  })

  test('peers - columns line up, and verbose says why one is not up', () => {
    const peer = {
      id: 'a'.repeat(32),
      boot: 'b'.repeat(32),
      foundBy: ['registry'],
      endpoints: ['tcp://127.0.0.1:1'],
    }
    const roster = [
      { ...peer, name: 'orders', state: 'up' as const },
      { ...peer, name: 'x', state: 'one-way' as const, reason: 'it cannot be dialled' },
    ]
    const lines = renderPeers(roster, 'text', { boot: true, why: true }).trimEnd().split('\n')
    expect(
      lines.map((line) =>
        line.indexOf(line.includes('STATE') ? 'STATE' : line.includes('one-way') ? 'one-way' : 'up '),
      ),
    ).toEqual([42, 42, 42])
    expect(lines[2]).toContain('it cannot be dialled')
    expect(
      renderPeers(roster, 'json', { boot: false, why: false })
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).name),
    ).toEqual(['orders', 'x'])
  })

  test('peers - a seed that has led to nobody is told as such, and has no id to print', () => {
    const seed = {
      ...{ id: '', name: 'tcp://10.0.0.5:7400', boot: '', state: 'seen' as const, foundBy: ['seed'] },
      endpoints: ['tcp://10.0.0.5:7400'],
    }
    const plain = { boot: false, why: false }
    expect(renderPeers([seed], 'text', plain)).toMatch(
      /tcp:\/\/10\.0\.0\.5:7400 +\(a seed: no node yet\) +seen/,
    )
    expect(JSON.parse(renderPeers([seed], 'json', plain))).toMatchObject({ kind: 'seed', id: '' })
    expect(JSON.parse(renderPeers([{ ...seed, id: 'a' }], 'json', plain))).toMatchObject({ kind: 'node' })
    expect(renderPeers([seed], 'raw', plain)).toBe('')
    const change = { change: 'new', peer: seed } as const
    expect(renderPeerChange(change, 'text', false)).toContain('(a seed: no node yet)')
    expect(JSON.parse(renderPeerChange(change, 'json', false))).toMatchObject({ peer: { kind: 'seed' } })
    expect(renderPeerChange(change, 'raw', false)).toBe('')
  })

  test('peers - of two seeds that have led to nobody each is told apart', () => {
    const seed = { id: '', boot: '', state: 'seen' as const, foundBy: ['seed'], endpoints: [] }
    const [one, two] = [
      { ...seed, name: 'tcp://a:1' },
      { ...seed, name: 'tcp://b:1' },
    ]
    expect(changesBetween([], [one, two]).map(({ change }) => change)).toEqual(['new', 'new'])
    expect(changesBetween([one, two], [one, two])).toEqual([])
    expect(changesBetween([one, two], [two])).toEqual([{ change: 'gone', peer: one }])
  })
})
