// What concerns a vCPU as an object of the kernel: its capabilities and the signals of its thread.

import { KVM_CAP_ENABLE_CAP, KVM_CAP_HYPERV_ENLIGHTENED_VMCS } from '../uapi/index.js'
import { check } from './errors.js'
import { uint64 } from './uint64.js'
import { VcpuMemory } from './vcpu-memory.js'

/** Control of a vCPU. */
export abstract class VcpuControl extends VcpuMemory {
  /**
   * Which signals are blocked while the guest runs, in place of the thread's own mask; null lifts it.
   * A signal that the thread blocks and this mask does not ends a run as `'intr'`, and stays pending.
   * What {@link kick} needs is never blocked. {@link RunOptions} and `kick` do the same more simply.
   *
   * @param blocked signal n is bit n - 1
   * @ioctl KVM_SET_SIGNAL_MASK (KVM API 4.21)
   */
  setSignalMask(blocked: bigint | null): void {
    const result =
      blocked === null
        ? this.native.vcpuSignalMask(this.vcpuHandle)
        : this.native.vcpuSignalMask(this.vcpuHandle, ...halves(uint64(blocked, 'blocked')))
    check(result, 'KVM_SET_SIGNAL_MASK', { vcpuId: this.id })
  }

  /**
   * Lets a Hyper-V guest use the enlightened VMCS. {@link enableCap} cannot: the kernel answers
   * through an address.
   *
   * @returns The versions: the lowest in bits 0 to 7, the highest in bits 8 to 15.
   * @capability KVM_CAP_HYPERV_ENLIGHTENED_VMCS (KVM API 6, Intel hosts)
   */
  enableHypervEnlightenedVmcs(): number {
    this.capabilities.require(KVM_CAP_ENABLE_CAP)
    this.capabilities.require(KVM_CAP_HYPERV_ENLIGHTENED_VMCS)
    const version = this.native.vcpuEnlightenedVmcs(this.vcpuHandle)
    return check(version, 'KVM_ENABLE_CAP', { vcpuId: this.id })
  }
}

function halves(value: bigint): [low: number, high: number] {
  return [Number(BigInt.asUintN(32, value)), Number(value >> 32n)]
}
