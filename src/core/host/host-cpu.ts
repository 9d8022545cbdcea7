// The processor as /proc/cpuinfo shows it: which virtualization extension it has, and its details.

import type { HostFiles } from './host-files.js'

/** The host's processor, of `/proc/cpuinfo`. */
export interface HostCpu {
  /** Vendor string, such as `GenuineIntel`. */
  vendor: string
  /** Marketing name. */
  name: string
  family: number | null
  model: number | null
  stepping: number | null
  /** Microcode revision as the kernel prints it. */
  microcode: string | null
  /** Logical processors online. */
  online: number
  /** Widths of addresses. */
  addressBits: { physical: number; linear: number } | null
  /** The hardware virtualization extension that the processor shows. */
  virtualization: 'VMX' | 'SVM' | null
  /** Details of that extension, by the kernel's names (`ept_ad`, `npt`, …). */
  virtualizationFlags: string[]
  /** This host is itself a virtual machine. */
  isVirtualMachine: boolean
}

// Linux has a line of its own for VMX ("vmx flags", since 5.8), and a few older names among the
// general flags; SVM's are all among the general ones. Source: arch/x86/include/asm/cpufeatures.h,
// words 8 and 15, and vmxfeatures.h.
const VMX_FLAGS = new Set('tpr_shadow vnmi flexpriority ept vpid ept_ad'.split(' '))
const SVM_FLAGS = new Set(
  (
    'npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists pausefilter ' +
    'pfthreshold avic v_vmsave_vmload vgif x2avic v_spec_ctrl vnmi svme_addr_chk bus_lock_threshold ' +
    'idle_hlt sev sev_es sev_snp'
  ).split(' '),
)

/** Reads `/proc/cpuinfo`. */
export function readHostCpu(files: HostFiles): HostCpu {
  const processors = (files.read('/proc/cpuinfo') ?? '').split(/\n\n+/).filter(Boolean)
  const fields = parseFields(processors[0] ?? '')
  const flags = words(fields.get('flags'))
  const virtualization = flags.includes('vmx') ? 'VMX' : flags.includes('svm') ? 'SVM' : null
  const sizes = /(\d+) bits physical, (\d+) bits virtual/.exec(fields.get('address sizes') ?? '')
  return {
    vendor: fields.get('vendor_id') ?? '',
    name: fields.get('model name') ?? '',
    family: number(fields.get('cpu family')),
    model: number(fields.get('model')),
    stepping: number(fields.get('stepping')),
    microcode: fields.get('microcode') ?? null,
    online: processors.length,
    addressBits: sizes && { physical: Number(sizes[1]), linear: Number(sizes[2]) },
    virtualization,
    virtualizationFlags: detailsOf(virtualization, flags, words(fields.get('vmx flags'))),
    isVirtualMachine: flags.includes('hypervisor'),
  }
}

function detailsOf(kind: HostCpu['virtualization'], flags: string[], vmxFlags: string[]): string[] {
  if (kind === null) return []
  const known = kind === 'VMX' ? VMX_FLAGS : SVM_FLAGS
  return [...new Set([...flags.filter((flag) => known.has(flag)), ...vmxFlags])].sort()
}

function parseFields(text: string): Map<string, string> {
  const fields = text.matchAll(/^([^:\n]+?)[ \t]*:[ \t]*(.*)$/gm)
  return new Map(Array.from(fields, ([, name, value]) => [name!, value!.trim()]))
}

function words(text: string | undefined): string[] {
  return text ? text.split(/\s+/) : []
}

function number(text: string | undefined): number | null {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null
}
