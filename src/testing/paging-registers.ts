// What a walk of a vCPU's page tables needs.

import type { Vcpu } from '../core/vcpu.js'
import { KVM_SREGS2_FLAGS_PDPTRS_VALID, type KvmSregs } from '../uapi/index.js'
import type { PagingRegisters } from '../x86/page-walk.js'
import { pagingMode } from '../x86/paging-mode.js'

/**
 * PAE's directory pointers are registers (SDM vol. 3A §4.4.1): in RAM they may have accessed flags of
 * KVM's or the processor's own by now, which are reserved there.
 */
export function pagingRegisters(vcpu: Vcpu, sregs: KvmSregs): PagingRegisters {
  if (pagingMode(sregs) !== 'pae') return sregs
  const { flags, pdptrs } = vcpu.getSregs2()
  const isValid = (flags & BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID)) !== 0n
  return isValid ? { ...sregs, pdptrs } : sregs
}
