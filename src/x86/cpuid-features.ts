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

let features: readonly CpuidFeature[] | undefined

/**
 * Every known feature bit, by leaf. Names are unique and so are bits. Sources: per leaf, in
 * `source`; the spelling of names: Linux' arch/x86/include/asm/cpufeatures.h and /proc/cpuinfo.
 */
export const CPUID_FEATURES: readonly CpuidFeature[] = /* @__PURE__ */ cpuidFeatures()

/** @internal {@link CPUID_FEATURES}, made when it is first asked for, as many programs need a name or two. */
export function cpuidFeatures(): readonly CpuidFeature[] {
  features ??= CPUID_FEATURE_WORDS.flatMap((word) =>
    Object.entries(word.bits).map(([name, bit]) => featureOf(word, name, bit)),
  )
  return features
}

function featureOf(word: Word, name: string, bit: number): CpuidFeature {
  const { leaf, subleaf, register, source } = word
  return { name: name as CpuidFeatureName, leaf, subleaf, register, bit, source }
}

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

let byBit: ReadonlyMap<string, CpuidFeature> | undefined

/**
 * The feature of a name. Case does not matter, `-` and `.` count as `_`, and common other
 * spellings are understood (`SSE4.1`, `invtsc`, `cmpxchg16b`).
 */
export function cpuidFeature(name: string): CpuidFeature | undefined {
  const plain = name.toLowerCase().replace(/[-.]/g, '_')
  return named(plain) ?? named(ALIASES[plain] ?? '')
}

function named(name: string): CpuidFeature | undefined {
  const word = CPUID_FEATURE_WORDS.find(({ bits }) => Object.hasOwn(bits, name))
  return word && featureOf(word, name, (word.bits as Readonly<Record<string, number>>)[name]!)
}

/** The feature of a bit, or `undefined` when the bit has no name here. */
export function cpuidFeatureAt(
  leaf: number,
  subleaf: number,
  register: CpuidRegister,
  bit: number,
): CpuidFeature | undefined {
  byBit ??= new Map(cpuidFeatures().map((f) => [key(f.leaf, f.subleaf, f.register, f.bit), f]))
  return byBit.get(key(leaf, subleaf, register, bit))
}

function key(leaf: number, subleaf: number, register: string, bit: number): string {
  return `${leaf}.${subleaf}.${register}.${bit}`
}
