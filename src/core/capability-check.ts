// A capability that is missing is named before the ioctl is tried: the kernel's EINVAL or ENOTTY
// would not tell.

import { capabilityName } from '../uapi/index.js'
import { capabilityMissing, closedError } from './errors.js'

/** What answers KVM_CHECK_EXTENSION. */
interface CapabilitySource {
  readonly closed: boolean
  checkExtension(capability: number): number
}

/** What a VM's kernel offers to one of its vCPUs. */
export class CapabilityCheck {
  readonly #vm: CapabilitySource & { readonly kvm: CapabilitySource }
  readonly #owner: { readonly closed: boolean; readonly id: number }
  // Only what is there: a capability may appear (an irqchip is created) but does not go away.
  readonly #present = new Map<number, number>()

  constructor(
    vm: CapabilitySource & { readonly kvm: CapabilitySource },
    owner: { readonly closed: boolean; readonly id: number },
  ) {
    this.#vm = vm
    this.#owner = owner
  }

  /**
   * Throws `ERR_KVM_CAP_MISSING` unless the kernel has the capability.
   *
   * @returns What KVM_CHECK_EXTENSION says; 1 when nobody is left to ask, and the kernel must say it.
   */
  require(capability: number): number {
    return this.#present.get(capability) ?? this.#ask(capability)
  }

  /** Like {@link require}, but 0 for a missing one. */
  value(capability: number): number {
    const known = this.#present.get(capability)
    if (known !== undefined) return known
    // A vCPU outlives the files of its VM and of /dev/kvm.
    const source = this.#vm.closed ? this.#vm.kvm : this.#vm
    if (source.closed) return 1
    const value = source.checkExtension(capability)
    if (value > 0) this.#present.set(capability, value)
    return value
  }

  #ask(capability: number): number {
    if (this.#owner.closed) throw closedError({ vcpuId: this.#owner.id })
    const value = this.value(capability)
    if (value > 0) return value
    const name = capabilityName(capability) ?? `capability ${capability}`
    throw capabilityMissing(name, { vcpuId: this.#owner.id })
  }
}
