// The CPUID feature table, against itself and against the processor and kernel of this machine; and
// the table of leaves that guests are shown.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { CPUID_SIGNIFICANT_INDEX, type CpuidEntry, cpuidEntry } from '../../src/x86/cpuid-entry.js'
import {
  CPUID_FEATURES,
  type CpuidFeature,
  cpuidFeature,
  cpuidFeatureAt,
} from '../../src/x86/cpuid-features.js'
import {
  cpuidBrand,
  cpuidHypervisors,
  cpuidSignature,
  cpuidVendor,
  kvmSignatureEntry,
  vendorEntry,
} from '../../src/x86/cpuid-identity.js'
import { CpuidTable, diffCpuid } from '../../src/x86/cpuid-table.js'
import { apicIdOf, withTopology } from '../../src/x86/cpuid-topology.js'

const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0'

const anyFeature = fc.constantFrom(...CPUID_FEATURES)

describe('feature table', () => {
  it('gives every bit one name and every name one bit', () => {
    const names = new Set(CPUID_FEATURES.map((f) => f.name))
    const bits = new Set(CPUID_FEATURES.map((f) => `${f.leaf} ${f.subleaf} ${f.register} ${f.bit}`))
    expect(names.size).toBe(CPUID_FEATURES.length)
    expect(bits.size).toBe(CPUID_FEATURES.length)
    for (const f of CPUID_FEATURES) {
      expect(cpuidFeature(f.name)).toEqual(f)
      expect(cpuidFeatureAt(f.leaf, f.subleaf, f.register, f.bit)).toEqual(f)
      expect(f.bit).toBeGreaterThanOrEqual(0)
      expect(f.bit).toBeLessThan(32)
      expect(f.name).toMatch(/^[a-z0-9_]+$/)
    }
  })

  it.each([
    ['SSE4.1', 'sse4_1'],
    ['lahf-lm', 'lahf_lm'],
    ['invtsc', 'nonstop_tsc'],
    ['sse3', 'pni'],
  ])('understands %s', (spelling, name) => {
    expect(cpuidFeature(spelling)?.name).toBe(name)
  })

  it('does not know what does not exist', () => {
    expect(cpuidFeature('sse9')).toBeUndefined()
    expect(cpuidFeatureAt(1, 0, 'edx', 10)).toBeUndefined()
    expect(cpuidFeature('constructor')).toBeUndefined()
  })
})

describe('this machine', () => {
  const host = new CpuidTable(hostCpuid())
  const flags = new Set(
    /^flags\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' '),
  )

  // Where the kernel is a guest without hardware virtualization, CPUID tells user space of the real
  // processor and the kernel learns of its own in another way. Then its clock is KVM's and CPUID's KVM is not.
  beforeEach((context) => {
    const clocks = readFileSync(`${CLOCKSOURCE}/available_clocksource`, 'utf8')
    const isTold = cpuidHypervisors(host.entries).some(({ vendor }) => vendor === 'KVMKVMKVM')
    if (clocks.includes('kvm-clock') && !isTold) {
      context.skip(
        'the kernel has a kvm-clock, but CPUID in user space tells of no KVM: it is not virtualized',
      )
    }
  })

  // Flags that Linux also sets from other facts than the CPUID bit of the same name: the APIC timer
  // of AMD processors by family, virtual NMIs of Intel from a VMX capability MSR, bandwidth
  // allocation from either vendor's leaf.
  const alsoSynthetic = new Set(['arat', 'vnmi', 'mba'])

  it('has the CPUID bit of every flag that Linux shows', () => {
    const known = [...flags].map((flag) => cpuidFeature(flag)).filter((f) => f !== undefined)
    const missing = known
      .filter((f: CpuidFeature) => flags.has(f.name) && !alsoSynthetic.has(f.name))
      .filter((f) => !host.has(f.name))
    expect(missing.map((f) => f.name)).toEqual([])
    expect(known.length).toBeGreaterThan(50)
  })

  // Features that nothing masks on a running 64-bit kernel, so that the bit implies the flag.
  it('has the Linux flag of every plain bit', () => {
    const plain = [
      'fpu tsc msr pae cx8 cmov mmx fxsr sse sse2 ssse3 sse4_1 sse4_2 popcnt aes avx avx2',
      'bmi1 bmi2 lm nx rdtscp syscall lahf_lm fsgsbase smep smap erms adx sha_ni avx512f',
      'avx512bw avx512vl avx512_vnni gfni vaes vpclmulqdq rdpid fsrm hypervisor x2apic cx16',
      'movbe f16c fma',
    ].join(' ')
    const unseen = plain.split(' ').filter((name) => host.has(name) && !flags.has(name))
    expect(unseen).toEqual([])
  })

  it('has the vendor, family, model, stepping and brand that Linux shows', () => {
    const cpuinfo = readFileSync('/proc/cpuinfo', 'utf8')
    const line = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1]
    expect(cpuidVendor(host.entries)).toBe(line('vendor_id'))
    expect(cpuidSignature(host.entries)).toEqual({
      family: Number(line('cpu family')),
      model: Number(line('model')),
      stepping: Number(line('stepping')),
    })
    expect(cpuidBrand(host.entries)).toBe(line('model name')?.trim())
  })
})

describe('CpuidTable', () => {
  it('shows exactly the features that were set, whatever the order', () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyFeature), fc.uniqueArray(anyFeature), (on, off) => {
        const table = new CpuidTable()
        for (const f of on) table.set(f.name)
        expect(new Set(table.features())).toEqual(new Set(on.map((f) => f.name)))
        table.mask(off.map((f) => f.name))
        const expected = on.filter((f) => !off.includes(f)).map((f) => f.name)
        expect(new Set(table.features())).toEqual(new Set(expected))
        for (const e of table.entries) {
          for (const r of [e.eax, e.ebx, e.ecx, e.edx]) expect(r).toBe(r >>> 0)
        }
      }),
    )
  })

  it('finds sub-leaves as KVM does', () => {
    const plain = cpuidEntry(1, 0, { eax: 1 })
    const indexed = cpuidEntry(7, 1, { eax: 2 })
    const table = new CpuidTable([plain, indexed])
    expect(table.find(1, 5)?.eax).toBe(1)
    expect(table.find(7, 1)?.eax).toBe(2)
    expect(table.find(7, 0)).toBeUndefined()
    expect(indexed.flags).toBe(CPUID_SIGNIFICANT_INDEX)
    expect(plain.flags).toBe(0)
  })

  it('announces a leaf that it adds', () => {
    const table = new CpuidTable([vendorEntry('GenuineIntel', 1), cpuidEntry(0x80000000)])
    table.set('avx_vnni').set('autoibrs')
    expect(table.find(0)?.eax).toBe(7)
    expect(table.find(0x80000000)?.eax).toBe(0x80000021)
    table.set('smep')
    table.set('bhi_ctrl')
    expect(table.find(7)?.eax).toBe(2)
  })

  it('keeps KVM features behind another hypervisor interface', () => {
    const hyperv = { ...kvmSignatureEntry(), ebx: 0x7263694d, ecx: 0x666f736f, edx: 0x76482074 }
    const table = new CpuidTable([hyperv, kvmSignatureEntry(0x40000100)])
    table.set('kvm_pv_eoi').set('hv_reset')
    expect(table.find(0x40000101)?.eax).toBe(0x40)
    expect(table.find(0x40000003)?.eax).toBe(0x80)
    expect(table.find(0x40000000)?.eax).toBe(0x40000003)
    expect(cpuidHypervisors(table.entries).map((h) => [h.vendor, h.base])).toEqual([
      ['Microsoft Hv', 0x40000000],
      ['KVMKVMKVM', 0x40000100],
    ])
  })

  it('does not touch the entries it was made from', () => {
    const entry = cpuidEntry(1)
    const table = new CpuidTable([entry])
    const copy = table.clone()
    table.set('vmx')
    expect(entry.ecx).toBe(0)
    expect(copy.has('vmx')).toBe(false)
  })

  it('replaces and removes leaves', () => {
    const table = new CpuidTable([cpuidEntry(7, 0), cpuidEntry(7, 1), cpuidEntry(1)])
    table.put(cpuidEntry(7, 1, { eax: 0x10 })).put(cpuidEntry(7, 2, { edx: 1 }))
    expect(table.features()).toEqual(['avx_vnni', 'intel_psfd'])
    expect(table.remove(7).entries.map((e) => e.function)).toEqual([1])
  })

  it('refuses unknown names', () => {
    expect(() => new CpuidTable().set('sse9')).toThrow(/"name" is out of range.*Received sse9/)
  })

  it('tells two tables apart', () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyFeature), fc.uniqueArray(anyFeature), (inA, inB) => {
        const a = new CpuidTable()
        const b = new CpuidTable()
        for (const f of inA) a.set(f.name)
        for (const f of inB) b.set(f.name)
        const diff = diffCpuid(a, b)
        expect(new Set(diff.onlyInA)).toEqual(
          new Set(inA.filter((f) => !inB.includes(f)).map((f) => f.name)),
        )
        expect(new Set(diff.onlyInB)).toEqual(
          new Set(inB.filter((f) => !inA.includes(f)).map((f) => f.name)),
        )
        expect(diffCpuid(a, a)).toEqual({ onlyInA: [], onlyInB: [], registers: [] })
        const common = a.clone().intersect(b).features()
        expect(new Set(common)).toEqual(
          new Set(inA.filter((f) => inB.includes(f)).map((f) => f.name)),
        )
      }),
    )
  })

  it('reports registers that differ without a name', () => {
    const a = new CpuidTable([cpuidEntry(1, 0, { eax: 1 })])
    const b = new CpuidTable([cpuidEntry(1, 0, { eax: 2 }), cpuidEntry(0x16, 0, { ebx: 5 })])
    expect(diffCpuid(a, b).registers).toEqual([
      { function: 1, index: 0, register: 'eax', a: 1, b: 2 },
      { function: 0x16, index: 0, register: 'ebx', a: 0, b: 5 },
    ])
  })
})

describe('topology', () => {
  it('gives each logical processor its own identifier, within its socket', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 4 }),
        (threadsPerCore, coresPerSocket, sockets) => {
          const cpus = threadsPerCore * coresPerSocket * sockets
          const shape = { cpus, threadsPerCore, coresPerSocket }
          const ids = Array.from({ length: cpus }, (_, i) => apicIdOf(i, shape))
          expect(new Set(ids).size).toBe(cpus)
          expect(ids).toEqual([...ids].sort((x, y) => x - y))
          checkIdentifiers(ids, shape)
        },
      ),
    )
  })

  it('describes 2 sockets of 3 cores of 2 threads', () => {
    const entries = [
      vendorEntry('AuthenticAMD', 0x1f),
      cpuidEntry(1, 0, { ebx: 0xaabb0800 }),
      cpuidEntry(0x1f, 0, { edx: 99 }),
      cpuidEntry(0x80000001, 0, { ecx: 1 << 22 }),
      cpuidEntry(0x80000008, 0, { ecx: 0x1_7001 }),
      cpuidEntry(0x8000001d, 0, { eax: 0x121 }),
      cpuidEntry(0x8000001d, 1, { eax: 0x163 }),
      cpuidEntry(0x80000026, 0, { eax: 1 }),
    ]
    const shape = { cpus: 12, threadsPerCore: 2, coresPerSocket: 3 }
    expect(apicIdOf(11, shape)).toBe(13)
    const table = new CpuidTable(withTopology(entries, { ...shape, vcpuId: 13 }))
    expect(table.find(1)?.ebx).toBe(0x0d080800)
    expect(table.has('ht')).toBe(true)
    expect(table.find(0xb, 0)).toMatchObject({ eax: 1, ebx: 2, ecx: 0x100, edx: 13 })
    expect(table.find(0xb, 1)).toMatchObject({ eax: 3, ebx: 6, ecx: 0x201, edx: 13 })
    expect(table.find(0xb, 2)).toMatchObject({ eax: 0, ebx: 0, ecx: 2, edx: 13 })
    expect(table.find(0x1f, 1)).toMatchObject({ eax: 3, ebx: 6, ecx: 0x201, edx: 13 })
    expect(table.find(0x80000008)?.ecx).toBe(0x1_3005)
    expect(table.find(0x8000001d, 0)?.eax).toBe(0x4121)
    expect(table.find(0x8000001d, 1)?.eax).toBe(0x1c163)
    expect(table.find(0x8000001e)).toMatchObject({ eax: 13, ebx: 0x102, ecx: 1 })
    expect(table.find(0x80000026)).toBeUndefined()
    expect(entries[2]?.edx).toBe(99)
  })

  it('describes Intel’s caches by leaf 4', () => {
    const entries = [vendorEntry('GenuineIntel', 0xd), cpuidEntry(4, 0, { eax: 0xfc004121 })]
    const [leaf] = withTopology(entries, { cpus: 4, threadsPerCore: 2, vcpuId: 0 }).filter(
      (e) => e.function === 4,
    )
    expect(leaf?.eax).toBe(0x04004121)
  })
})

function checkIdentifiers(
  ids: number[],
  shape: { cpus: number; threadsPerCore: number; coresPerSocket: number },
): void {
  const table = new CpuidTable(withTopology([], { ...shape, vcpuId: 0 }))
  const coreShift = table.find(0xb, 0)!.eax
  const socketShift = table.find(0xb, 1)!.eax
  ids.forEach((id, i) => {
    expect(id >> coreShift === ids[0]! >> coreShift).toBe(i < shape.threadsPerCore)
    const socket = Math.floor(i / (shape.threadsPerCore * shape.coresPerSocket))
    expect(id >> socketShift).toBe(socket)
  })
}

// Asks the processor itself, for the leaves of the feature table and those of the identity.
function hostCpuid(): CpuidEntry[] {
  const wanted = new Map(CPUID_FEATURES.map((f) => [`${f.leaf} ${f.subleaf}`, [f.leaf, f.subleaf]]))
  const more = [0, 0x40000000, 0x40000100, 0x80000002, 0x80000003, 0x80000004]
  for (const leaf of more) wanted.set(`${leaf} 0`, [leaf, 0])
  const directory = mkdtempSync(join(tmpdir(), 'node-kvm-cpuid-'))
  try {
    writeFileSync(join(directory, 'cpuid.c'), CPUID_PROGRAM)
    execFileSync('cc', ['-o', join(directory, 'cpuid'), join(directory, 'cpuid.c')])
    const input = [...wanted.values()].map((w) => w.join(' ')).join('\n')
    const output = execFileSync(join(directory, 'cpuid'), { input, encoding: 'utf8' })
    return output.trim().split('\n').map(parseLine)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function parseLine(line: string): CpuidEntry {
  const [leaf, subleaf, eax, ebx, ecx, edx] = line.split(' ').map(Number)
  return { ...cpuidEntry(leaf!, subleaf!), eax: eax!, ebx: ebx!, ecx: ecx!, edx: edx! }
}

// Leaves beyond the maximum are answered with zeros, as the rules for software demand.
const CPUID_PROGRAM = `
#include <cpuid.h>
#include <stdio.h>
int main(void) {
  unsigned leaf, subleaf;
  while (scanf("%u %u", &leaf, &subleaf) == 2) {
    unsigned a = 0, b = 0, c = 0, d = 0, max, max7, x;
    __cpuid(leaf & 0xf0000000u, max, x, x, x);
    __cpuid_count(7, 0, max7, x, x, x);
    int same_range = (max & 0xf0000000u) == (leaf & 0xf0000000u);
    if (same_range && max >= leaf && (leaf != 7 || subleaf <= max7))
      __cpuid_count(leaf, subleaf, a, b, c, d);
    printf("%u %u %u %u %u %u\\n", leaf, subleaf, a, b, c, d);
  }
}
`
