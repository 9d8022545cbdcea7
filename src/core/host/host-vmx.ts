// The VMX capability MSRs in the words that people ask about: which EPT and which VPID there is.

import { decodeVmxCapabilities, type VmxCapabilities } from '../../x86/vmx-capabilities.js'

/**
 * VMX as KVM offers it to guests that are hypervisors; KVM shows its feature MSRs, not those of the
 * processor. The processor's own details are in {@link HostCpu.virtualizationFlags}.
 */
export interface HostVmx {
  /** Lengths of an EPT page walk: 4, 5. */
  eptPageWalkLengths: number[]
  /** Bytes of the pages that EPT can map. */
  eptPageSizes: number[]
  eptAccessedDirty: boolean
  eptExecuteOnly: boolean
  /** Types of INVEPT. */
  inveptTypes: ('single-context' | 'all-contexts')[]
  /** Types of INVVPID. */
  invvpidTypes: (
    | 'individual-address'
    | 'single-context'
    | 'all-contexts'
    | 'single-context-retaining-globals'
  )[]
  unrestrictedGuest: boolean
  /** Every capability MSR, field by field. */
  capabilities: VmxCapabilities
}

/** Decodes the VMX capability MSRs; null when there are none. */
export function decodeHostVmx(msrs: ReadonlyMap<number, bigint>): HostVmx | null {
  const capabilities = decodeVmxCapabilities((msr) => msrs.get(msr))
  if (capabilities.basic === undefined) return null
  const ept = capabilities.eptVpid
  return {
    eptPageWalkLengths: ept
      ? chosen({ 4: ept.pageWalkLength4, 5: ept.pageWalkLength5 }, Number)
      : [],
    eptPageSizes: ept
      ? [4096, ...(ept.pages2M ? [2 ** 21] : []), ...(ept.pages1G ? [2 ** 30] : [])]
      : [],
    eptAccessedDirty: ept?.accessedDirty ?? false,
    eptExecuteOnly: ept?.executeOnly ?? false,
    inveptTypes:
      ept === undefined || !ept.invept
        ? []
        : chosen({
            'single-context': ept.inveptSingleContext,
            'all-contexts': ept.inveptAllContexts,
          }),
    invvpidTypes:
      ept === undefined || !ept.invvpid
        ? []
        : chosen({
            'individual-address': ept.invvpidIndividualAddress,
            'single-context': ept.invvpidSingleContext,
            'all-contexts': ept.invvpidAllContexts,
            'single-context-retaining-globals': ept.invvpidSingleContextRetainingGlobals,
          }),
    unrestrictedGuest: capabilities.secondary?.supported.includes('unrestrictedGuest') ?? false,
    capabilities,
  }
}

function chosen<Key extends string>(choices: Record<Key, boolean>): Key[]
function chosen<Value>(choices: Record<string, boolean>, as: (key: string) => Value): Value[]
function chosen(choices: Record<string, boolean>, as = (key: string): unknown => key): unknown[] {
  return Object.keys(choices)
    .filter((key) => choices[key])
    .map(as)
}
