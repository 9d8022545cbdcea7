// Processor, modules, engine and features as they follow from a host's files.
import { describe, expect, it } from 'vitest'
import { readHostCpu } from '../../src/core/host/host-cpu.js'
import { findHostEngine } from '../../src/core/host/host-engine.js'
import { findHostFeatures } from '../../src/core/host/host-features.js'
import { hostFiles } from '../../src/core/host/host-files.js'
import { readHostModules } from '../../src/core/host/host-modules.js'
import { cpuinfo, type HostTreeFiles, hostTree, moduleFiles } from '../helpers/host-tree.js'

const AMD = { vendor: 'AuthenticAMD' }

function look(files: HostTreeFiles, { release = '6.12.0', preFault = 0, nestedState = 0 } = {}) {
  using tree = hostTree(files)
  const host = hostFiles(tree.root)
  const cpu = readHostCpu(host)
  const modules = readHostModules(host)
  const engine = findHostEngine(modules, cpu)
  const values: Record<string, number> = {
    KVM_CAP_PRE_FAULT_MEMORY: preFault,
    KVM_CAP_NESTED_STATE: nestedState,
  }
  const capability = (name: string) => values[name] ?? 0
  return {
    cpu,
    modules,
    engine,
    features: findHostFeatures({ engine, modules, release, capability }),
  }
}

describe('a host with kvm_intel', () => {
  const files = {
    '/proc/cpuinfo': cpuinfo('vmx ept vpid tpr_shadow', {
      vmxFlags: 'vnmi ept_5level pml',
      count: 3,
    }),
    ...moduleFiles('kvm', { tdp_mmu: 'Y', halt_poll_ns: '200000' }),
    ...moduleFiles('kvm_intel', {
      ept: 'Y',
      vpid: '1',
      unrestricted_guest: 'N',
      enable_apicv: '0',
      nested: 'Y',
      eptad: 'Y',
      pml: 'N',
    }),
    ...moduleFiles('kvmgt'),
  }

  it('uses VMX', () => {
    const { engine, cpu, modules } = look(files)
    expect(engine).toEqual({
      kind: 'hardware',
      technology: 'VMX',
      module: 'kvm_intel',
      evidence: ['/sys/module/kvm_intel (loaded module)', 'vmx in /proc/cpuinfo'],
    })
    expect(cpu).toEqual({
      vendor: 'GenuineIntel',
      name: 'A Processor: The Second @ 2.00GHz',
      family: 6,
      model: 143,
      stepping: 8,
      microcode: '0x2b000590',
      online: 3,
      addressBits: { physical: 46, linear: 57 },
      virtualization: 'VMX',
      virtualizationFlags: ['ept', 'ept_5level', 'pml', 'tpr_shadow', 'vnmi', 'vpid'],
      isVirtualMachine: false,
    })
    expect(modules.map(({ name }) => name)).toEqual(['kvm', 'kvm_intel'])
    expect(modules[0]?.parameters).toEqual({ tdp_mmu: 'Y', halt_poll_ns: '200000' })
  })

  it('has the features that its parameters say', () => {
    const { features } = look(files)
    expect(features.nestedPaging).toEqual({
      name: 'EPT',
      enabled: true,
      source: 'kvm_intel parameter ept: Y',
    })
    expect(features).toMatchObject({
      tlbTags: { name: 'VPID', enabled: true },
      unrestrictedGuest: { enabled: false },
      apicVirtualization: { name: 'APICv', enabled: false },
      nested: { enabled: true },
      tdpMmu: { enabled: true, source: 'kvm parameter tdp_mmu: Y' },
      nestedAccessedDirty: { enabled: true },
      pageModificationLog: { enabled: false },
      virtualNmi: { enabled: null, source: 'kvm_intel parameter vnmi: absent' },
    })
  })
})

describe('a host with kvm_amd', () => {
  const files = (parameters: Record<string, string>) => ({
    '/proc/cpuinfo': cpuinfo('svm npt avic hypervisor', AMD),
    ...moduleFiles('kvm', { tdp_mmu: 'N' }),
    ...moduleFiles('kvm_amd', parameters),
  })

  it('uses SVM, with the features that its parameters say', () => {
    const { engine, cpu, features } = look(files({ npt: 'Y', nested: '1', avic: 'N', sev: 'N' }))
    expect(engine).toMatchObject({ kind: 'hardware', technology: 'SVM', module: 'kvm_amd' })
    expect(cpu).toMatchObject({ virtualization: 'SVM', isVirtualMachine: true })
    expect(cpu.virtualizationFlags).toEqual(['avic', 'npt'])
    expect(features).toMatchObject({
      nestedPaging: { name: 'NPT', enabled: true },
      tlbTags: { name: 'ASID', enabled: true },
      apicVirtualization: { name: 'AVIC', enabled: false },
      nested: { enabled: true },
      tdpMmu: { enabled: false },
      nestedAccessedDirty: { enabled: true },
      confidentialGuests: { name: 'SEV', enabled: false },
    })
  })

  it('has SEV when one of its forms is on, and an automatic choice is not told', () => {
    const { features } = look(files({ sev: 'N', sev_es: 'N', sev_snp: 'Y', avic: '-1' }))
    expect(features.confidentialGuests.enabled).toBe(true)
    expect(features.apicVirtualization.enabled).toBeNull()
    expect(look(files({})).features.confidentialGuests.enabled).toBeNull()
  })
})

describe('a host with another engine', () => {
  const files = {
    '/proc/cpuinfo': cpuinfo('hypervisor', AMD),
    ...moduleFiles('kvm', { tdp_mmu: 'N' }, { builtIn: true }),
    ...moduleFiles('kvm_pvm', { force: 'N' }, { builtIn: true }),
  }

  it('is a software one, even where the processor has an extension', () => {
    expect(look(files).engine).toEqual({
      kind: 'software',
      technology: null,
      module: 'kvm_pvm',
      evidence: [
        '/sys/module/kvm_pvm (built into the kernel)',
        'neither vmx nor svm in /proc/cpuinfo',
      ],
    })
    const withVmx = { ...files, '/proc/cpuinfo': cpuinfo('vmx') }
    expect(look(withVmx).engine).toMatchObject({ kind: 'software', module: 'kvm_pvm' })
  })

  it('learns of two-dimensional paging by a capability, where the kernel knows it', () => {
    const paging = (options: Parameters<typeof look>[1]) =>
      look(files, options).features.nestedPaging.enabled
    expect(paging({ release: '6.18.1-x', preFault: 0 })).toBe(false)
    expect(paging({ release: '6.11.0', preFault: 0 })).toBe(false)
    expect(paging({ release: '6.10.14', preFault: 0 })).toBeNull()
    expect(paging({ release: '5.14.0', preFault: 0 })).toBeNull()
    expect(paging({ release: '5.14.0-with-backports', preFault: 1 })).toBe(true)
    expect(paging({ release: '7.0-rc1' })).toBe(false)
    expect(look(files, { nestedState: 4224 }).features.nested.enabled).toBe(true)
  })
})

describe('a host that shows little', () => {
  it('with both modules built in uses the one of its processor', () => {
    const both = {
      ...moduleFiles('kvm_amd', {}, { builtIn: true }),
      ...moduleFiles('kvm_intel', { ept: 'Y' }, { builtIn: true }),
    }
    const intel = look({ '/proc/cpuinfo': cpuinfo('vmx'), ...both })
    expect(intel.engine).toMatchObject({ kind: 'hardware', module: 'kvm_intel' })
    const amd = look({ '/proc/cpuinfo': cpuinfo('svm', AMD), ...both })
    expect(amd.engine).toMatchObject({ kind: 'hardware', module: 'kvm_amd' })
    expect(look({ '/proc/cpuinfo': cpuinfo(''), ...both }).engine.kind).toBe('unknown')
  })

  it('without sysfs goes by the processor, or by the VMX capability MSRs', () => {
    const { engine, features } = look({ '/proc/cpuinfo': cpuinfo('svm', AMD) })
    expect(engine).toMatchObject({ kind: 'hardware', technology: 'SVM', module: null })
    expect(features.nestedPaging).toEqual({
      name: 'NPT',
      enabled: null,
      source: 'module not visible',
    })
    const hidden = look({})
    expect(hidden.engine).toMatchObject({ kind: 'unknown', technology: null, module: null })
    expect(hidden.cpu).toMatchObject({ online: 0, vendor: '', family: null, addressBits: null })
    expect(findHostEngine([], hidden.cpu, true)).toMatchObject({
      kind: 'hardware',
      technology: 'VMX',
    })
  })
})
