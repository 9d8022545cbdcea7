// The host report for people. What decides comes first: can it be used, on what, how fast, how much;
// the long lists follow.

import type { HostCpuid } from '../core/host/host-cpuid.js'
import type { HostFeature } from '../core/host/host-features.js'
import type { GuestExecution, HostGuestExecution } from '../core/host/host-guest-probe.js'
import type { HostMemory } from '../core/host/host-memory.js'
import type { HostMsr } from '../core/host/host-msrs.js'
import type { AvailableHostReport, HostFacts, HostReport } from '../core/host/host-report.js'
import type { HostVmx } from '../core/host/host-vmx.js'
import { type TextRow, textBytes, textGroup } from './text-layout.js'

/** Formats a report for a terminal of 96 columns; without a final newline. */
export function formatHostReport(report: HostReport): string {
  const groups = report.available
    ? availableGroups(report)
    : [textGroup('KVM cannot be used', [['reason', report.reason]]), hostGroup(report)]
  return [...groups, memoryGroup(report.memory), ...moduleGroups(report)].join('\n\n')
}

function availableGroups(report: AvailableHostReport): string[] {
  return [
    kvmGroup(report),
    hostGroup(report),
    textGroup('Engine features', Object.values(report.features).map(featureRow)),
    limitsGroup(report),
    ...capabilityGroups(report),
    ...cpuidGroups(report),
    msrGroup(report.msrs.features),
    ...(report.vmx === null ? [] : [vmxGroup(report.vmx)]),
  ]
}

function kvmGroup(report: AvailableHostReport): string {
  const { engine, vm } = report
  const name = [engine.kind, engine.technology].filter(Boolean).join(', ')
  return textGroup('KVM', [
    ['API version', String(report.apiVersion)],
    ['engine', engine.module === null ? name : `${name} (${engine.module})`],
    ['found by', engine.evidence.join('; ')],
    ['VM can be created', vm.creatable ? 'yes' : `no: ${vm.reason}`],
    ...executionRows(report.guestExecution),
  ])
}

const MODE_NAMES: Readonly<Record<keyof HostGuestExecution, string>> = {
  realMode: 'real mode',
  protectedMode: 'protected mode, ring 0',
  longModeKernel: 'long mode, ring 0',
  longModeUser: 'long mode, ring 3',
}

const EXECUTION_NAMES: Readonly<Record<NonNullable<GuestExecution>, string>> = {
  processor: 'runs on the processor',
  emulator: "interpreted by KVM's instruction emulator (slow)",
}

function executionRows(execution: HostGuestExecution | null): TextRow[] {
  if (execution === null) return []
  return Object.entries(MODE_NAMES).map(([mode, name]) => {
    const how = execution[mode as keyof HostGuestExecution]
    return [name, how === null ? 'cannot be told' : EXECUTION_NAMES[how]]
  })
}

function hostGroup({ kernel, cpu, device }: HostFacts): string {
  const bits = cpu.addressBits
  const access = device.exists
    ? `${device.path}, ${device.owner ?? device.uid}:${device.group ?? device.gid}, mode ${device.mode}`
    : `${device.path} (does not exist)`
  return textGroup('Host', [
    ['kernel', kernel.release],
    ['processor', `${cpu.name} (${cpu.vendor}), ${cpu.online} online`],
    ['family, model, stepping', `${cpu.family}, ${cpu.model}, ${cpu.stepping}`],
    ['microcode', cpu.microcode ?? '-'],
    ['address bits', bits === null ? '-' : `${bits.physical} physical, ${bits.linear} linear`],
    ['virtualization extension', cpu.virtualization ?? 'none'],
    ['extension details', cpu.virtualizationFlags],
    ['is a virtual machine', yesNo(cpu.isVirtualMachine)],
    ['device', access],
  ])
}

function featureRow({ name, enabled, source }: HostFeature): TextRow {
  return [name, `${yesNo(enabled).padEnd(8)}(${source})`]
}

function limitsGroup({ limits, x2apic, vmTypes, vcpuMmapSize }: AvailableHostReport): string {
  const flags = x2apic.apiFlags.map((flag) => flag.replace(/^KVM_X2APIC_(API_)?/, ''))
  return textGroup('Limits', [
    ['vCPUs', `${limits.maxVcpus} (recommended: ${limits.recommendedVcpus})`],
    ['vCPU ids', String(limits.maxVcpuIds)],
    ['memory slots', `${limits.memslots} in ${limits.addressSpaces} address space(s)`],
    ['interrupt routes', String(limits.irqRoutes)],
    ['dirty ring', limits.dirtyRingBytes === 0 ? 'no' : textBytes(limits.dirtyRingBytes)],
    ['nested state', limits.nestedStateBytes === 0 ? 'no' : textBytes(limits.nestedStateBytes)],
    ['XSAVE area', textBytes(limits.xsaveBytes)],
    ["vCPU's shared mapping", textBytes(vcpuMmapSize)],
    ['x2APIC', yesNo(x2apic.supported)],
    ['x2APIC API', flags],
    ['machine types', vmTypes.map((type) => type.replace('KVM_X86_', ''))],
  ])
}

function capabilityGroups({ capabilities, vmCapabilities }: AvailableHostReport): string[] {
  const entries = Object.entries(capabilities)
  const named = (wanted: number) =>
    entries.filter(([, value]) => value === wanted).map(([name]) => name.replace('KVM_CAP_', ''))
  const other = entries.filter(([, value]) => value > 1)
  const rows = (list: [string, number][]) =>
    list.map(([name, value]): TextRow => [name, `${value} (0x${value.toString(16)})`])
  const groups = [
    textGroup('Capabilities with a value', rows(other)),
    textGroup('Capabilities (KVM_CAP_*)', [
      ['present', named(1)],
      ['absent', named(0)],
    ]),
  ]
  const ofVm = rows(Object.entries(vmCapabilities))
  return ofVm.length === 0 ? groups : [...groups, textGroup('A VM answers otherwise', ofVm)]
}

function cpuidGroups({ cpuid: { supported, emulated } }: AvailableHostReport): string[] {
  const identity = ({ vendor, brand, family, model, stepping }: HostCpuid) =>
    `${brand || vendor}, family ${family}, model ${model}, stepping ${stepping}`
  return [
    textGroup('CPUID for guests', [
      ['identity', identity(supported)],
      ['leaves', String(supported.leaves.length)],
      ['features', supported.features],
      ['emulated', emulated === null ? 'cannot be told' : emulated.features],
    ]),
  ]
}

function msrGroup(msrs: readonly HostMsr[]): string {
  const rows = msrs.map(({ index, name, value, description }): TextRow => {
    const number = value === null ? 'not readable' : `0x${value.toString(16)}`
    const label = name ?? `MSR 0x${index.toString(16)}`
    return [label, description ? `${number} ${description}` : number]
  })
  return textGroup('Feature MSRs', rows)
}

function vmxGroup(vmx: HostVmx): string {
  return textGroup('VMX for guests that are hypervisors', [
    ['EPT page-walk lengths', vmx.eptPageWalkLengths.map(String)],
    ['EPT page sizes', vmx.eptPageSizes.map(textBytes).join(', ') || '-'],
    ['EPT accessed and dirty bits', yesNo(vmx.eptAccessedDirty)],
    ['EPT execute-only pages', yesNo(vmx.eptExecuteOnly)],
    ['INVEPT types', vmx.inveptTypes],
    ['INVVPID types', vmx.invvpidTypes],
    ['unrestricted guest', yesNo(vmx.unrestrictedGuest)],
    ['secondary controls', vmx.capabilities.secondary?.supported ?? []],
  ])
}

function memoryGroup(memory: HostMemory): string {
  const thp = memory.transparentHugePages
  const bytes = (value: number | null) => (value === null ? '-' : textBytes(value))
  const pools = memory.hugePagePools.map((pool): TextRow => {
    const { total, free, reserved, surplus, overcommit } = pool
    const more = `${free} free, ${reserved} reserved, ${surplus} surplus, ${overcommit} overcommit`
    return [`huge pages of ${textBytes(pool.pageSize)}`, `${total} (${more})`]
  })
  return textGroup('Memory', [
    ['RAM', `${bytes(memory.total)} (available: ${bytes(memory.available)})`],
    [
      'transparent huge pages',
      thp === null
        ? 'no'
        : `${thp.enabled ?? '-'}, defrag ${thp.defrag ?? '-'}, shared memory ${thp.shmemEnabled ?? '-'}`,
    ],
    ...pools,
    ['same-page merging (KSM)', ksmText(memory.ksm)],
  ])
}

function ksmText(ksm: HostMemory['ksm']): string {
  if (ksm === null) return 'no'
  const { state, pagesShared, pagesSharing } = ksm
  return `${state ?? 'unknown'}, ${pagesShared ?? '-'} pages for ${pagesSharing ?? '-'} places`
}

function moduleGroups({ modules }: HostFacts): string[] {
  return modules.map(({ name, builtIn, parameters }) => {
    const list = Object.entries(parameters).map(([key, value]) => `${key}=${value ?? '?'}`)
    const kind = builtIn ? 'built in' : 'loaded'
    return textGroup(`Module ${name} (${kind})`, [['parameters', list]])
  })
}

function yesNo(value: boolean | null): string {
  return value === null ? 'unknown' : value ? 'yes' : 'no'
}
