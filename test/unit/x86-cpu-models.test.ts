// CPU models over a made-up host that has everything up to AVX-512.

import { describe, expect, it } from 'vitest'
import {
  CPU_MODELS,
  CPUID_FEATURES,
  CpuidTable,
  type CpuModel,
  cpuidEntry,
  withCpuModel,
} from '../../src/x86/index.js'

/** Sizes and offsets of a processor with AVX-512 and protection keys (SDM vol. 1 §13.1). */
const XSAVE = [
  cpuidEntry(0xd, 0, { eax: 0x2e7, ecx: 2696 }),
  cpuidEntry(0xd, 1, { eax: 0xf }),
  cpuidEntry(0xd, 2, { eax: 256, ebx: 576 }),
  cpuidEntry(0xd, 5, { eax: 64, ebx: 1088 }),
  cpuidEntry(0xd, 6, { eax: 512, ebx: 1152 }),
  cpuidEntry(0xd, 7, { eax: 1024, ebx: 1664 }),
  cpuidEntry(0xd, 9, { eax: 8, ebx: 2688 }),
]

function host(...without: string[]): CpuidTable {
  const table = new CpuidTable([cpuidEntry(0, 0, { eax: 0xd })])
  for (const { name } of CPUID_FEATURES) table.set(name)
  for (const entry of XSAVE) table.put(entry)
  return table.mask(without)
}

const refusal = (action: () => unknown): string => {
  try {
    action()
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE' })
    return (error as Error).message
  }
  return 'not refused'
}

describe('a model', () => {
  it('host shows everything', () => {
    expect(withCpuModel(host(), 'host').features()).toEqual(host().features())
  })

  it.each<[CpuModel, string[], string[]]>([
    ['x86-64', ['sse2', 'syscall', 'nx'], ['pni', 'popcnt', 'avx', 'sha_ni', 'rtm', 'vmx', 'svm']],
    ['x86-64-v2', ['sse4_2', 'cx16', 'popcnt'], ['avx', 'xsave', 'bmi1', 'aes']],
    ['x86-64-v3', ['avx2', 'fma', 'abm', 'xsave'], ['avx512f', 'pku', 'adx']],
    ['x86-64-v4', ['avx512vl', 'avx2'], ['avx512_vnni', 'amx_tile', 'pku']],
  ])('%s shows its level and no more', (model, shown, hidden) => {
    const table = withCpuModel(host(), model)
    expect(shown.filter((name) => !table.has(name))).toEqual([])
    expect(hidden.filter((name) => table.has(name))).toEqual([])
    expect(
      ['x2apic', 'smep', 'kvm_clocksource2', 'spec_ctrl'].filter((name) => !table.has(name)),
    ).toEqual([])
  })

  it('is the same on hosts that differ in what it leaves out', () => {
    const one = withCpuModel(host('sha_ni', 'avx512f', 'rdseed'), 'x86-64-v3')
    const other = withCpuModel(host('pku', 'amx_tile'), 'x86-64-v3')
    expect(one.features()).toEqual(other.features())
    expect(one.find(0xd)).toEqual(other.find(0xd))
  })

  it('is refused where a feature of it is missing, which is named', () => {
    expect(refusal(() => withCpuModel(host('bmi2', 'movbe'), 'x86-64-v3'))).toMatch(
      /lacks bmi2, movbe/,
    )
    expect(withCpuModel(host('bmi2'), 'x86-64-v2').has('sse4_2')).toBe(true)
  })

  it('grows from level to level', () => {
    const counts = CPU_MODELS.slice(1).map((model) => withCpuModel(host(), model).features().length)
    expect(counts).toEqual([...counts].sort((a, b) => a - b))
    expect(new Set(counts).size).toBe(4)
  })
})

describe('features by name', () => {
  it('are added to a model or taken from it', () => {
    const table = withCpuModel(host(), 'x86-64-v2', { aes: true, 'SSE4.2': false })
    expect([table.has('aes'), table.has('sse4_2'), table.has('sse4_1')]).toEqual([
      true,
      false,
      true,
    ])
  })

  it('that the host lacks are refused, and so are unknown names', () => {
    expect(refusal(() => withCpuModel(host('aes'), 'host', { aes: true }))).toMatch(/lacks aes/)
    expect(refusal(() => withCpuModel(host(), 'host', { aess: false }))).toMatch(/aess/)
  })
})

describe('the state that XSAVE saves', () => {
  const leafOf = (features: Record<string, boolean>) => {
    const table = withCpuModel(host(), 'host', features)
    const { eax = 0, ecx = 0 } = table.find(0xd) ?? {}
    const parts = table.entries.filter((e) => e.function === 0xd).map(({ index }) => index)
    return { eax, ecx, parts: parts.sort((a, b) => a - b) }
  }

  it('fits the features', () => {
    expect(leafOf({})).toEqual({ eax: 0x2e7, ecx: 2696, parts: [0, 1, 2, 5, 6, 7, 9] })
    expect(leafOf({ pku: false })).toEqual({ eax: 0xe7, ecx: 2688, parts: [0, 1, 2, 5, 6, 7] })
    expect(leafOf({ pku: false, avx512f: false })).toEqual({ eax: 7, ecx: 832, parts: [0, 1, 2] })
    const none = { pku: false, avx512f: false, avx: false }
    expect(leafOf(none)).toEqual({ eax: 3, ecx: 576, parts: [0, 1] })
    expect(leafOf({ ...none, xsave: false }).parts).toEqual([])
  })
})
