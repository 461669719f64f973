import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SkeinError } from '../../src/errors.ts'
import {
  filterOf,
  matches,
  topicFrame,
  validateGroup,
  validatePattern,
  validateTopic,
} from '../../src/protocol/topics.ts'

const thrownBy = (act: () => unknown): SkeinError => {
  try {
    act()
  } catch (error) {
    if (error instanceof SkeinError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

const level = fc.constantFrom('a', 'b', 'ab', 'ü')
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('.'))
const pattern = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('*')), { maxLength: 4 }), fc.boolean())
  .map(([levels, tail]) => [...levels, ...(tail || levels.length === 0 ? ['>'] : [])].join('.'))

test.each([
  'a',
  'a.b.c',
  'sensors.küche.temp',
  '_x-1:/',
  'a'.repeat(255),
  'ü'.repeat(127),
  Array(16).fill('a').join('.'),
])('topics - %s is a topic and a pattern', (text) => {
  expect(validateTopic(text)).toBe(text)
  expect(validatePattern(text)).toBe(text)
})

test.each<[unknown, string]>([
  [undefined, 'string'],
  [null, 'string'],
  [7, 'string'],
  ['', 'at least one level'],
  ['.', 'empty level'],
  ['a..b', 'empty level'],
  ['.a', 'empty level'],
  ['a.', 'empty level'],
  ['a b', '" "'],
  ['a\nb', '"\\n"'],
  ['a\0', '"\\u0000"'],
  ['a\u00a0', 'position 1'],
  ['\ufeffa', 'position 0'],
  ['\u0085', 'position 0'],
  ['\ud800', 'surrogate'],
  ['a'.repeat(256), '255 bytes'],
  ['ü'.repeat(128), '255 bytes'],
  [Array(17).fill('a').join('.'), '17 levels'],
])('topics - %j is neither a topic nor a pattern, and the sentence says why', (text, reason) => {
  for (const [validate, code] of [
    [validateTopic, 'TOPIC_INVALID'],
    [validatePattern, 'PATTERN_INVALID'],
  ] as const) {
    const error = thrownBy(() => validate(text))
    expect(error.code).toBe(code)
    expect(error.message).toContain(reason)
    expect(error.message.length).toBeLessThan(350)
  }
})

test.each(['*', '>', 'a.*', '*.a', 'a.*.b', 'a.>', '*.>', '*.*'])(
  'topics - %s is a pattern but not a topic',
  (text) => {
    expect(validatePattern(text)).toBe(text)
    expect(thrownBy(() => validateTopic(text)).code).toBe('TOPIC_INVALID')
  },
)

test.each(['a*', '*a.b', 'a.**', '>a', 'a.>.b', '>.>', '>.a', 'a.b>', '*>'])(
  'topics - %s is not a pattern',
  (text) => {
    expect(thrownBy(() => validatePattern(text)).code).toBe('PATTERN_INVALID')
    expect(thrownBy(() => validateTopic(text)).code).toBe('TOPIC_INVALID')
  },
)

test.each<[string, string, boolean]>([
  ['a.b', 'a.b', true],
  ['a.b', 'a.b.c', false],
  ['a.b.c', 'a.b', false],
  ['*', 'a', true],
  ['*', 'a.b', false],
  ['a.*.c', 'a.b.c', true],
  ['a.*.c', 'a.b.d', false],
  ['a.*', 'a', false],
  ['>', 'a.b.c', true],
  ['a.>', 'a.b', true],
  ['a.>', 'a.b.c', true],
  ['a.>', 'a', false],
  ['a.>', 'ab.c', false],
  ['*.b.>', 'a.b.c.d', true],
])('topics - whether %s matches %s: %s', (wanted, given, expected) => {
  expect(matches(wanted, given)).toBe(expected)
})

test.each([
  ['a.b', 'a.b\0'],
  ['a.*.b', 'a.'],
  ['a.b.>', 'a.b.'],
  ['>', ''],
  ['*.b', ''],
])('topics - the filter of %s is %j', (wanted, filter) => {
  expect(filterOf(wanted)).toEqual(Buffer.from(filter))
})

test('topics - the frame of every topic that a pattern matches passes its filter', () => {
  fc.assert(
    fc.property(pattern, topic, (wanted, given) => {
      const frame = topicFrame(given)
      const filter = filterOf(wanted)
      const passes = frame.subarray(0, filter.length).equals(filter)
      if (matches(wanted, given)) expect(passes).toBe(true)
      if (!/[*>]/.test(wanted)) expect(passes).toBe(wanted === given)
    }),
    { numRuns: 2000 },
  )
})

test('topics - a group whose name is not valid is called a group', () => {
  expect(validateGroup('billing.eu')).toBe('billing.eu')
  expect(thrownBy(() => validateGroup('a b'))).toMatchObject({
    code: 'TOPIC_INVALID',
    message: expect.stringMatching(/^the group "a b" is not valid: .*write it like "billing"/),
  })
})
