// What the kernel offers on one file, asked once. A missing capability is named before the ioctl is
// tried: the kernel's EINVAL or ENOTTY would not tell.

import { capabilityMissing, type KvmErrorDetails } from '../errors.js'
import { capabilityText } from './capability-number.js'

/** The capabilities of `/dev/kvm` or of a VM. */
export class FileCapabilities {
  readonly #check: (capability: number) => number
  // Only what is there: a capability may appear (an irqchip is created) but does not go away.
  readonly #present = new Set<number>()

  constructor(check: (capability: number) => number) {
    this.#check = check
  }

  /** Throws `ERR_KVM_CAP_MISSING` unless the kernel has the capability. */
  require(capability: number, details?: KvmErrorDetails): void {
    if (this.#present.has(capability)) return
    if (this.#check(capability) === 0) throw capabilityMissing(capabilityText(capability), details)
    this.#present.add(capability)
  }
}
