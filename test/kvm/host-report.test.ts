// The host report agrees with what the kernel itself says, by files and by ioctl.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { beforeAll, describe, expect, it } from 'vitest'
import { type AvailableHostReport, hostReport, hostReportToJson, Kvm } from '../../src/index.js'
import { capabilityNumbers } from '../../src/uapi/index.js'
import { withoutApicId } from '../helpers/apic-id.js'

interface ReferenceCapability {
  name: string
  number: number
  x86: boolean
}

const reference = JSON.parse(
  readFileSync(new URL('../../reference/kvm-capabilities.json', import.meta.url), 'utf8'),
) as ReferenceCapability[]

let report: AvailableHostReport
beforeAll(() => {
  const found = hostReport()
  if (!found.available) throw new Error(found.reason)
  report = found
})

describe('facts of the host', () => {
  it('are those of /proc/cpuinfo and the system calls', () => {
    const cpuinfo = readFileSync('/proc/cpuinfo', 'utf8')
    const flags = /^flags\s*: (.*)$/m.exec(cpuinfo)![1]!.split(' ')
    const virtualization = flags.includes('vmx') ? 'VMX' : flags.includes('svm') ? 'SVM' : null
    expect(report.cpu).toMatchObject({
      name: cpus()[0]!.model.trim(),
      online: cpuinfo.match(/^processor\s*:/gm)!.length,
      virtualization,
      isVirtualMachine: flags.includes('hypervisor'),
    })
    expect(report.kernel.release).toBe(release())
    expect(report.memory.total).toBe(totalmem())
  })

  it('are those of every KVM module and its parameters', () => {
    const names = readdirSync('/sys/module').filter((name) => /^kvm(_|$)/.test(name))
    expect(report.modules.map(({ name }) => name)).toEqual(names.sort())
    for (const { name, parameters } of report.modules) {
      const listing = execFileSync('grep', ['-r', '', `/sys/module/${name}/parameters`], {
        encoding: 'utf8',
      })
      const lines = listing.trim().split('\n').sort()
      const ours = Object.entries(parameters).map(
        ([key, value]) => `/sys/module/${name}/parameters/${key}:${value}`,
      )
      expect(ours.sort()).toEqual(lines)
    }
  })

  it('show the device as stat(1) does', () => {
    const { uid, gid, mode } = statSync('/dev/kvm')
    const [owner, group] = execFileSync('stat', ['-c', '%U %G', '/dev/kvm'], { encoding: 'utf8' })
      .trim()
      .split(' ')
    const bits = (mode & 0o7777).toString(8).padStart(4, '0')
    expect(report.device).toEqual({
      ...{ path: '/dev/kvm', exists: true },
      ...{ uid, gid, owner, group, mode: bits },
    })
  })
})

describe('capabilities', () => {
  it('are there for every one of x86, with the value that the ioctl gives', () => {
    using kvm = Kvm.open()
    const wanted = reference.filter(({ x86 }) => x86)
    expect(wanted.length).toBeGreaterThan(100)
    const expected = wanted.map(({ name, number }) => [name, kvm.checkExtension(number)])
    expect(report.capabilities).toMatchObject(Object.fromEntries(expected))
    for (const [name, value] of Object.entries(report.capabilities)) {
      expect([name, kvm.checkExtension(capabilityNumbers[name]!)]).toEqual([name, value])
    }
  })

  it('leave out other architectures', () => {
    const foreign = Object.keys(report.capabilities).filter((n) => /_(S390|PPC|ARM|RISCV)_/.test(n))
    expect(foreign).toEqual([])
  })

  it('name exactly those to which a VM answers otherwise', () => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    const differing = Object.keys(report.capabilities).filter(
      (name) => vm.checkExtension(capabilityNumbers[name]!) !== report.capabilities[name],
    )
    expect(Object.keys(report.vmCapabilities)).toEqual(differing)
  })

  it('give the limits that hold', () => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    expect(report.limits.recommendedVcpus).toBe(report.cpu.online)
    expect(report.vcpuMmapSize).toBe(kvm.getVcpuMmapSize())
    vm.createVcpu(report.limits.maxVcpuIds - 1).close()
    const tooMany = () => vm.createVcpu(report.limits.maxVcpuIds)
    expect(tooMany).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  })
})

describe('CPUID and MSRs', () => {
  it('are the tables that KVM gives', () => {
    using kvm = Kvm.open()
    const entries = kvm.getSupportedCpuid().map((leaf) => withoutApicId(leaf.function, leaf))
    const { leaves, features, vendor } = report.cpuid.supported
    expect(
      leaves.map((entry) => [entry.leaf, entry.subleaf, withoutApicId(entry.leaf, entry).eax]),
    ).toEqual(entries.map((entry) => [entry.function, entry.index, entry.eax]))
    expect(features).toContain('lm')
    expect(vendor).toBe(report.cpu.vendor)
    const leaf1 = entries.find((entry) => entry.function === 1)!
    expect(report.x2apic.supported).toBe(((leaf1.ecx >>> 21) & 1) === 1)
  })

  it('have every feature MSR with its value', () => {
    using kvm = Kvm.open()
    const indices = kvm.getMsrFeatureIndexList()
    expect(report.msrs.features.map(({ index }) => index)).toEqual(indices)
    const values = kvm.getMsrs(indices)
    for (const { index, value } of report.msrs.features) expect(values.get(index)).toBe(value)
    expect(report.msrs.list.map(({ index }) => index)).toEqual(kvm.getMsrIndexList())
    expect(report.msrs.list).toContainEqual({ index: 0x10, name: 'IA32_TSC' })
  })

  it('are decoded where KVM lists the VMX capabilities, and only there', () => {
    const basic = report.msrs.features.find(({ name }) => name === 'IA32_VMX_BASIC')
    expect(report.vmx !== null).toBe(basic !== undefined)
  })
})

describe('the engine', () => {
  it('is hardware exactly where the processor has an extension and its module is there', () => {
    const { engine, cpu } = report
    expect(engine.technology).toBe(engine.kind === 'hardware' ? cpu.virtualization : null)
    if (engine.module !== null) expect(readdirSync('/sys/module')).toContain(engine.module)
    expect(engine.evidence.length).toBeGreaterThan(0)
    expect(report.vm).toEqual({ creatable: true, reason: null })
  })

  it('executes 64-bit applications; on hardware with nested paging every mode', () => {
    const { guestExecution, features } = report
    const modes = Object.values(guestExecution!)
    expect(guestExecution?.longModeUser).toBe('processor')
    expect(modes).not.toContain(null)
    if (!features.nestedPaging.enabled || !features.unrestrictedGuest.enabled) return
    expect(modes).not.toContain('emulator')
  })

  it('is not probed when that is not wanted', () => {
    const plain = hostReport({ probeGuest: false })
    expect(plain).toMatchObject({ available: true, guestExecution: null })
  })
})

it('becomes JSON with 64-bit values as hexadecimal strings', () => {
  const json = JSON.parse(hostReportToJson(report)) as AvailableHostReport
  expect(json.capabilities).toEqual(report.capabilities)
  const values = json.msrs.features.map(({ value }) => value as unknown)
  const expected = report.msrs.features.map(({ value }) => {
    return value === null ? null : `0x${value.toString(16)}`
  })
  expect(values).toEqual(expected)
  expect(values.some((value) => /^0x[0-9a-f]+$/.test(String(value)))).toBe(true)
})

it('leaves nothing open', () => {
  const count = () => readdirSync('/proc/self/fd').length
  hostReport()
  const before = count()
  for (let i = 0; i < 5; i++) hostReport()
  hostReport({ path: '/dev/null' })
  expect(count()).toBe(before)
})

describe('without a usable device', () => {
  it('says that it does not exist, and still what the host is', () => {
    const missing = hostReport({ path: '/dev/no-such-device' })
    expect(missing).toMatchObject({ available: false, code: 'ENOENT' })
    expect(missing).toMatchObject({ device: { exists: false, mode: null }, cpu: report.cpu })
    expect(JSON.parse(hostReportToJson(missing)).reason).toMatch(/no-such-device does not exist: ./)
  })

  it.each([
    { path: '/dev/null', code: 'ENOTTY' },
    { path: '/etc/passwd/kvm', code: 'ENOTDIR' },
  ])('says why $path will not do', ({ path, code }) => {
    const found = hostReport({ path })
    expect(found).toMatchObject({ available: false, code })
  })

  it('refuses what is not a path', () => {
    const wrong = () => hostReport({ path: 7 as unknown as string })
    expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }))
  })
})
