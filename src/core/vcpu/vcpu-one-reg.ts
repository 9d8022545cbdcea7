// Registers named by a 64-bit id, one at a time: on x86 any MSR, and what has no other way.

import { KVM_CAP_ONE_REG, KVM_GET_REG_LIST } from '../../uapi/index.js'
import { kvmError } from '../errors.js'
import { uint64 } from '../uint64.js'
import { VcpuExtendedState } from './vcpu-extended-state.js'

const E2BIG = -7
/** x86 names one register at present; a list that outgrows this asks again with the right size. */
const FIRST_GUESS = 64

/** Single registers of a vCPU. */
export abstract class VcpuOneReg extends VcpuExtendedState {
  /**
   * Reads one register. The id of an MSR is {@link msrRegId}, that of the guest's shadow-stack
   * pointer {@link GUEST_SSP_REG_ID}.
   *
   * @ioctl KVM_GET_ONE_REG (KVM API 4.69)
   * @capability KVM_CAP_ONE_REG (on x86 since Linux 6.18)
   * @throws KvmError `EINVAL` for an id that KVM or this guest does not have.
   */
  getOneReg(id: bigint): bigint {
    return this.#oneReg(0, 'KVM_GET_ONE_REG', uint64(id, 'id'), 0n)
  }
  /**
   * Writes one.
   *
   * @ioctl KVM_SET_ONE_REG (KVM API 4.68)
   * @capability KVM_CAP_ONE_REG
   */
  setOneReg(id: bigint, value: bigint): void {
    this.#oneReg(1, 'KVM_SET_ONE_REG', uint64(id, 'id'), uint64(value, 'value'))
  }

  #oneReg(set: 0 | 1, name: string, id: bigint, value: bigint): bigint {
    this.capabilities.require(KVM_CAP_ONE_REG)
    const register = BigUint64Array.of(id, value)
    const result = this.native.vcpuOneReg(this.vcpuHandle, set, register)
    if (result < 0) {
      throw kvmError(result, {
        ioctl: name,
        vcpuId: this.id,
        reason: `register 0x${id.toString(16)}`,
      })
    }
    return register[1]!
  }

  /**
   * The ids of the registers that only {@link getOneReg} can reach; MSRs are not listed.
   *
   * @ioctl KVM_GET_REG_LIST (KVM API 4.84)
   * @capability KVM_CAP_ONE_REG
   */
  getRegList(): bigint[] {
    this.capabilities.require(KVM_CAP_ONE_REG)
    for (let room = FIRST_GUESS; ; ) {
      const ids = new BigUint64Array(1 + room)
      ids[0] = BigInt(room)
      const result = this.ioctl(KVM_GET_REG_LIST, ids.buffer)
      const count = Number(ids[0])
      if (result >= 0) return Array.from(ids.subarray(1, 1 + count))
      // KERNEL: E2BIG leaves the needed count in n; one that is no larger would loop for ever.
      if (result !== E2BIG || count <= room) {
        throw kvmError(result, { ioctl: 'KVM_GET_REG_LIST', vcpuId: this.id })
      }
      room = count
    }
  }
}
