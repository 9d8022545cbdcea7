// The state of nested virtualization: what KVM keeps of the guest that this guest runs.

import {
  decodeKvmNestedState,
  encodeKvmNestedState,
  KVM_CAP_NESTED_STATE,
  KVM_GET_NESTED_STATE,
  KVM_SET_NESTED_STATE,
  type KvmNestedState,
  StructView,
} from '../../uapi/index.js'
import { kvmError } from '../errors.js'
import { bytes, object, outOfRange } from '../validate.js'
import { VcpuDebug } from './vcpu-debug.js'
import { offered } from './vcpu-file.js'

const E2BIG = -7
/** Bytes of struct kvm_nested_state before its data. */
const HEADER = 128
/** Where its `size` is, in 32-bit words. */
const SIZE_WORD = 1

/** Nested state: the header, and the data behind it (a VMCS12 and its shadow, or a VMCB12). */
export interface NestedState extends Omit<KvmNestedState, 'size'> {
  data: Uint8Array
}

/** Nested virtualization of a vCPU. */
export abstract class VcpuNested extends VcpuDebug {
  /**
   * What KVM keeps for a guest that is itself a hypervisor.
   *
   * @ioctl KVM_GET_NESTED_STATE (KVM API 4.114)
   * @capability KVM_CAP_NESTED_STATE
   */
  getNestedState(): NestedState {
    this.capabilities.require(KVM_CAP_NESTED_STATE)
    for (let size = offered(this, KVM_CAP_NESTED_STATE); ; ) {
      const view = new StructView(Math.max(size, HEADER))
      view.u32[SIZE_WORD] = view.byteLength
      const result = this.ioctl(KVM_GET_NESTED_STATE, view.buffer as ArrayBuffer)
      const actual = view.u32[SIZE_WORD]!
      if (result >= 0) return nestedState(view, actual)
      // KERNEL: E2BIG stores the size that is needed.
      if (result !== E2BIG || actual <= view.byteLength) {
        throw kvmError(result, { ioctl: 'KVM_GET_NESTED_STATE', vcpuId: this.id })
      }
      size = actual
    }
  }

  /**
   * Sets it. After CPUID, MSRs and special registers, before the first run.
   *
   * @ioctl KVM_SET_NESTED_STATE (KVM API 4.115)
   * @capability KVM_CAP_NESTED_STATE
   * @throws KvmError `EINVAL` for what does not fit the vCPU's other state.
   */
  setNestedState(state: NestedState): void {
    const data = bytes(object(state, 'state').data, 'state.data')
    this.capabilities.require(KVM_CAP_NESTED_STATE)
    const max = Math.max(offered(this, KVM_CAP_NESTED_STATE), HEADER) - HEADER
    if (data.length > max) {
      throw outOfRange('state.data.length', `<= ${max}`, data.length)
    }
    const view = new StructView(HEADER + data.length)
    encodeKvmNestedState(view, 0, { ...state, size: HEADER + data.length })
    view.u8.set(data, HEADER)
    this.request(KVM_SET_NESTED_STATE, 'KVM_SET_NESTED_STATE', view.buffer as ArrayBuffer)
  }
}

function nestedState(view: StructView, size: number): NestedState {
  const { flags, format, hdr } = decodeKvmNestedState(view, 0)
  return { flags, format, hdr, data: view.u8.slice(HEADER, size) }
}
