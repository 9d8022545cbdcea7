// Property tests: one guest, many cases, a reset between any two. NODE_KVM_ROUNDS says how many;
// 100000 take half a minute in each ring.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { asm, guest } from '../../src/testing/index.js'

const ROUNDS = Number(process.env.NODE_KVM_ROUNDS ?? 500)
const word = (value: bigint) => BigInt.asUintN(64, value)
const OPERATIONS = {
  'add rax, rbx': (a: bigint, b: bigint) => word(a + b),
  'sub rax, rbx': (a: bigint, b: bigint) => word(a - b),
  'imul rax, rbx': (a: bigint, b: bigint) => word(a * b),
  'xor rax, rbx': (a: bigint, b: bigint) => a ^ b,
} as const
/** A register that a run does not begin with zero by itself, as the ring may use it: added to RBP. */
const KEPT = {
  0: asm`mov rbp, dr0; add rbp, rax; mov dr0, rbp`,
  3: asm`movq rbp, xmm0; add rbp, rax; movq xmm0, rbp`,
} as const

// What a case before had left behind would be added to the result.
test.for([0, 3] as const)(
  'each case finds a fresh guest, ring %i',
  { timeout: 600_000 },
  async (ring) => {
    using g = await guest({ ring })
    const names = Object.keys(OPERATIONS) as (keyof typeof OPERATIONS)[]
    const code = Object.fromEntries(
      names.map((name) => [
        name,
        asm`${name}; mov rsi, data; add [rsi + rdx * 8], rax; mov rdi, [rsi + rdx * 8]; ${KEPT[ring]}`,
      ]),
    )
    const operand = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
    const place = fc.bigInt({ min: 0n, max: 511n })
    fc.assert(
      fc.property(fc.constantFrom(...names), operand, operand, place, (name, rax, rbx, rdx) => {
        const { kind, regs } = g.run(code[name]!, { regs: { rax, rbx, rdx } })
        const value = OPERATIONS[name](rax, rbx)
        const found = [kind, regs.rax, regs.rdi, regs.rbp]
        if (found.some((each, i) => each !== (i === 0 ? 'done' : value))) {
          expect(found).toEqual(['done', value, value, value])
        }
        g.reset()
      }),
      { numRuns: ROUNDS, endOnFailure: true },
    )
  },
)
