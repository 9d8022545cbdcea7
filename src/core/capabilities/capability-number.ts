// Capabilities by name or by number.

import { capabilityName, capabilityNumbers, invalidArgValue } from '../../uapi/index.js'
import { invalidArgType, uint32 } from '../validate.js'

/** The kernel's name of a capability, `KVM_CAP_IRQCHIP` and so on. */
export type CapabilityName = `KVM_CAP_${string}`

/**
 * The number of a capability.
 *
 * @throws `ERR_INVALID_ARG_VALUE` for a name that this library's kernel headers do not have.
 */
export function capabilityNumber(capability: CapabilityName | number): number {
  if (typeof capability !== 'string') return uint32(capability, 'capability')
  if (!capability.startsWith('KVM_CAP_')) {
    throw invalidArgType('capability', 'a number or a name that begins with KVM_CAP_', capability)
  }
  const number = Object.hasOwn(capabilityNumbers, capability)
    ? capabilityNumbers[capability]
    : undefined
  if (number === undefined) {
    throw invalidArgValue('capability', `is no capability of KVM (${capability})`)
  }
  return number
}

/** How messages call a capability. */
export function capabilityText(capability: number): string {
  return capabilityName(capability) ?? `capability ${capability}`
}
