// Events without exits: eventfds that raise interrupts, eventfds that a guest's writes raise, and
// writes that are kept in a ring.

import {
  encodeKvmCoalescedMmioZone,
  encodeKvmHypervEventfd,
  encodeKvmIoeventfd,
  encodeKvmIrqfd,
  KVM_CAP_COALESCED_MMIO,
  KVM_CAP_COALESCED_PIO,
  KVM_CAP_HYPERV_EVENTFD,
  KVM_CAP_IOEVENTFD,
  KVM_CAP_IRQFD,
  KVM_CAP_IRQFD_RESAMPLE,
  KVM_HYPERV_EVENTFD,
  KVM_HYPERV_EVENTFD_DEASSIGN,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_REGISTER_COALESCED_MMIO,
  KVM_UNREGISTER_COALESCED_MMIO,
} from '../../uapi/index.js'
import type { EventFd } from '../interrupts/event-fd.js'
import { PlainFile } from '../plain-file.js'
import { integer, invalidArgType, object, outOfRange, uint32 } from '../validate.js'
import { VmRouting } from './vm-routing.js'

const IRQFD_SIZE = 32
const IOEVENTFD_SIZE = 64
const HYPERV_EVENTFD_SIZE = 24

/** What {@link Vm.irqfd} takes. */
export interface Irqfd {
  /** Each signal of it raises the interrupt. */
  eventFd: EventFd
  gsi: number
  /** For a level-triggered interrupt: is signaled when the guest acknowledged it. */
  resample?: EventFd
  /** Ends it instead; with the same `eventFd` and `gsi`. */
  deassign?: boolean
}

/** What {@link Vm.ioeventfd} takes. */
export interface Ioeventfd {
  /** Is signaled by each write. */
  eventFd: EventFd
  /** Guest-physical address, or port. */
  address: number
  /** Bytes of the write: 1, 2, 4, 8, or 0 for any. */
  length: number
  /** Whether `address` is a port. Default false. */
  pio?: boolean
  /** Only writes of this value. */
  datamatch?: bigint
  /** Ends it instead; everything else must be as it was. */
  deassign?: boolean
}

/** What {@link Vm.hypervEventfd} takes. */
export interface HypervEventfd {
  /** Connection id, at most 0xffffff. */
  connId: number
  /** Is signaled by the guest's HvSignalEvent; none: ends it. */
  eventFd?: EventFd
}

/** What {@link Vm.registerCoalescedMmio} takes. */
export interface CoalescedZone {
  /** Guest-physical address, or port. */
  address: number
  /** Bytes. */
  size: number
  /** Whether `address` is a port. Default false. */
  pio?: boolean
}

/** Events of a VM. */
export abstract class VmEvents extends VmRouting {
  /**
   * Makes signals of an eventfd raise an interrupt, without an exit and without a thread of ours.
   *
   * @ioctl KVM_IRQFD (KVM API 4.75)
   * @capability KVM_CAP_IRQFD
   * @throws KvmError `EBUSY` when the eventfd raises one already, `EINVAL` without interrupt
   *   controllers in the kernel or (`resample`) with split ones.
   */
  irqfd(options: Irqfd): void {
    const { eventFd, gsi, resample, deassign = false } = object(options, 'options')
    uint32(gsi, 'options.gsi')
    const fd = PlainFile.handleOf(eventFd, 'options.eventFd')
    const ack = resample === undefined ? null : PlainFile.handleOf(resample, 'options.resample')
    this.capabilities.require(ack === null ? KVM_CAP_IRQFD : KVM_CAP_IRQFD_RESAMPLE)
    const flags =
      (deassign ? KVM_IRQFD_FLAG_DEASSIGN : 0) | (ack === null ? 0 : KVM_IRQFD_FLAG_RESAMPLE)
    this.sendPointers(
      KVM_IRQFD,
      'KVM_IRQFD',
      IRQFD_SIZE,
      (draft) => encodeKvmIrqfd(draft, 0, { fd: 0, gsi, flags, resamplefd: 0 }),
      [fd, ack],
      {
        reasons: {
          EBUSY: 'the eventfd raises an interrupt already',
          EINVAL: 'the VM has no interrupt controllers in the kernel that can do this',
        },
      },
    )
  }

  /**
   * Makes the guest's writes to an address or port signal an eventfd, instead of exits.
   *
   * @ioctl KVM_IOEVENTFD (KVM API 4.59)
   * @capability KVM_CAP_IOEVENTFD
   * @throws KvmError `EEXIST` when there is one for the same writes, `ENOENT` when there is none to
   *   end, `ENOSPC` beyond the kernel's limit (1000 on a bus).
   */
  ioeventfd(options: Ioeventfd): void {
    const { eventFd, address, length, pio, datamatch, deassign } = object(options, 'options')
    integer(address, 'options.address')
    if (![0, 1, 2, 4, 8].includes(length)) {
      throw outOfRange('options.length', 'one of 0, 1, 2, 4, 8', length)
    }
    if (datamatch !== undefined && typeof datamatch !== 'bigint') {
      throw invalidArgType('options.datamatch', 'of type bigint', datamatch)
    }
    const fd = PlainFile.handleOf(eventFd, 'options.eventFd')
    this.capabilities.require(KVM_CAP_IOEVENTFD)
    const flags =
      (datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
      (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
      (deassign ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0)
    this.sendPointers(
      KVM_IOEVENTFD,
      'KVM_IOEVENTFD',
      IOEVENTFD_SIZE,
      (draft) =>
        encodeKvmIoeventfd(draft, 0, {
          datamatch: datamatch ?? 0n,
          addr: address,
          len: length,
          fd: 0,
          flags,
        }),
      [fd],
      {
        gpa: address,
        reasons: {
          EEXIST: 'there is one for the same writes',
          ENOENT: 'there is none for these writes',
          EINVAL: 'a length of 0 goes without datamatch, and no write may wrap around',
        },
      },
    )
  }

  /**
   * Makes the guest's HvSignalEvent hypercalls on a connection signal an eventfd.
   *
   * @ioctl KVM_HYPERV_EVENTFD (KVM API 4.113)
   * @capability KVM_CAP_HYPERV_EVENTFD
   * @throws KvmError `EEXIST` when the connection has one, `ENOENT` when it has none to end.
   */
  hypervEventfd(options: HypervEventfd): void {
    const { connId, eventFd } = object(options, 'options')
    integer(connId, 'options.connId', 0, 0xff_ffff)
    const fd = eventFd === undefined ? null : PlainFile.handleOf(eventFd, 'options.eventFd')
    this.capabilities.require(KVM_CAP_HYPERV_EVENTFD)
    const flags = fd === null ? KVM_HYPERV_EVENTFD_DEASSIGN : 0
    this.sendPointers(
      KVM_HYPERV_EVENTFD,
      'KVM_HYPERV_EVENTFD',
      HYPERV_EVENTFD_SIZE,
      (draft) => encodeKvmHypervEventfd(draft, 0, { conn_id: connId, fd: 0, flags }),
      [fd],
    )
  }

  /**
   * Keeps the guest's writes to a range in a ring, see {@link CoalescedRing}, instead of exiting at
   * each; they are handed over at the next exit that happens anyway.
   *
   * @ioctl KVM_REGISTER_COALESCED_MMIO (KVM API 4.116)
   * @capability KVM_CAP_COALESCED_MMIO
   * @throws KvmError `ENOSPC` when there are too many ranges.
   */
  registerCoalescedMmio(zone: CoalescedZone): void {
    this.#coalesced(KVM_REGISTER_COALESCED_MMIO, 'KVM_REGISTER_COALESCED_MMIO', zone)
  }

  /**
   * Ends it for every range that lies in `zone`. What is in the ring stays there.
   *
   * @ioctl KVM_UNREGISTER_COALESCED_MMIO (KVM API 4.116)
   * @capability KVM_CAP_COALESCED_MMIO
   */
  unregisterCoalescedMmio(zone: CoalescedZone): void {
    this.#coalesced(KVM_UNREGISTER_COALESCED_MMIO, 'KVM_UNREGISTER_COALESCED_MMIO', zone)
  }

  #coalesced(request: number, name: string, zone: CoalescedZone): void {
    const { address, size, pio = false } = object(zone, 'zone')
    integer(address, 'zone.address')
    uint32(size, 'zone.size')
    this.capabilities.require(pio ? KVM_CAP_COALESCED_PIO : KVM_CAP_COALESCED_MMIO)
    this.send(
      request,
      name,
      (draft) => encodeKvmCoalescedMmioZone(draft, 0, { addr: address, size, pio: pio ? 1 : 0 }),
      { gpa: address, size },
    )
  }
}
