// x87, SSE, AVX and every later register set: the legacy FPU layout and the XSAVE area.

import type { Binding, VcpuHandle } from '../../binding.js'
import {
  decodeKvmFpu,
  decodeKvmXcrs,
  encodeKvmFpu,
  encodeKvmXcrs,
  KVM_CAP_XCRS,
  KVM_CAP_XSAVE,
  KVM_CAP_XSAVE2,
  KVM_GET_FPU,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_GET_XSAVE2,
  KVM_SET_FPU,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  type KvmFpu,
  type KvmXcr,
} from '../../uapi/index.js'
import { bytes, list, object, outOfRange } from '../validate.js'
import type { Vm } from '../vm.js'
import { VcpuRegisters } from './vcpu-registers.js'

/** What KVM_GET_XSAVE has always copied; KVM_CAP_XSAVE2 can only say more. */
const XSAVE_SIZE = 4096
/** Room in struct kvm_xcrs. */
const MAX_XCRS = 16

/** Extended state of a vCPU. */
export abstract class VcpuExtendedState extends VcpuRegisters {
  /**
   * Bytes of the XSAVE area of this VM's vCPUs, as {@link getXsave2} gives it: what KVM_CAP_XSAVE2
   * says, at least 4096.
   */
  readonly xsaveSize: number

  /** @internal */
  protected constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    super(native, handle, vm, id)
    this.xsaveSize = Math.max(vm.checkExtension(KVM_CAP_XSAVE2), XSAVE_SIZE)
  }

  /**
   * x87 and SSE state.
   *
   * @ioctl KVM_GET_FPU (KVM API 4.22)
   */
  getFpu(): KvmFpu {
    this.request(KVM_GET_FPU, 'KVM_GET_FPU')
    return decodeKvmFpu(this.native.view, 0)
  }
  /**
   * @ioctl KVM_SET_FPU (KVM API 4.23)
   */
  setFpu(fpu: KvmFpu): void {
    object(fpu, 'fpu')
    this.send(KVM_SET_FPU, 'KVM_SET_FPU', (draft) => encodeKvmFpu(draft, 0, fpu))
  }

  /**
   * The XSAVE area in the layout of CPUID leaf 0xD, 4096 bytes.
   *
   * @ioctl KVM_GET_XSAVE (KVM API 4.42)
   * @capability KVM_CAP_XSAVE
   * @throws KvmError `EINVAL` when the guest's state is larger: use {@link getXsave2}.
   */
  getXsave(): Uint8Array {
    this.capabilities.require(KVM_CAP_XSAVE)
    this.request(KVM_GET_XSAVE, 'KVM_GET_XSAVE')
    return this.native.view.u8.slice(0, XSAVE_SIZE)
  }
  /**
   * The whole XSAVE area, {@link xsaveSize} bytes.
   *
   * @ioctl KVM_GET_XSAVE2 (KVM API 4.134)
   * @capability KVM_CAP_XSAVE2
   */
  getXsave2(): Uint8Array {
    this.capabilities.require(KVM_CAP_XSAVE2)
    const area = new ArrayBuffer(this.xsaveSize)
    this.request(KVM_GET_XSAVE2, 'KVM_GET_XSAVE2', area)
    return new Uint8Array(area)
  }
  /**
   * Sets the extended state from what {@link getXsave} or {@link getXsave2} gave.
   *
   * @param area 4096 to {@link xsaveSize} bytes; the rest counts as zero.
   * @ioctl KVM_SET_XSAVE (KVM API 4.43)
   * @capability KVM_CAP_XSAVE
   * @throws KvmError `EINVAL` for components that the guest may not have, or reserved bits.
   */
  setXsave(area: Uint8Array): void {
    const size = this.xsaveSize
    const given = bytes(area, 'area')
    if (given.length < XSAVE_SIZE || given.length > size) {
      throw outOfRange('area.length', `>= ${XSAVE_SIZE} and <= ${size}`, given.length)
    }
    this.capabilities.require(KVM_CAP_XSAVE)
    // KERNEL: since 5.17 it reads as many bytes as KVM_CAP_XSAVE2 says, whatever the struct's size.
    const whole = new Uint8Array(size)
    whole.set(given)
    this.request(KVM_SET_XSAVE, 'KVM_SET_XSAVE', whole.buffer)
  }

  /**
   * The extended control registers: XCR0.
   *
   * @ioctl KVM_GET_XCRS (KVM API 4.44)
   * @capability KVM_CAP_XCRS
   */
  getXcrs(): KvmXcr[] {
    this.capabilities.require(KVM_CAP_XCRS)
    this.request(KVM_GET_XCRS, 'KVM_GET_XCRS')
    const { nr_xcrs: count, xcrs } = decodeKvmXcrs(this.native.view, 0)
    return xcrs.slice(0, count)
  }
  /**
   * Sets them.
   *
   * @ioctl KVM_SET_XCRS (KVM API 4.45)
   * @capability KVM_CAP_XCRS
   * @throws KvmError `EINVAL` for a value of XCR0 that the guest's CPUID does not allow.
   */
  setXcrs(xcrs: readonly KvmXcr[]): void {
    const given = list(xcrs, 'xcrs')
    if (given.length > MAX_XCRS) throw outOfRange('xcrs.length', `<= ${MAX_XCRS}`, given.length)
    this.capabilities.require(KVM_CAP_XCRS)
    const all = Array.from({ length: MAX_XCRS }, (_, i) => given[i] ?? { xcr: 0, value: 0n })
    this.send(KVM_SET_XCRS, 'KVM_SET_XCRS', (draft) =>
      encodeKvmXcrs(draft, 0, { nr_xcrs: given.length, flags: 0, xcrs: all }),
    )
  }
}
