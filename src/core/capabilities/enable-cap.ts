// KVM_ENABLE_CAP, for VMs and vCPUs: the struct, and the words for what it refuses.

import { encodeKvmEnableCap, type StructView } from '../../uapi/index.js'
import type { KvmErrorDetails } from '../errors.js'
import { invalidArgType, list, object, uint32 } from '../validate.js'
import type { CapabilityEncoder } from './capability-encoders.js'
import { capabilityText } from './capability-number.js'

/** The arguments of a capability given by number, see {@link Vm.enableCap}. */
export interface EnableCap {
  /** None is defined; must be 0. */
  flags?: number
  /** Up to four; what they mean is the capability's affair. */
  args?: readonly bigint[]
}

/** Puts the struct for a capability given by number at the start of `draft`. */
export function encodeRawCapability(draft: StructView, capability: number, options: EnableCap) {
  const { flags = 0, args = [] } = object(options, 'options')
  const given = list(args, 'options.args')
  if (given.length > 4) throw invalidArgType('options.args', 'a list of up to 4 bigints', args)
  encodeCapability(draft, uint32(capability, 'capability'), given, flags)
}

/** Puts the struct at the start of `draft`. */
export function encodeCapability(
  draft: StructView,
  capability: number,
  args: readonly bigint[],
  flags = 0,
): void {
  encodeKvmEnableCap(draft, 0, {
    cap: capability,
    flags,
    args: [...args, 0n, 0n, 0n, 0n].slice(0, 4),
  })
}

/** What to say when the kernel refuses it; `offered` is what KVM_CHECK_EXTENSION answered. */
export function capabilityDetails<T>(
  capability: number,
  encoder?: CapabilityEncoder<T>,
  offered = 0,
): KvmErrorDetails {
  const reasons = { ...encoder?.reasons }
  if (encoder?.mask) {
    const bits = `this kernel takes the bits 0x${offered.toString(16)}`
    reasons.EINVAL = reasons.EINVAL === undefined ? bits : `${bits}; ${reasons.EINVAL}`
  }
  return { capability: capabilityText(capability), reasons }
}
