import { expect, test } from 'vitest'
import { SkeinError } from '../../src/errors.ts'
import { encodeHeaders, type Headers } from '../../src/protocol/record.ts'

test.each([
  ['null', null, /an object of texts/],
  ['a list', ['x'], /an object of texts/],
  ['a text', 'x', /an object of texts/],
  ['half of a surrogate pair in a value', { a: '\ud800' }, /'a' has half of a surrogate pair/],
  ['half of a surrogate pair in a name', { '\udc00': 'a' }, /has half of a surrogate pair/],
])('headers - %s is refused, because it would arrive as something else', (_, headers, sentence) => {
  const encode = (): unknown => encodeHeaders(headers as unknown as Headers)
  expect(encode).toThrow(SkeinError)
  expect(encode).toThrow(sentence)
})
