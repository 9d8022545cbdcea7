// What the KVM under the tests offers: tests choose by these facts, never by the machine's name.

import { Kvm } from '../../src/index.js'
import { capabilityNumbers } from '../../src/uapi/index.js'

const values = new Map<string, number>()

/** What KVM_CHECK_EXTENSION of a plain VM says of a capability, by name. */
export function capability(name: string): number {
  const known = values.get(name)
  if (known !== undefined) return known
  const number = (capabilityNumbers as Record<string, number>)[name]
  if (number === undefined) throw new Error(`no such capability: ${name}`)
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  const value = vm.checkExtension(number)
  values.set(name, value)
  return value
}

/** Whether the capability is there. */
export const has = (name: string): boolean => capability(name) > 0

interface Skippable {
  skip(reason?: string): void
}

/** For a hook or the start of a test: without the capability, the test is skipped for that reason. */
export function needs(name: string): (context: Skippable) => void {
  return (context) => {
    if (!has(name)) context.skip(`this KVM lacks ${name}`)
  }
}

/** The opposite: for tests of what happens without the capability. */
export function needsNo(name: string): (context: Skippable) => void {
  return (context) => {
    if (has(name)) context.skip(`this KVM has ${name}`)
  }
}
