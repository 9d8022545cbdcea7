// An exception or interrupt, read from the frame that the processor has pushed.

import type { GuestMemory } from '../core/memory.js'
import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { Vcpu } from '../core/vcpu.js'
import { exceptionByVector } from '../x86/exceptions.js'
import { walkPageTables } from '../x86/page-walk.js'
import { vectorAt } from './descriptors.js'
import type { Mode } from './modes.js'
import type { Raised } from './outcome.js'
import { pagingRegisters } from './paging-registers.js'

/** Of the entry point where the vCPU stands. */
export function readRaised(
  vcpu: Vcpu,
  registers: SyncRegs,
  memory: GuestMemory,
  mode: Mode,
): Raised {
  const { rip, rsp } = registers
  const sregs = registers.getSregs()
  const vector = vectorAt(rip)!
  const { long, protected: isProtected } = mode
  const size = long ? 8 : isProtected ? 4 : 2
  const exception = exceptionByVector(vector)
  const hasError = isProtected && exception?.hasErrorCode === true
  const stack = isProtected ? rsp : sregs.ss.base + (rsp & 0xffffn)
  const paging = pagingRegisters(vcpu, sregs)
  const word = (i: number): bigint => {
    const walk = walkPageTables(memory, paging, stack + BigInt(i * size), { ac: true })
    // The processor has just written there, unless the guest has changed its tables meanwhile.
    if (walk.fault || walk.gpa + size > memory.size) return 0n
    const bytes = memory.read(walk.gpa, size)
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
  }
  const frame = hasError ? 1 : 0
  const cs = Number(word(frame + 1))
  // Without a change of ring, only long mode pushes the stack pointer.
  const pushed = long || (isProtected && (cs & 3) !== 0)
  return {
    vector,
    name: exception?.mnemonic ?? `INT 0x${vector.toString(16)}`,
    errorCode: hasError ? Number(word(0)) : undefined,
    rip: word(frame),
    cs,
    rflags: word(frame + 2),
    rsp: pushed ? word(frame + 3) : rsp + BigInt((frame + 3) * size),
    cr2: vector === 14 ? sregs.cr2 : undefined,
  }
}
