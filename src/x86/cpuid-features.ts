// Lookups over the table of CPUID feature bits: name to bit, bit to name, and the spellings that
// people bring along from QEMU and the manuals.

import { CPUID_FEATURE_WORDS, type CpuidRegister } from './cpuid-feature-bits.js'

type Word = (typeof CPUID_FEATURE_WORDS)[number]
type BitName<W> = W extends { readonly bits: infer B } ? keyof B & string : never

/** A name of the feature table, such as `'sse4_2'`, `'avx512f'`, `'npt'` or `'kvm_pv_eoi'`. */
export type CpuidFeatureName = BitName<Word>

/** One feature bit of CPUID. */
export interface CpuidFeature {
  readonly name: CpuidFeatureName
  /** CPUID input EAX. */
  readonly leaf: number
  /** CPUID input ECX. */
  readonly subleaf: number
  readonly register: CpuidRegister
  /** Bit number in the register. */
  readonly bit: number
  /** Manual and section that define it. */
  readonly source: string
}

/**
 * Every known feature bit, by leaf. Names are unique and so are bits. Sources: per leaf, in
 * `source`; the spelling of names: Linux' arch/x86/include/asm/cpufeatures.h and /proc/cpuinfo.
 */
export const CPUID_FEATURES: readonly CpuidFeature[] = CPUID_FEATURE_WORDS.flatMap((word) =>
  Object.entries(word.bits).map(([name, bit]) => ({
    name: name as CpuidFeatureName,
    leaf: word.leaf,
    subleaf: word.subleaf,
    register: word.register,
    bit,
    source: word.source,
  })),
)

// Other spellings of bits that have one name here. `constant_tsc` is here and not in the table
// because Linux also sets it from the family and model, without any CPUID bit.
const ALIASES: Readonly<Record<string, CpuidFeatureName>> = {
  sse3: 'pni',
  cmpxchg8b: 'cx8',
  cmpxchg16b: 'cx16',
  lzcnt: 'abm',
  xd: 'nx',
  syscall64: 'syscall',
  page1gb: 'pdpe1gb',
  constant_tsc: 'nonstop_tsc',
  invtsc: 'nonstop_tsc',
  tsc_deadline: 'tsc_deadline_timer',
  cet_ss: 'shstk',
  cet_ibt: 'ibt',
  sha: 'sha_ni',
  ssbd: 'spec_ctrl_ssbd',
  stibp: 'intel_stibp',
}

const BY_NAME = new Map<string, CpuidFeature>(CPUID_FEATURES.map((f) => [f.name, f]))
const BY_BIT = new Map(CPUID_FEATURES.map((f) => [key(f.leaf, f.subleaf, f.register, f.bit), f]))

/**
 * The feature of a name. Case does not matter, `-` and `.` count as `_`, and common other
 * spellings are understood (`SSE4.1`, `invtsc`, `cmpxchg16b`).
 */
export function cpuidFeature(name: string): CpuidFeature | undefined {
  const plain = name.toLowerCase().replace(/[-.]/g, '_')
  return BY_NAME.get(plain) ?? BY_NAME.get(ALIASES[plain] ?? '')
}

/** The feature of a bit, or `undefined` when the bit has no name here. */
export function cpuidFeatureAt(
  leaf: number,
  subleaf: number,
  register: CpuidRegister,
  bit: number,
): CpuidFeature | undefined {
  return BY_BIT.get(key(leaf, subleaf, register, bit))
}

function key(leaf: number, subleaf: number, register: string, bit: number): string {
  return `${leaf}.${subleaf}.${register}.${bit}`
}
