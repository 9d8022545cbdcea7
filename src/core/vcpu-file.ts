// The bottom of the chain of classes that make up a Vcpu, one topic a file: what they all know.

import type { Binding, VcpuHandle } from '../binding.js'
import { CapabilityCheck } from './capability-check.js'
import { KvmFile } from './file.js'
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
  protected readonly capabilities: CapabilityCheck

  /** @internal */
  protected constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    super(native, handle)
    this.vm = vm
    this.id = id
    this.vcpuHandle = handle
    this.capabilities = new CapabilityCheck(vm, this)
  }
}
