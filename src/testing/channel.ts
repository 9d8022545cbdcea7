// What a guest's code can say to its test: pieces of source that use ports, so that they work in all
// modes and rings and where hypercalls do not.

import { AssertionError } from 'node:assert'
import { asm, newMark, type Source } from './assembler/asm.js'
import type { Bits } from './assembler/opcodes.js'
import type { CallingCpu, SafeCall } from './calling-cpu.js'
import * as layout from './layout.js'

const DONE = asm`out ${layout.PORT_DONE}, al; jmp $ - 2`
const REPORT = asm`out ${layout.PORT_VALUE}, eax`

/** Pieces of source for guests of so many vCPUs whose code is of that size. */
export abstract class Channel {
  readonly #bits: Bits
  readonly #cpus: number

  /** @internal */
  protected constructor(bits: Bits, cpus: number) {
    this.#bits = bits
    this.#cpus = cpus
  }

  /** Source that ends a run, which then is `done`. It stands behind every program by itself. */
  done(): Source {
    return DONE
  }

  /** Source that sends EAX to the test: see {@link Outcome.values}. Changes no register, no flag. */
  report(): Source {
    return REPORT
  }

  /**
   * Source that fails the test unless the condition of a jump holds (`'e'`, `'nc'`, `'a'`, …). The
   * error names the line of the test where `assert` is written. While it holds, the guest does not
   * even exit.
   *
   * ```ts
   * g.run(asm`mov eax, 2; add eax, 2; cmp eax, 4; ${g.assert('e', '2 + 2')}`)
   * ```
   */
  assert(condition: string, message = `the condition "${condition}" does not hold`): Source {
    const error = new AssertionError({ message, stackStartFn: this.assert })
    const fail = () => {
      throw error
    }
    return asm`j${condition} @holds; ${fail}; @holds:`
  }

  /**
   * One instruction that may raise what it likes: `tell` learns of it, and the code goes on behind
   * the instruction, with the registers as they are.
   *
   * ```ts
   * g.run(asm`mov ecx, 0x12345; ${g.safe(asm`rdmsr`, (raised) => expect(raised?.name).toBe('#GP'))}`)
   * ```
   */
  safe(instruction: Source, tell: SafeCall): Source {
    const [mark, next] = [newMark(), newMark()]
    const end = `mark ${next}; ${layout.CALL}`
    const hooks = new Map([
      ...instruction.hooks,
      [mark, { safe: tell, next }],
      [next, { call: (cpu: CallingCpu) => tell(undefined, cpu) }],
    ] as const)
    return { source: `mark ${mark}\n${instruction.source}\n${end}`, hooks }
  }

  /**
   * Tells how many cycles of the TSC a piece of source takes (less than 2^32). It finds the registers
   * as they were, the flags changed, and a word more on the stack.
   */
  timed(source: Source, tell: (cycles: number, cpu: CallingCpu) => void): Source {
    const wide = { 16: 'e', 32: 'e', 64: 'r' }[this.#bits]
    const [ax, dx, sp] = [`${wide}ax`, `${wide}dx`, `${wide}sp`]
    const size = this.#bits === 64 ? 8 : 4
    const told = (cpu: CallingCpu) => tell(Number(cpu.regs.rax & 0xffff_ffffn), cpu)
    return asm`
      push ${ax}; push ${dx}; rdtsc; xchg [${sp} + ${size}], ${ax}; pop ${dx}
      ${source}
      push ${ax}; push ${dx}; rdtsc; sub eax, [${sp} + ${2 * size}]; ${told}
      pop ${dx}; pop ${ax}; lea ${sp}, [${sp} + ${size}]`
  }

  /**
   * Source that waits until every vCPU of the guest has come to a barrier. It changes no register and
   * no flag, and makes no exit. For {@link TestGuest.runAll}.
   */
  barrier(): Source {
    const [arrived, rounds] = [layout.BARRIER, layout.BARRIER + 4]
    const wide = { 16: 'e', 32: 'e', 64: 'r' }[this.#bits]
    const [ax, cx] = [`${wide}ax`, `${wide}cx`]
    // ORDER: the round is read before the vCPU has arrived, since the last to arrive begins another.
    return asm`
      pushf; push ${ax}; push ${cx}
      mov eax, [${rounds}]; mov ecx, 1; lock xadd [${arrived}], ecx
      cmp ecx, ${this.#cpus - 1}; jne @wait
      mov dword [${arrived}], 0; inc dword [${rounds}]; jmp @over
      @wait: pause; cmp eax, [${rounds}]; je @wait
      @over: pop ${cx}; pop ${ax}; popf`
  }
}
