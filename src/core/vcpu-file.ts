// The bottom of the chain of classes that make up a Vcpu, one topic a file: what they all know.

import type { Binding, VcpuHandle } from '../binding.js'
import { closedError } from './errors.js'
import { KvmFile } from './file.js'
import { FileCapabilities } from './file-capabilities.js'
import type { Vm } from './vm.js'

/** A vCPU's file. */
export abstract class VcpuFile extends KvmFile {
  /** The VM it belongs to. */
  readonly vm: Vm
  /** Its number, which is also its initial APIC id. */
  readonly id: number
  /** @internal */
  protected readonly vcpuHandle: VcpuHandle
  /** @internal Names a missing capability before the ioctl is tried. */
  protected readonly capabilities: FileCapabilities

  /** @internal */
  protected constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    super(native, handle)
    this.vm = vm
    this.id = id
    this.vcpuHandle = handle
    this.capabilities = new FileCapabilities((capability) => offered(this, capability))
  }
}

/**
 * What KVM_CHECK_EXTENSION says. A vCPU outlives the files of its VM and of `/dev/kvm`: when nobody
 * is left to ask, it is 1, and the kernel has to refuse by itself.
 */
export function offered(vcpu: VcpuFile, capability: number): number {
  if (vcpu.closed) throw closedError({ vcpuId: vcpu.id })
  const file = vcpu.vm.closed ? vcpu.vm.kvm : vcpu.vm
  return file.closed ? 1 : file.checkExtension(capability)
}
