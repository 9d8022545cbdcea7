// The ids that KVM_GET_ONE_REG and KVM_SET_ONE_REG take on x86 (KVM API 4.68).

import {
  KVM_REG_SIZE_U64,
  KVM_REG_X86,
  KVM_X86_REG_TYPE_KVM,
  KVM_X86_REG_TYPE_MSR,
} from '../../uapi/index.js'
import { uint32 } from '../validate.js'

const TYPE_SHIFT = 32n

function regId(type: number, index: number): bigint {
  return KVM_REG_X86 | KVM_REG_SIZE_U64 | (BigInt(type) << TYPE_SHIFT) | BigInt(index)
}

/** The id of an MSR, for {@link Vcpu.getOneReg}. */
export function msrRegId(msr: number): bigint {
  return regId(KVM_X86_REG_TYPE_MSR, uint32(msr, 'msr'))
}

/** The id of the guest's shadow-stack pointer (SSP), which no MSR holds. */
export const GUEST_SSP_REG_ID: bigint = regId(KVM_X86_REG_TYPE_KVM, 0)
