import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseBytes, parseText, sourceOf } from '../../src/cli/input.ts'

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

describe('cli input', () => {
  test.each([
    ['21.5', 21.5],
    ['{"c":21}', { c: 21 }],
    ['null', null],
    ['"quoted"', 'quoted'],
    ['plain text', 'plain text'],
    ['007', '007'],
    ['{broken', '{broken'],
    ['', ''],
  ])('payload - %s is %j: JSON if it parses, else text', (text, value) => {
    expect(parseText(text)).toEqual(value)
  })

  test('payload - with --raw text stays text', () => {
    expect(parseText('21.5', true)).toBe('21.5')
  })

  test('payload - every JSON value is read back as it was written', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        expect(parseText(text)).toEqual(JSON.parse(text))
        expect(parseBytes(bytesOf(`${text}\n`))).toEqual(JSON.parse(text))
      }),
    )
  })

  test('payload - bytes are JSON, else text without its last newline, else bytes', () => {
    expect(parseBytes(bytesOf('{"a":1}\n'))).toEqual({ a: 1 })
    expect(parseBytes(bytesOf('two\nlines\n'))).toBe('two\nlines')
    expect(parseBytes(Uint8Array.of(0xff, 0xd8, 0xff))).toEqual(Uint8Array.of(0xff, 0xd8, 0xff))
  })

  test('payload - with --raw bytes stay bytes, newline and all', () => {
    expect(parseBytes(bytesOf('1\n'), true)).toEqual(Uint8Array.of(0x31, 0x0a))
  })

  test('payload - bytes handed over are plain Uint8Arrays of their own, not views of a pool', () => {
    const value = parseBytes(Buffer.from([0xff]), true) as Uint8Array
    expect(Object.getPrototypeOf(value)).toBe(Uint8Array.prototype)
    expect(value.buffer.byteLength).toBe(1)
  })

  test('source - an argument comes before stdin, "-" and a pipe are stdin, a terminal is nothing', () => {
    expect(sourceOf('x', undefined, () => true)).toEqual({ from: 'argument', text: 'x' })
    expect(sourceOf('-', undefined, () => false)).toEqual({ from: 'stdin' })
    expect(sourceOf(undefined, undefined, () => true)).toEqual({ from: 'stdin' })
    expect(sourceOf(undefined, undefined, () => false)).toEqual({ from: 'nowhere' })
    expect(sourceOf(undefined, 'f', () => true)).toEqual({ from: 'file', path: 'f' })
  })

  test('source - a payload and a file together are refused', () => {
    expect(() => sourceOf('x', 'f')).toThrow('both a payload and --file "f"')
  })
})
