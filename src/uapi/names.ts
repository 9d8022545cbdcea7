// From the kernel's numbers back to its names, for messages and reports.

import { capabilityNumbers, exitNumbers } from './generated/constants.js'
import { requests } from './generated/requests.js'

function byNumber(entries: readonly (readonly [string, number])[]): Map<number, string> {
  return new Map(entries.map(([name, number]) => [number, name]))
}

// Made when they are first used, which is when something goes wrong.
let capabilityNames: ReadonlyMap<number, string> | undefined
let exitNames: ReadonlyMap<number, string> | undefined
let requestNames: ReadonlyMap<number, string> | undefined

/**
 * Name of an ioctl request, e.g. `KVM_GET_REGS` for 0x8090ae81.
 * @param request The request number, unsigned.
 * @returns The name in linux/kvm.h, or undefined for a request that x86-64 does not have.
 */
export function requestName(request: number): string | undefined {
  requestNames ??= byNumber(Object.values(requests).map(({ name, request }) => [name, request]))
  return requestNames.get(request)
}

/**
 * Name of a capability, e.g. `KVM_CAP_XSAVE2` for 208.
 * @param capability The number that KVM_CHECK_EXTENSION takes.
 * @returns The name in linux/kvm.h, or undefined for one newer than these headers.
 */
export function capabilityName(capability: number): string | undefined {
  capabilityNames ??= byNumber(Object.entries(capabilityNumbers))
  return capabilityNames.get(capability)
}

/**
 * Name of an exit reason, e.g. `KVM_EXIT_MMIO` for 6.
 * @param reason Value of kvm_run.exit_reason.
 * @returns The name in linux/kvm.h, or undefined for one newer than these headers.
 */
export function exitName(reason: number): string | undefined {
  exitNames ??= byNumber(Object.entries(exitNumbers))
  return exitNames.get(reason)
}
