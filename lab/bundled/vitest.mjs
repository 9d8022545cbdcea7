// @ts-check
// What bundled tests get for `vitest`: its runner and its expect, and nothing of the rest, whose start
// takes longer in an emulator than all the tests.
import {
  chai,
  getState,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect'

export {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  it,
  onTestFinished,
  test,
} from '@vitest/runner'

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin)

/** @type {import('@vitest/expect').ExpectStatic} */
export const expect = Object.assign(
  /** @type {any} */ (
    (/** @type {unknown} */ value, /** @type {string} */ message) => chai.expect(value, message)
  ),
  chai.expect,
  // The plugin leaves `expect.any` and its like there.
  Reflect.get(globalThis, Symbol.for('asymmetric-matchers-object')),
  {
    getState: () => getState(expect),
    setState: (/** @type {Partial<import('@vitest/expect').MatcherState>} */ state) =>
      setState(state, expect),
  },
)
