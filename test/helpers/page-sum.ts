// A guest that reads one word of each page of a range and says the sum: whoever runs it sees which
// pages it was given.

import { type Exit, type GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'
import { enterLongMode } from './guest.js'

const PAGE = 0x1000
const RESULT = 0x3ff0_0000

/** Code, stack and page tables are below; what is summed may begin here. */
export const DATA = 0x10_0000

const imm32 = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)]

const code = (start: number, pages: number) => [
  ...[0x31, 0xc0], // xor eax, eax
  ...[0xbe, ...imm32(start)], // mov esi, start
  ...[0xb9, ...imm32(pages)], // mov ecx, pages
  ...[0x48, 0x03, 0x06], // next: add rax, [rsi]
  ...[0x48, 0x81, 0xc6, ...imm32(PAGE)], // add rsi, 4096
  ...[0xff, 0xc9], // dec ecx
  ...[0x75, 0xf2], // jnz next
  ...[0x48, 0x89, 0x04, 0x25, ...imm32(RESULT)], // mov [RESULT], rax
  ...[0xeb, 0xfe], // jmp $
]

export interface PageSum extends Disposable {
  readonly vm: Vm
  readonly vcpu: Vcpu
  /** Runs it on a thread of its own. */
  run(): Promise<bigint>
  /** Runs it on this thread. */
  runHere(): bigint
}

/** The guest's own pages, below {@link DATA}, must not be missing yet. */
export function createPageSum(
  memory: GuestMemory,
  pages: number,
  ring: 0 | 3 = 0,
  vm: Vm = Kvm.open().createVm(),
): PageSum {
  vm.mapMemory(memory)
  const vcpu = vm.createVcpu(0)
  memory.write(0x8000, Uint8Array.from(code(DATA, pages)))
  enterLongMode(vcpu, memory, ring)
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x8000n, rsp: 0x8000n, rflags: 2n })
  const sumOf = (exit: Exit) => {
    if (exit.type !== 'mmio') throw new Error(`the guest ended with ${exit.type}`)
    return exit.value64
  }
  return {
    vm,
    vcpu,
    runHere: () => sumOf(vcpu.run()),
    run: async () => {
      let sum: bigint | undefined
      vcpu.start((exit) => {
        sum = sumOf(exit)
        vcpu.requestStop()
      })
      await vcpu.join()
      if (sum === undefined) throw new Error('the guest was stopped')
      return sum
    },
    [Symbol.dispose]() {
      for (const part of [vcpu, vm, vm.kvm]) part.close()
    },
  }
}
