// kvm_regs decoded more cheaply than by the generated codec: few registers differ from one reading to
// the next, and a bigint that is right already need not be made again. The loop, besides, is short
// code, and a kernel that has just run leaves little of a program's in the caches.

import type { KvmRegs, StructView } from '../../uapi/index.js'

const COUNT = 18
/** What was read last, by whichever vCPU of this thread, and its bits. */
const values: bigint[] = new Array(COUNT).fill(0n)
const bits = new BigUint64Array(COUNT)

/** The `kvm_regs` at the start of `view`. */
export function decodeRegs({ u64 }: StructView): KvmRegs {
  for (let i = 0; i < COUNT; i++) {
    if (u64[i] === bits[i]) continue
    values[i] = u64[i]!
    bits[i] = u64[i]!
  }
  return {
    rax: values[0]!,
    rbx: values[1]!,
    rcx: values[2]!,
    rdx: values[3]!,
    rsi: values[4]!,
    rdi: values[5]!,
    rsp: values[6]!,
    rbp: values[7]!,
    r8: values[8]!,
    r9: values[9]!,
    r10: values[10]!,
    r11: values[11]!,
    r12: values[12]!,
    r13: values[13]!,
    r14: values[14]!,
    r15: values[15]!,
    rip: values[16]!,
    rflags: values[17]!,
  }
}
