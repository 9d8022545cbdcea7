// States as text: whatever they hold comes back.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseState, stringifyState } from '../../src/core/state/state-text.js'
import { codeOf } from '../helpers/thrown.js'

const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.uint8Array(),
    fc.integer(),
    fc.string(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value')),
    fc.dictionary(fc.stringMatching(/^[a-z_][a-z0-9_]*$/), tie('value'), { noNullPrototype: true }),
  ),
}))

test('comes back as it was', () => {
  fc.assert(
    fc.property(value, (content) => {
      expect(parseState(stringifyState({ content }))).toEqual({ content })
    }),
  )
})

test('is JSON of the documented form', () => {
  const state = { rip: 0x1fn, bytes: Uint8Array.of(1, 2, 3), count: 5, none: null }
  expect(JSON.parse(stringifyState(state))).toEqual({
    rip: { $bigint: '1f' },
    bytes: { $bytes: 'AQID' },
    count: 5,
    none: null,
  })
})

test('memory that others see does not get into it', () => {
  const pool = new Uint8Array(64).fill(9)
  const { part } = parseState<{ part: Uint8Array }>(stringifyState({ part: pool.subarray(8, 12) }))
  expect(part.buffer.byteLength).toBe(4)
})

test.each([
  ['{"a":{"$bigint":"xyz"}}'],
  ['{"a":{"$bigint":"-1"}}'],
  ['{"a":{"$bigint":5}}'],
  ['{"a":{"$bytes":"***"}}'],
  ['{"a":{"$bytes":7}}'],
])('%s is refused', (text) => {
  expect(codeOf(() => parseState(text))).toBe('ERR_INVALID_ARG_VALUE')
})

test('what is no JSON is refused', () => {
  expect(() => parseState('{')).toThrow(SyntaxError)
})
