import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  parseCount,
  parseDurationMs,
  parseFlag,
  parseHeader,
  parsePort,
  parseRateToIntervalMs,
} from '../../src/cli/arguments.ts'

describe('cli arguments', () => {
  test.each([
    ['0', 0],
    ['500ms', 500],
    ['5s', 5000],
    ['1.5s', 1500],
    ['2m', 120_000],
    ['1h', 3_600_000],
  ])('durations - %s is %d ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms)
  })

  test('durations - a number without a unit is refused, and the refusal says what to write', () => {
    expect(() => parseDurationMs('5')).toThrow('write 5s or 5ms')
  })

  test.each(['', ' ', '-5s', '5 s', '1e3ms', '5sec', 's', '5s5s', 'NaNs', '0x5s'])(
    'durations - "%s" is refused',
    (text) => {
      expect(() => parseDurationMs(text)).toThrow()
    },
  )

  test('durations - one that no timer can wait is refused, because the timer would fire at once', () => {
    expect(() => parseDurationMs('600h')).toThrow('596h')
  })

  test('durations - any text gives a whole number of milliseconds that a timer takes, or is refused', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^\d{0,12}(\.\d{0,3})?(ms|s|m|h)?$/)), (text) => {
        let ms: number
        try {
          ms = parseDurationMs(text)
        } catch {
          return
        }
        expect(Number.isInteger(ms) && ms >= 0 && ms < 2 ** 31).toBe(true)
      }),
    )
  })

  test.each(['0', '-1', '1.5', 'many', '', '1e3', '99999999999999999999'])(
    'counts - "%s" is refused',
    (text) => {
      expect(() => parseCount(text)).toThrow('whole number')
    },
  )

  test('counts - a whole number is taken', () => {
    expect(parseCount('12')).toBe(12)
  })

  test('ports - one that leaves no room for the two after it is refused', () => {
    expect(parsePort('7400')).toBe(7400)
    expect(() => parsePort('65534')).toThrow('from 0 to 65533, because a node takes it and the two after it')
  })

  test.each([
    ['100/s', 10],
    ['100', 10],
    ['30/m', 2000],
    ['0.5/s', 2000],
    ['10000/s', 0.1],
  ])('rates - %s is a message each %d ms', (text, ms) => {
    expect(parseRateToIntervalMs(text)).toBe(ms)
  })

  test.each(['0', '0/s', '5/d', '/s', 'fast', '-1/s'])('rates - "%s" is refused', (text) => {
    expect(() => parseRateToIntervalMs(text)).toThrow('write a rate as')
  })

  test('headers - repeats collect, and the value is everything after the first "="', () => {
    expect(parseHeader('b=x=y', parseHeader('a=1'))).toEqual({ a: '1', b: 'x=y' })
    expect(parseHeader('empty=')).toEqual({ empty: '' })
  })

  test.each(['novalue', '=x', ''])('headers - "%s" is refused', (text) => {
    expect(() => parseHeader(text)).toThrow('key=value')
  })

  test.each([
    [undefined, false],
    ['', false],
    ['0', false],
    ['false', false],
    ['no', false],
    ['1', true],
    ['TRUE', true],
  ])('flags - an environment variable of %j means %j (G8: 0 must not open a node)', (text, flag) => {
    expect(parseFlag('SKEIN_OPEN', text)).toBe(flag)
  })

  test('flags - a word that is neither yes nor no is refused', () => {
    expect(() => parseFlag('SKEIN_OPEN', 'maybe')).toThrow('SKEIN_OPEN=maybe')
  })
})
