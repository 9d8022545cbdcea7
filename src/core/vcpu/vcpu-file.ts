// The bottom of the chain of classes that make up a Vcpu, one topic a file: what they all know.

import type { Binding, VcpuHandle } from '../../binding.js'
import type { StructView } from '../../uapi/index.js'
import { FileCapabilities } from '../capabilities/file-capabilities.js'
import { check, closedError, type KvmErrorDetails } from '../errors.js'
import { KvmFile } from '../file.js'
import type { Vm } from '../vm.js'

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
  /** @internal The scratch memory. */
  protected readonly view: StructView
  readonly #chosen: Uint32Array
  readonly #slot: number
  readonly #issue: () => number | undefined
  readonly #issueWith: (argument?: number | ArrayBuffer) => number

  /** @internal */
  protected constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    super(native, handle)
    this.vm = vm
    this.id = id
    this.vcpuHandle = handle
    this.view = native.view
    this.#chosen = native.chosen
    this.#slot = handle.slot
    this.#issue = native.issue
    this.#issueWith = native.issueWith
    this.capabilities = new FileCapabilities((capability) => offered(this, capability))
  }

  /** @internal The quicker way for what needs no argument but the scratch memory. */
  protected override request(
    request: number,
    name: string,
    argument?: number | ArrayBuffer,
    details?: KvmErrorDetails,
  ): number {
    if (argument !== undefined) return super.request(request, name, argument, details)
    this.#chosen[0] = this.#slot
    this.#chosen[1] = request
    const result = this.#issue()
    if (result === undefined) return 0
    return result < 0 ? check(result, name, details) : result
  }

  /** @internal */
  protected override ioctl(request: number, argument?: number | ArrayBuffer): number {
    this.#chosen[0] = this.#slot
    this.#chosen[1] = request
    return this.#issueWith(argument)
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
