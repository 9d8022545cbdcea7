// What concerns a vCPU as an object of the kernel: its capabilities, statistics, and the signals of
// its thread.

import {
  KVM_CAP_BINARY_STATS_FD,
  KVM_CAP_ENABLE_CAP,
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
  KVM_ENABLE_CAP,
} from '../../uapi/index.js'
import type {
  CapabilityParameters,
  VcpuCapabilityArguments,
  VcpuCapabilityName,
} from '../capabilities/capability-arguments.js'
import { type CapabilityEncoder, vcpuCapabilities } from '../capabilities/capability-encoders.js'
import { type CapabilityName, capabilityNumber } from '../capabilities/capability-number.js'
import {
  capabilityDetails,
  type EnableCap,
  encodeCapability,
  encodeRawCapability,
} from '../capabilities/enable-cap.js'
import { check } from '../errors.js'
import { StatsFd } from '../stats-fd.js'
import { uint64 } from '../uint64.js'
import { invalidArgType, object, uint32 } from '../validate.js'
import { type VcpuMmuSummary, vcpuMmuSummary } from './mmu-summary.js'
import { VcpuMemory } from './vcpu-memory.js'

/** Control of a vCPU. */
export abstract class VcpuControl extends VcpuMemory {
  /**
   * Turns a capability on for this vCPU: by name with its arguments named, or by number with the four
   * words the kernel takes, for capabilities newer than this library.
   *
   * @returns What the ioctl returned; of KVM_CAP_HYPERV_ENLIGHTENED_VMCS, the versions: the lowest in
   *   bits 0 to 7, the highest in bits 8 to 15.
   * @ioctl KVM_ENABLE_CAP (KVM API 4.37)
   * @capability KVM_CAP_ENABLE_CAP
   * @throws KvmError `ERR_KVM_CAP_MISSING` for a named capability that the kernel lacks; else the
   *   kernel's own.
   */
  enableCap<Name extends VcpuCapabilityName>(
    capability: Name,
    ...args: CapabilityParameters<VcpuCapabilityArguments[Name]>
  ): number
  enableCap(capability: number, options?: EnableCap): number
  enableCap(capability: string | number, args: object = {}): number {
    if (typeof capability === 'string') return this.#enableNamed(capability, args)
    this.capabilities.require(KVM_CAP_ENABLE_CAP)
    return this.send(
      KVM_ENABLE_CAP,
      'KVM_ENABLE_CAP',
      (draft) => encodeRawCapability(draft, capability, args),
      capabilityDetails(uint32(capability, 'capability')),
    )
  }

  #enableNamed(name: string, args: object): number {
    const number = capabilityNumber(name as CapabilityName)
    const encoder = encoderOf(name)
    const values = encoder.encode(object(args, 'args'))
    this.capabilities.require(KVM_CAP_ENABLE_CAP)
    this.capabilities.require(number)
    const details = capabilityDetails(number, encoder)
    if (number === KVM_CAP_HYPERV_ENLIGHTENED_VMCS) {
      return check(this.native.vcpuEnlightenedVmcs(this.vcpuHandle), 'KVM_ENABLE_CAP', details)
    }
    return this.send(
      KVM_ENABLE_CAP,
      'KVM_ENABLE_CAP',
      (draft) => encodeCapability(draft, number, values),
      details,
    )
  }

  /**
   * The vCPU's statistics: exits by kind, halts, interrupts. Close what you get; it keeps the
   * kernel's VM alive.
   *
   * @ioctl KVM_GET_STATS_FD (KVM API 4.133)
   * @capability KVM_CAP_BINARY_STATS_FD
   */
  getStatsFd(): StatsFd {
    this.capabilities.require(KVM_CAP_BINARY_STATS_FD)
    return StatsFd.of(this.native, this.handle)
  }

  /**
   * What KVM's MMU did for this vCPU up to now: page faults, TLB flushes.
   *
   * @ioctl KVM_GET_STATS_FD (KVM API 4.133)
   * @capability KVM_CAP_BINARY_STATS_FD
   */
  mmu(): VcpuMmuSummary {
    using stats = this.getStatsFd()
    return vcpuMmuSummary(stats)
  }

  /**
   * Which signals are blocked while the guest runs, in place of the thread's own mask; null lifts it.
   * A signal that the thread blocks and this mask does not ends a run as `'intr'`, and stays pending.
   * What {@link kick} needs is never blocked. {@link RunOptions} and `kick` do the same more simply.
   *
   * @param blocked Signal n is bit n - 1.
   * @ioctl KVM_SET_SIGNAL_MASK (KVM API 4.21)
   */
  setSignalMask(blocked: bigint | null): void {
    const result =
      blocked === null
        ? this.native.vcpuSignalMask(this.vcpuHandle)
        : this.native.vcpuSignalMask(this.vcpuHandle, ...halves(uint64(blocked, 'blocked')))
    check(result, 'KVM_SET_SIGNAL_MASK', { vcpuId: this.id })
  }
}

function encoderOf(name: string): CapabilityEncoder<unknown> {
  const encoders = vcpuCapabilities as Readonly<Record<string, CapabilityEncoder<never>>>
  const encoder = Object.hasOwn(encoders, name) ? encoders[name] : undefined
  if (encoder !== undefined) return encoder as CapabilityEncoder<unknown>
  throw invalidArgType('capability', 'one that can be enabled for a vCPU', name)
}

function halves(value: bigint): [low: number, high: number] {
  return [Number(BigInt.asUintN(32, value)), Number(value >> 32n)]
}
