// What the kernel does for guests that expect Xen.

import {
  decodeKvmXenHvmAttr,
  encodeKvmIrqRoutingXenEvtchn,
  encodeKvmXenHvmAttr,
  KVM_CAP_XEN_HVM,
  KVM_XEN_ATTR_TYPE_EVTCHN,
  KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA,
  KVM_XEN_HVM_EVTCHN_SEND,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
  type KvmIrqRoutingXenEvtchn,
  type KvmXenHvmAttr,
} from '../../uapi/index.js'
import { check, KvmError } from '../errors.js'
import type { EventFd } from '../interrupts/event-fd.js'
import { GuestMemory } from '../memory.js'
import { PlainFile } from '../plain-file.js'
import { bytes, object, outOfRange, uint32 } from '../validate.js'
import { VmFilters } from './vm-filters.js'

const ATTR_SIZE = 72
const PAGE = 4096

/** What {@link Vm.xenHvmConfig} takes. */
export interface XenHvmConfig {
  /** `KVM_XEN_HVM_CONFIG_*`, as far as `KVM_CAP_XEN_HVM` has them. */
  flags: number
  /** The MSR by which the guest asks for its hypercall pages; 0 for none. */
  msr: number
  /** Hypercall pages of 32-bit guests, whole pages of 4096 bytes, at most 255. Copied. */
  blob32?: Uint8Array
  /** Hypercall pages of 64-bit guests, likewise. */
  blob64?: Uint8Array
}

/** An event channel port that signals an eventfd, see {@link Vm.xenHvmSetAttr}. */
export interface XenEvtchnEventFd {
  /** The port the guest sends to. */
  sendPort: number
  /** `EVTCHNSTAT_*`: 2 interdomain, 5 ipi. */
  type: number
  /** `KVM_XEN_EVTCHN_*`. Default 0. */
  flags?: number
  eventFd: EventFd
}

/** Where the shared info page is, see {@link Vm.xenHvmSetAttr}. */
export interface XenSharedInfo {
  memory: GuestMemory
  /** Its address in `memory`, a multiple of 4096. */
  address: number
}

/** What {@link Vm.xenHvmSetAttr} takes: the kernel's struct, or what it would hold pointers to. */
export type XenHvmAttrToSet =
  | KvmXenHvmAttr
  | { evtchn: XenEvtchnEventFd }
  | { sharedInfo: XenSharedInfo }

/** Xen's interfaces of a VM. */
export abstract class VmXen extends VmFilters {
  /**
   * Turns Xen's interfaces on, and says where hypercalls go.
   *
   * @ioctl KVM_XEN_HVM_CONFIG (KVM API 4.28)
   * @capability KVM_CAP_XEN_HVM
   * @throws KvmError `EINVAL` for flags the kernel does not take, or blobs beside flags that rule
   *   them out.
   */
  xenHvmConfig(config: XenHvmConfig): void {
    const { flags, msr, blob32, blob64 } = object(config, 'config')
    uint32(flags, 'config.flags')
    uint32(msr, 'config.msr')
    const pages32 = wholePages(blob32, 'config.blob32')
    const pages64 = wholePages(blob64, 'config.blob64')
    this.capabilities.require(KVM_CAP_XEN_HVM)
    const result = this.native.xenHvmConfig(this.handle, flags, msr, pages32, pages64)
    check(result, 'KVM_XEN_HVM_CONFIG', { msr })
  }

  /**
   * Reads an attribute: `KVM_XEN_ATTR_TYPE_*`. An address of this process is never given
   * (`KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA` is refused).
   *
   * @ioctl KVM_XEN_HVM_GET_ATTR (KVM API 4.127)
   * @capability KVM_CAP_XEN_HVM
   */
  xenHvmGetAttr(type: number): KvmXenHvmAttr {
    if (uint32(type, 'type') === KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA) {
      throw outOfRange('type', 'an attribute that is no host address', type)
    }
    this.capabilities.require(KVM_CAP_XEN_HVM)
    const { view } = this.native
    view.u8.fill(0, 0, ATTR_SIZE)
    view.u16[0] = type
    this.request(KVM_XEN_HVM_GET_ATTR, 'KVM_XEN_HVM_GET_ATTR')
    return decodeKvmXenHvmAttr(view, 0)
  }

  /**
   * Sets an attribute.
   *
   * `evtchn` is `KVM_XEN_ATTR_TYPE_EVTCHN` with an eventfd; `sharedInfo` is
   * `KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA`, the RAM being kept for as long as the VM.
   *
   * @ioctl KVM_XEN_HVM_SET_ATTR (KVM API 4.126)
   * @capability KVM_CAP_XEN_HVM
   */
  xenHvmSetAttr(attr: XenHvmAttrToSet): void {
    object(attr, 'attr')
    if ('sharedInfo' in attr) this.#setSharedInfo(attr.sharedInfo)
    else if ('evtchn' in attr) this.#setEvtchn(attr.evtchn)
    else this.#setPlain(attr)
  }

  #setPlain(attr: KvmXenHvmAttr): void {
    if (attr.type === KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA) {
      throw outOfRange(
        'attr.type',
        'an attribute that is no host address: use sharedInfo',
        attr.type,
      )
    }
    this.capabilities.require(KVM_CAP_XEN_HVM)
    this.sendPointers(
      KVM_XEN_HVM_SET_ATTR,
      'KVM_XEN_HVM_SET_ATTR',
      ATTR_SIZE,
      (draft) => encodeKvmXenHvmAttr(draft, 0, attr),
      [null],
    )
  }

  #setEvtchn(evtchn: XenEvtchnEventFd): void {
    const { sendPort, type, flags = 0, eventFd } = object(evtchn, 'attr.evtchn')
    uint32(sendPort, 'attr.evtchn.sendPort')
    const fd = PlainFile.handleOf(eventFd, 'attr.evtchn.eventFd')
    this.capabilities.require(KVM_CAP_XEN_HVM)
    this.sendPointers(
      KVM_XEN_HVM_SET_ATTR,
      'KVM_XEN_HVM_SET_ATTR',
      ATTR_SIZE,
      (draft) =>
        encodeKvmXenHvmAttr(draft, 0, {
          type: KVM_XEN_ATTR_TYPE_EVTCHN,
          u: {
            evtchn: { send_port: sendPort, type, flags, deliver: { eventfd: { port: 0, fd: 0 } } },
          },
        }),
      [fd],
    )
  }

  #setSharedInfo(place: XenSharedInfo): void {
    const { memory, address } = object(place, 'attr.sharedInfo')
    if (uint32(address, 'attr.sharedInfo.address') % PAGE) {
      throw outOfRange('attr.sharedInfo.address', 'a multiple of 4096', address)
    }
    const region = GuestMemory.check(memory, 'attr.sharedInfo.memory').regions.find(
      (part) => address >= part.gpa && address < part.gpa + part.size,
    )
    if (region === undefined) {
      throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in the memory', { gpa: address })
    }
    this.capabilities.require(KVM_CAP_XEN_HVM)
    const result = this.native.setXenSharedInfo(this.handle, region.handle, address - region.gpa)
    check(result, 'KVM_XEN_HVM_SET_ATTR')
  }

  /**
   * Raises an event channel of a vCPU.
   *
   * @ioctl KVM_XEN_HVM_EVTCHN_SEND (KVM API 4.135)
   * @capability KVM_CAP_XEN_HVM
   * @throws KvmError `EINVAL` without a shared info page, or for another `priority` than
   *   `KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL`.
   */
  xenHvmEvtchnSend(channel: KvmIrqRoutingXenEvtchn): void {
    object(channel, 'channel')
    this.capabilities.require(KVM_CAP_XEN_HVM)
    this.send(KVM_XEN_HVM_EVTCHN_SEND, 'KVM_XEN_HVM_EVTCHN_SEND', (draft) =>
      encodeKvmIrqRoutingXenEvtchn(draft, 0, channel),
    )
  }
}

function wholePages(blob: Uint8Array | undefined, name: string): Uint8Array {
  if (blob === undefined) return new Uint8Array()
  const { length } = bytes(blob, name)
  if (length % PAGE || length > 255 * PAGE) {
    throw outOfRange(`${name}.length`, 'a multiple of 4096, at most 255 of them', length)
  }
  return blob
}
