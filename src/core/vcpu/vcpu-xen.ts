// Xen's per-vCPU attributes, for guests that were made for Xen HVM.

import {
  decodeKvmXenVcpuAttr,
  encodeKvmXenVcpuAttr,
  invalidArgValue,
  KVM_CAP_XEN_HVM,
  KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA,
  KVM_XEN_VCPU_GET_ATTR,
  type KvmXenVcpuAttr,
} from '../../uapi/index.js'
import { withDraft } from '../draft.js'
import { check, KvmError } from '../errors.js'
import { GuestMemory } from '../memory.js'
import { integer, object } from '../validate.js'
import { VcpuNested } from './vcpu-nested.js'

/** Bytes of Xen's struct vcpu_info on x86-64. */
const VCPU_INFO_SIZE = 64
const ATTR_SIZE = 72

/** Xen state of a vCPU. */
export abstract class VcpuXen extends VcpuNested {
  /**
   * Reads an attribute, `KVM_XEN_VCPU_ATTR_TYPE_*`.
   *
   * @ioctl KVM_XEN_VCPU_GET_ATTR (KVM API 4.130)
   * @capability KVM_CAP_XEN_HVM
   */
  xenVcpuGetAttr(type: number): KvmXenVcpuAttr {
    const number = integer(type, 'type', 0, 0xffff)
    this.capabilities.require(KVM_CAP_XEN_HVM)
    const { view } = this.native
    view.u32.fill(0, 0, ATTR_SIZE / 4)
    view.u16[0] = number
    this.request(KVM_XEN_VCPU_GET_ATTR, 'KVM_XEN_VCPU_GET_ATTR')
    return decodeKvmXenVcpuAttr(view, 0)
  }

  /**
   * Sets one. `u.hva` of KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA cannot be given as a number: for that
   * type, {@link xenVcpuSetInfoMemory}.
   *
   * @ioctl KVM_XEN_VCPU_SET_ATTR (KVM API 4.129)
   * @capability KVM_CAP_XEN_HVM
   */
  xenVcpuSetAttr(attr: KvmXenVcpuAttr): void {
    if (object(attr, 'attr').type === KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA) {
      throw invalidArgValue('attr.type', 'is a host address: use xenVcpuSetInfoMemory()')
    }
    this.capabilities.require(KVM_CAP_XEN_HVM)
    withDraft((draft) => {
      encodeKvmXenVcpuAttr(draft, 0, attr)
      this.#setAttr(draft.buffer as ArrayBuffer, null, 0)
    })
  }

  /**
   * Puts Xen's vcpu_info at `gpa` of `memory`, which KVM then finds by host address, whatever the
   * memory slots are. The memory stays until the vCPU is closed.
   */
  xenVcpuSetInfoMemory(memory: GuestMemory, gpa: number): void {
    const address = integer(gpa, 'gpa')
    const region = GuestMemory.check(memory, 'memory').regions.find(
      (part) => address >= part.gpa && address + VCPU_INFO_SIZE <= part.gpa + part.size,
    )
    if (region === undefined) {
      const details = { gpa, size: VCPU_INFO_SIZE }
      throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in one region', details)
    }
    this.capabilities.require(KVM_CAP_XEN_HVM)
    const attr = new ArrayBuffer(ATTR_SIZE)
    new Uint16Array(attr)[0] = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA
    this.#setAttr(attr, region.handle, address - region.gpa)
  }

  #setAttr(
    attr: ArrayBuffer,
    region: (typeof GuestMemory.prototype.regions)[number]['handle'] | null,
    offset: number,
  ): void {
    const result = this.native.vcpuXenSetAttr(this.vcpuHandle, region, offset, attr)
    check(result, 'KVM_XEN_VCPU_SET_ATTR', { vcpuId: this.id })
  }
}
