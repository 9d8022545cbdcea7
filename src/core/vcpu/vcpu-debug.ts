// Debugging the guest from outside.

import {
  encodeKvmGuestDebug,
  KVM_CAP_SET_GUEST_DEBUG,
  KVM_SET_GUEST_DEBUG,
  type KvmGuestDebug,
} from '../../uapi/index.js'
import { object } from '../validate.js'
import { type GuestDebugOptions, guestDebug } from './guest-debug.js'
import { VcpuClock } from './vcpu-clock.js'

/** Debugging of a vCPU. */
export abstract class VcpuDebug extends VcpuClock {
  /**
   * Debugs the guest: what happens ends a run as `'debug'`. {@link debugGuest} takes it by name.
   *
   * @ioctl KVM_SET_GUEST_DEBUG (KVM API 4.87)
   * @capability KVM_CAP_SET_GUEST_DEBUG
   * @throws KvmError `EINVAL` for a flag this architecture or KVM lacks, `EBUSY` to inject an
   *   exception while another is pending.
   */
  setGuestDebug(debug: KvmGuestDebug): void {
    object(debug, 'debug')
    this.capabilities.require(KVM_CAP_SET_GUEST_DEBUG)
    this.send(KVM_SET_GUEST_DEBUG, 'KVM_SET_GUEST_DEBUG', (draft) =>
      encodeKvmGuestDebug(draft, 0, debug),
    )
  }

  /**
   * {@link setGuestDebug} with breakpoints and steps by name. Replaces what was set before; without
   * options it ends debugging.
   */
  debugGuest(options: GuestDebugOptions = {}): void {
    this.setGuestDebug(guestDebug(options))
  }
}
