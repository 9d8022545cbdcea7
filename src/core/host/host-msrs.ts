// The feature MSRs: what KVM would show guests of the processor's capabilities.

import { type BitFields, describeBits } from '../../x86/bitfields.js'
import { MSR } from '../../x86/msr.js'
import { ARCH_CAPABILITIES } from '../../x86/msr-fields.js'
import { msrName } from '../../x86/msr-names.js'
import { VMX_BASIC, VMX_EPT_VPID_CAP, VMX_MISC } from '../../x86/vmx-capabilities.js'

/** One feature MSR. */
export interface HostMsr {
  index: number
  /** The manual's name; null when this library has none. */
  name: string | null
  /** null when KVM lists the register but does not read it. */
  value: bigint | null
  /** The fields that are set, where this library knows them. */
  description: string | null
}

const FIELDS = new Map<number, BitFields>([
  [MSR.IA32_ARCH_CAPABILITIES, ARCH_CAPABILITIES],
  [MSR.IA32_VMX_BASIC, VMX_BASIC],
  [MSR.IA32_VMX_MISC, VMX_MISC],
  [MSR.IA32_VMX_EPT_VPID_CAP, VMX_EPT_VPID_CAP],
])

/** Names and describes the registers of the list. */
export function describeHostMsrs(
  indices: readonly number[],
  values: ReadonlyMap<number, bigint>,
): HostMsr[] {
  return indices.map((index) => {
    const value = values.get(index) ?? null
    const fields = FIELDS.get(index)
    const description = fields && value !== null ? describeBits(fields, value) : null
    return { index, name: msrName(index) ?? null, value, description }
  })
}
