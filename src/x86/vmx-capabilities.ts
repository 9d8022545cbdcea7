// The VMX capability MSRs taken apart. KVM gives them as feature MSRs on Intel hosts (and for
// nested guests); they say what the processor, or the virtual processor, can do.

import { type BitFields, choice, type Decoded, decodeBits, field, flag } from './bitfields.js'
import { MSR } from './msr.js'
import {
  VMX_ENTRY_CONTROLS,
  VMX_EXIT_CONTROLS,
  VMX_PIN_CONTROLS,
  VMX_PRIMARY_CONTROLS,
  VMX_SECONDARY_CONTROLS,
  VMX_TERTIARY_CONTROLS,
  VMX_VM_FUNCTIONS,
} from './vmx-controls.js'

/** IA32_VMX_BASIC. Source: SDM vol. 3D appendix A.1. */
export const VMX_BASIC = {
  /** VMCS revision identifier. */
  revision: field(0, 31),
  /** Bytes to allocate for a VMXON region and a VMCS. */
  regionSize: field(32, 13),
  /** VMX structures are limited to 32-bit physical addresses. */
  physicalAddresses32Bit: flag(48),
  /** Dual-monitor treatment of SMM. */
  dualMonitor: flag(49),
  /** Memory type for the VMCS and related structures. */
  memoryType: choice(50, 4, { UC: 0, WB: 6 }),
  /** VM exits by INS and OUTS carry instruction information. */
  insOutsInformation: flag(54),
  /** The TRUE capability registers exist. */
  trueControls: flag(55),
  /** A hardware exception may be delivered with or without error code, whatever its vector. */
  anyErrorCode: flag(56),
  /** VM entry and exit know nested exceptions (FRED). */
  nestedExceptions: flag(58),
} satisfies BitFields

/** IA32_VMX_MISC. Source: SDM vol. 3D appendix A.6. */
export const VMX_MISC = {
  /** The preemption timer counts down when this bit of the TSC changes. */
  preemptionTimerTscBit: field(0, 5),
  /** VM exits store EFER.LMA into the entry controls; 1 with unrestricted guest. */
  storesEferLma: flag(5),
  activityHlt: flag(6),
  activityShutdown: flag(7),
  activityWaitForSipi: flag(8),
  /** Processor Trace works in VMX operation. */
  processorTrace: flag(14),
  /** RDMSR of IA32_SMBASE in SMM. */
  smbaseReadable: flag(15),
  /** Number of CR3-target values. */
  cr3Targets: field(16, 9),
  /** Recommended maximum of MSR lists: 512 times this plus one. */
  msrListUnits: field(25, 3),
  smmMonitorCtlBit2: flag(28),
  /** VMWRITE may write exit-information fields. */
  vmwriteExitInformation: flag(29),
  /** Events may be injected with an instruction length of 0. */
  zeroLengthInjection: flag(30),
  msegRevision: field(32, 32),
} satisfies BitFields

/** IA32_VMX_EPT_VPID_CAP. Source: SDM vol. 3D appendix A.10. */
export const VMX_EPT_VPID_CAP = {
  /** Execute-only translations. */
  executeOnly: flag(0),
  pageWalkLength4: flag(6),
  pageWalkLength5: flag(7),
  /** Paging structures may be uncacheable. */
  memoryTypeUC: flag(8),
  /** Paging structures may be write-back. */
  memoryTypeWB: flag(14),
  pages2M: flag(16),
  pages1G: flag(17),
  invept: flag(20),
  /** Accessed and dirty flags. */
  accessedDirty: flag(21),
  /** Advanced exit information for EPT violations. */
  advancedViolationInformation: flag(22),
  supervisorShadowStack: flag(23),
  inveptSingleContext: flag(25),
  inveptAllContexts: flag(26),
  invvpid: flag(32),
  invvpidIndividualAddress: flag(40),
  invvpidSingleContext: flag(41),
  invvpidAllContexts: flag(42),
  invvpidSingleContextRetainingGlobals: flag(43),
  /** Largest HLAT prefix. */
  hlatPrefixSize: field(48, 6),
} satisfies BitFields

/** Whether a control may be chosen: `flexible`, or fixed to 0 or 1. */
export type VmxControlSetting = 'fixed-0' | 'fixed-1' | 'flexible'

/** A control capability MSR taken apart. Source: SDM vol. 3D appendix A.3 to A.5. */
export interface VmxControls<D extends BitFields> {
  /** Low half: bits that are 1 here must be 1 in the control field. */
  allowed0: number
  /** High half: bits that are 0 here must be 0 in the control field. */
  allowed1: number
  /** Per named control, what a VMM may do with it. */
  settings: { [K in keyof D]: VmxControlSetting }
  /** Names of the controls that may be 1. */
  supported: (keyof D & string)[]
}

/** Splits a capability MSR of a 32-bit control field: pin, primary, secondary, exit or entry. */
export function decodeVmxControls<D extends BitFields>(fields: D, value: bigint): VmxControls<D> {
  const allowed0 = Number(value & 0xffffffffn)
  const allowed1 = Number(value >> 32n)
  const names = Object.keys(fields)
  const setting = (name: string) => settingOf(allowed0, allowed1, fields[name]!.lsb)
  return {
    allowed0,
    allowed1,
    settings: Object.fromEntries(
      names.map((name) => [name, setting(name)]),
    ) as VmxControls<D>['settings'],
    supported: names.filter((name) => setting(name) !== 'fixed-0'),
  }
}

/** What a complete set of VMX capability MSRs says; a part is absent when its MSR was not given. */
export interface VmxCapabilities {
  basic?: Decoded<typeof VMX_BASIC>
  misc?: Decoded<typeof VMX_MISC>
  pin?: VmxControls<typeof VMX_PIN_CONTROLS>
  primary?: VmxControls<typeof VMX_PRIMARY_CONTROLS>
  secondary?: VmxControls<typeof VMX_SECONDARY_CONTROLS>
  /** Controls that may be 1; the register has no allowed-0 half (SDM vol. 3D appendix A.3.4). */
  tertiary?: Decoded<typeof VMX_TERTIARY_CONTROLS>
  exit?: VmxControls<typeof VMX_EXIT_CONTROLS>
  entry?: VmxControls<typeof VMX_ENTRY_CONTROLS>
  eptVpid?: Decoded<typeof VMX_EPT_VPID_CAP>
  vmFunctions?: Decoded<typeof VMX_VM_FUNCTIONS>
  /** CR0 bits that must be 1, and those that may be 1, in VMX operation. */
  cr0?: { fixed0: bigint; fixed1: bigint }
  /** CR4 bits that must be 1, and those that may be 1, in VMX operation. */
  cr4?: { fixed0: bigint; fixed1: bigint }
}

/**
 * Decodes the VMX capability MSRs. Where IA32_VMX_BASIC says so and the register is there, the TRUE
 * variant is taken, since only it tells which of the default-1 controls may be 0.
 *
 * @param read gives the value of an MSR, or `undefined` when it does not exist
 */
export function decodeVmxCapabilities(read: (msr: number) => bigint | undefined): VmxCapabilities {
  const capabilities: VmxCapabilities = {}
  const basic = read(MSR.IA32_VMX_BASIC)
  const trueControls = basic !== undefined && decodeBits(VMX_BASIC, basic).trueControls
  const control = (plain: number, exact: number) =>
    (trueControls ? read(exact) : undefined) ?? read(plain)
  const put = <K extends keyof VmxCapabilities>(
    key: K,
    value: bigint | undefined,
    decode: (value: bigint) => NonNullable<VmxCapabilities[K]>,
  ) => {
    if (value !== undefined) capabilities[key] = decode(value)
  }
  put('basic', basic, (v) => decodeBits(VMX_BASIC, v))
  put('misc', read(MSR.IA32_VMX_MISC), (v) => decodeBits(VMX_MISC, v))
  put('pin', control(MSR.IA32_VMX_PINBASED_CTLS, MSR.IA32_VMX_TRUE_PINBASED_CTLS), (v) =>
    decodeVmxControls(VMX_PIN_CONTROLS, v),
  )
  put('primary', control(MSR.IA32_VMX_PROCBASED_CTLS, MSR.IA32_VMX_TRUE_PROCBASED_CTLS), (v) =>
    decodeVmxControls(VMX_PRIMARY_CONTROLS, v),
  )
  put('secondary', read(MSR.IA32_VMX_PROCBASED_CTLS2), (v) =>
    decodeVmxControls(VMX_SECONDARY_CONTROLS, v),
  )
  put('tertiary', read(MSR.IA32_VMX_PROCBASED_CTLS3), (v) => decodeBits(VMX_TERTIARY_CONTROLS, v))
  put('exit', control(MSR.IA32_VMX_EXIT_CTLS, MSR.IA32_VMX_TRUE_EXIT_CTLS), (v) =>
    decodeVmxControls(VMX_EXIT_CONTROLS, v),
  )
  put('entry', control(MSR.IA32_VMX_ENTRY_CTLS, MSR.IA32_VMX_TRUE_ENTRY_CTLS), (v) =>
    decodeVmxControls(VMX_ENTRY_CONTROLS, v),
  )
  put('eptVpid', read(MSR.IA32_VMX_EPT_VPID_CAP), (v) => decodeBits(VMX_EPT_VPID_CAP, v))
  put('vmFunctions', read(MSR.IA32_VMX_VMFUNC), (v) => decodeBits(VMX_VM_FUNCTIONS, v))
  putFixed(capabilities, 'cr0', read(MSR.IA32_VMX_CR0_FIXED0), read(MSR.IA32_VMX_CR0_FIXED1))
  putFixed(capabilities, 'cr4', read(MSR.IA32_VMX_CR4_FIXED0), read(MSR.IA32_VMX_CR4_FIXED1))
  return capabilities
}

function putFixed(
  capabilities: VmxCapabilities,
  key: 'cr0' | 'cr4',
  fixed0: bigint | undefined,
  fixed1: bigint | undefined,
): void {
  if (fixed0 !== undefined && fixed1 !== undefined) capabilities[key] = { fixed0, fixed1 }
}

function settingOf(allowed0: number, allowed1: number, bit: number): VmxControlSetting {
  if (((allowed1 >>> bit) & 1) === 0) return 'fixed-0'
  return ((allowed0 >>> bit) & 1) === 1 ? 'fixed-1' : 'flexible'
}
