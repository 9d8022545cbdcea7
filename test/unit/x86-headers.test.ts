// Names and bits against this machine's kernel headers, which know them from another hand. Only
// what both sides name is compared: headers may be older or newer than the tables.

import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import type { BitFields } from '../../src/x86/bitfields.js'
import { CR0, CR4 } from '../../src/x86/control-registers.js'
import { CPUID_FEATURES, cpuidFeature } from '../../src/x86/cpuid-features.js'
import { EXCEPTIONS } from '../../src/x86/exceptions.js'
import { msrNumber } from '../../src/x86/msr-names.js'
import { RFLAGS } from '../../src/x86/rflags.js'

const macros = headerMacros(['asm/processor-flags.h', 'asm/kvm_para.h', 'asm/kvm.h'])

describe('kernel headers', () => {
  it.each<[string, BitFields, number]>([
    ['CR0', CR0, 11],
    ['CR4', CR4, 20],
    ['EFLAGS', RFLAGS, 17],
  ])('agree about %s', (register, table, atLeast) => {
    const theirs = matching(new RegExp(`^X86_${register}_(\\w+)_BIT$`))
    const common = theirs.filter(([name]) => table[name] !== undefined)
    expect(common.map(([name]) => [name, table[name]!.lsb])).toEqual(common)
    expect(common.length).toBeGreaterThanOrEqual(atLeast)
  })

  it('agree about KVM’s CPUID features', () => {
    const theirs = matching(/^KVM_FEATURE_(\w+)$/).map(([name, bit]) => [
      `kvm_${name.toLowerCase()}`,
      bit,
    ])
    const ours = theirs.map(([name]) => [name, cpuidFeature(String(name))?.bit])
    expect(ours).toEqual(theirs)
    expect(theirs.length).toBeGreaterThan(15)
    const leaf = CPUID_FEATURES.find((f) => f.name === 'kvm_pv_eoi')?.leaf
    expect([leaf]).toEqual(matching(/^(KVM_CPUID_FEATURES)$/).map(([, value]) => value))
  })

  it('agree about KVM’s MSRs', () => {
    const theirs = matching(/^(MSR_KVM_\w+)$/)
    expect(theirs.map(([name]) => [name, msrNumber(name)])).toEqual(theirs)
    expect(theirs.length).toBeGreaterThan(8)
  })

  it('agree about exception vectors', () => {
    const theirs = matching(/^([A-Z]{2})_VECTOR$/)
    const ours = theirs.map(([name]) => [
      name,
      EXCEPTIONS.find((e) => e.mnemonic === `#${name}`)?.vector,
    ])
    expect(ours).toEqual(theirs)
    expect(theirs.length).toBeGreaterThan(15)
  })
})

function matching(pattern: RegExp): [string, number][] {
  return [...macros].flatMap(([macro, text]): [string, number][] => {
    const name = pattern.exec(macro)?.[1]
    const value = Number(text)
    return name === undefined || !Number.isInteger(value) ? [] : [[name, value]]
  })
}

function headerMacros(headers: string[]): Map<string, string> {
  const includes = headers.flatMap((h) => ['-include', h])
  const output = execFileSync('cc', ['-dM', '-E', ...includes, '-x', 'c', '/dev/null'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
  })
  return new Map([...output.matchAll(/^#define (\w+) (.+)$/gm)].map((m) => [m[1]!, m[2]!.trim()]))
}
