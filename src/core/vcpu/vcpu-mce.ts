// Machine checks: what the guest's MCG_CAP says, and injecting one.

import {
  encodeKvmX86Mce,
  KVM_CAP_MCE,
  KVM_X86_SET_MCE,
  KVM_X86_SETUP_MCE,
  type KvmX86Mce,
} from '../../uapi/index.js'
import { uint64 } from '../uint64.js'
import { object } from '../validate.js'
import { VcpuMsrs } from './vcpu-msrs.js'

/** Machine checks of a vCPU. */
export abstract class VcpuMce extends VcpuMsrs {
  /**
   * Sets IA32_MCG_CAP: 1 to 32 banks in bits 0 to 7, features above, as far as
   * {@link Kvm.x86GetMceCapSupported} has them. Resets the control MSRs of all banks.
   *
   * @ioctl KVM_X86_SETUP_MCE (KVM API 4.105)
   * @capability KVM_CAP_MCE
   * @throws KvmError `EINVAL` for no bank, too many, or a feature that KVM lacks.
   */
  x86SetupMce(mcgCap: bigint): void {
    const value = uint64(mcgCap, 'mcgCap')
    this.capabilities.require(KVM_CAP_MCE)
    this.native.view.u64[0] = value
    this.request(KVM_X86_SETUP_MCE, 'KVM_X86_SETUP_MCE')
  }

  /**
   * Reports a machine check in one bank; an uncorrected one raises #MC, or shuts the guest down when
   * it cannot take it.
   *
   * @ioctl KVM_X86_SET_MCE (KVM API 4.106)
   * @capability KVM_CAP_MCE
   * @throws KvmError `EINVAL` for a bank that the guest does not have, or a status without VAL.
   */
  x86SetMce(mce: KvmX86Mce): void {
    object(mce, 'mce')
    this.capabilities.require(KVM_CAP_MCE)
    this.send(KVM_X86_SET_MCE, 'KVM_X86_SET_MCE', (draft) => encodeKvmX86Mce(draft, 0, mce))
  }
}
