// What is pending for a vCPU: exceptions, interrupts, NMI, SMI, SIPI; and whether it runs at all.

import {
  decodeKvmVcpuEvents,
  encodeKvmVcpuEvents,
  KVM_CAP_MP_STATE,
  KVM_CAP_USER_NMI,
  KVM_CAP_VCPU_EVENTS,
  KVM_CAP_X86_SMM,
  KVM_GET_MP_STATE,
  KVM_GET_VCPU_EVENTS,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_MP_STATE,
  KVM_SET_VCPU_EVENTS,
  KVM_SMI,
  type KvmVcpuEvents,
} from '../../uapi/index.js'
import { integer, object, uint32 } from '../validate.js'
import { VcpuMce } from './vcpu-mce.js'

/** Events of a vCPU. */
export abstract class VcpuEvents extends VcpuMce {
  /**
   * Exceptions, interrupts, NMIs and SMIs that are pending or being delivered.
   *
   * @ioctl KVM_GET_VCPU_EVENTS (KVM API 4.31)
   * @capability KVM_CAP_VCPU_EVENTS
   */
  getVcpuEvents(): KvmVcpuEvents {
    this.capabilities.require(KVM_CAP_VCPU_EVENTS)
    this.request(KVM_GET_VCPU_EVENTS, 'KVM_GET_VCPU_EVENTS')
    return decodeKvmVcpuEvents(this.native.view, 0)
  }
  /**
   * Sets them. `flags` (`KVM_VCPUEVENT_VALID_*`) says which of the later parts count; those of the
   * exception payload and of the triple fault need KVM_CAP_EXCEPTION_PAYLOAD and
   * KVM_CAP_X86_TRIPLE_FAULT_EVENT enabled on the VM.
   *
   * @ioctl KVM_SET_VCPU_EVENTS (KVM API 4.32)
   * @capability KVM_CAP_VCPU_EVENTS
   */
  setVcpuEvents(events: KvmVcpuEvents): void {
    object(events, 'events')
    this.capabilities.require(KVM_CAP_VCPU_EVENTS)
    this.send(KVM_SET_VCPU_EVENTS, 'KVM_SET_VCPU_EVENTS', (draft) =>
      encodeKvmVcpuEvents(draft, 0, events),
    )
  }

  /**
   * `KVM_MP_STATE_*`: 0 runnable, 1 uninitialized (waits for INIT), 2 init received, 3 halted. It
   * first lets the vCPU accept an INIT or SIPI that waits.
   *
   * @ioctl KVM_GET_MP_STATE (KVM API 4.38)
   * @capability KVM_CAP_MP_STATE
   */
  getMpState(): number {
    this.capabilities.require(KVM_CAP_MP_STATE)
    this.request(KVM_GET_MP_STATE, 'KVM_GET_MP_STATE')
    return this.native.view.u32[0]!
  }
  /**
   * Sets it; anything but runnable needs an in-kernel LAPIC.
   *
   * @ioctl KVM_SET_MP_STATE (KVM API 4.39)
   * @capability KVM_CAP_MP_STATE
   */
  setMpState(state: number): void {
    const value = uint32(state, 'state')
    this.capabilities.require(KVM_CAP_MP_STATE)
    this.native.view.u32[0] = value
    this.request(KVM_SET_MP_STATE, 'KVM_SET_MP_STATE')
  }

  /**
   * Queues an external interrupt, where the interrupt controllers are not in the kernel (or, with a
   * split irqchip, as ExtINT). It replaces one that is queued: look at
   * {@link RunState.readyForInterruptInjection} before.
   *
   * @ioctl KVM_INTERRUPT (KVM API 4.16)
   * @throws KvmError `ENXIO` with an in-kernel PIC; `EEXIST`, with a split irqchip, when one is queued.
   */
  interrupt(vector: number): void {
    this.native.view.u32[0] = integer(vector, 'vector', 0, 255)
    this.request(KVM_INTERRUPT, 'KVM_INTERRUPT')
  }

  /**
   * Queues a non-maskable interrupt.
   *
   * @ioctl KVM_NMI (KVM API 4.64)
   * @capability KVM_CAP_USER_NMI
   */
  nmi(): void {
    this.capabilities.require(KVM_CAP_USER_NMI)
    this.request(KVM_NMI, 'KVM_NMI')
  }

  /**
   * Queues a system-management interrupt.
   *
   * @ioctl KVM_SMI (KVM API 4.96)
   * @capability KVM_CAP_X86_SMM
   */
  smi(): void {
    this.capabilities.require(KVM_CAP_X86_SMM)
    this.request(KVM_SMI, 'KVM_SMI')
  }
}
