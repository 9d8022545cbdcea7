// Where interrupts go: the routing table, and messages that need none.

import {
  encodeKvmIrqRouting,
  encodeKvmIrqRoutingEntries,
  KVM_CAP_IRQ_ROUTING,
  KVM_CAP_SIGNAL_MSI,
  KVM_SET_GSI_ROUTING,
  KVM_SIGNAL_MSI,
  type KvmIrqRoutingEntry,
  type KvmMsi,
  StructView,
} from '../../uapi/index.js'
import { list, object, outOfRange, uint32 } from '../validate.js'
import { VmPit } from './vm-pit.js'

const HEADER = 8
const ENTRY = 48
const MAX_ROUTES = 4096
const MSI = {
  reasons: { EINVAL: 'the VM has no LAPICs in the kernel, or the message is not one' },
}

/** A message, see {@link Vm.signalMsi}; what is not given is 0. */
export type MsiToSignal = Pick<KvmMsi, 'address_lo' | 'data'> & Partial<KvmMsi>

/** Interrupt routing of a VM. */
export abstract class VmRouting extends VmPit {
  #routes: readonly KvmIrqRoutingEntry[] | undefined

  /** What {@link setGsiRouting} was last given: the kernel does not tell. Undefined before. */
  get gsiRouting(): readonly KvmIrqRoutingEntry[] | undefined {
    return this.#routes
  }

  /**
   * Replaces the table that says which chip's pin, message or event each GSI raises. A GSI may have
   * several entries, one of them a message at most.
   *
   * @param entries At most 4096; `KVM_CAP_IRQ_ROUTING` says how many.
   * @ioctl KVM_SET_GSI_ROUTING (KVM API 4.52)
   * @capability KVM_CAP_IRQ_ROUTING
   * @throws KvmError `EINVAL` without interrupt controllers in the kernel, and for a GSI, pin or
   *   type that the kernel does not have.
   */
  setGsiRouting(entries: readonly KvmIrqRoutingEntry[]): void {
    const routes = list(entries, 'entries')
    if (routes.length > MAX_ROUTES) {
      throw outOfRange('entries.length', `<= ${MAX_ROUTES}`, routes.length)
    }
    this.capabilities.require(KVM_CAP_IRQ_ROUTING)
    // Not the shared drafts: the largest table has 192 KiB.
    const draft = new StructView(HEADER + routes.length * ENTRY)
    encodeKvmIrqRouting(draft, 0, { nr: routes.length, flags: 0 })
    encodeKvmIrqRoutingEntries(draft, 0, routes)
    const buffer = draft.buffer as ArrayBuffer
    this.request(KVM_SET_GSI_ROUTING, 'KVM_SET_GSI_ROUTING', buffer, {
      reasons: {
        EINVAL:
          'the VM has no interrupt controllers in the kernel, or an entry has a GSI, pin, type or ' +
          'flag that it does not take',
      },
    })
    this.#routes = structuredClone(routes)
  }

  /**
   * Delivers a message at once, without a route.
   *
   * @returns Whether it reached a LAPIC: above 0 yes, 0 when the guest blocks it.
   * @ioctl KVM_SIGNAL_MSI (KVM API 4.71)
   * @capability KVM_CAP_SIGNAL_MSI
   * @throws KvmError `EINVAL` without LAPICs in the kernel.
   */
  signalMsi(msi: MsiToSignal): number {
    const { address_lo, address_hi = 0, data, flags = 0, devid = 0 } = object(msi, 'msi')
    uint32(address_lo, 'msi.address_lo')
    uint32(address_hi, 'msi.address_hi')
    uint32(data, 'msi.data')
    uint32(flags, 'msi.flags')
    uint32(devid, 'msi.devid')
    // struct kvm_msi by hand, for speed.
    const { u32 } = this.view
    u32[0] = address_lo
    u32[1] = address_hi
    u32[2] = data
    u32[3] = flags
    u32[4] = devid
    u32[5] = u32[6] = u32[7] = 0
    const result = this.issue(KVM_SIGNAL_MSI)
    if (result < 0) throw this.issueError(result, 'KVM_SIGNAL_MSI', KVM_CAP_SIGNAL_MSI, MSI)
    return result
  }
}
