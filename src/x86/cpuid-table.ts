// A CPUID table by feature names: what a guest is shown, edited and compared without bit numbers.
// It holds the same entries that KVM_GET_SUPPORTED_CPUID gives and KVM_SET_CPUID2 takes.

import { type CpuidEntry, cpuidEntry, findCpuidEntry } from './cpuid-entry.js'
import type { CpuidRegister } from './cpuid-feature-bits.js'
import {
  type CpuidFeature,
  type CpuidFeatureName,
  cpuidFeature,
  cpuidFeatures,
} from './cpuid-features.js'
import { cpuidHypervisors } from './cpuid-identity.js'
import { outOfRange } from './out-of-range.js'

/** One output register in which two tables differ. An absent leaf counts as zero. */
export interface CpuidRegisterDifference {
  function: number
  index: number
  register: CpuidRegister
  a: number
  b: number
}

/** What distinguishes two tables. */
export interface CpuidDifference {
  /** Features that only the first has. */
  onlyInA: CpuidFeatureName[]
  /** Features that only the second has. */
  onlyInB: CpuidFeatureName[]
  /** Every register that differs, named features included. */
  registers: CpuidRegisterDifference[]
}

const REGISTERS: readonly CpuidRegister[] = ['eax', 'ebx', 'ecx', 'edx']

/** A mutable set of CPUID leaves. Methods that change it return it, so calls can be chained. */
export class CpuidTable {
  /** The leaves, in the order given; `KVM_SET_CPUID2` takes them as they are. */
  readonly entries: CpuidEntry[]

  /** @param entries leaves to start from; they are copied, so the caller's stay untouched. */
  constructor(entries: readonly CpuidEntry[] = []) {
    this.entries = entries.map((e) => ({ ...e }))
  }

  /** An independent copy. */
  clone(): CpuidTable {
    return new CpuidTable(this.entries)
  }

  /** The entry that answers a leaf and sub-leaf, for reading or editing in place. */
  find(leaf: number, subleaf = 0): CpuidEntry | undefined {
    return findCpuidEntry(this.entries, leaf, subleaf)
  }

  /** Replaces the entry of the same leaf and sub-leaf, or appends this one. */
  put(entry: CpuidEntry): this {
    const index = this.entries.findIndex(
      (e) => e.function === entry.function && e.index === entry.index,
    )
    this.entries.splice(index < 0 ? this.entries.length : index, index < 0 ? 0 : 1, { ...entry })
    return this
  }

  /** Removes a leaf with all its sub-leaves. */
  remove(leaf: number): this {
    const kept = this.entries.filter((e) => e.function !== leaf)
    this.entries.splice(0, this.entries.length, ...kept)
    return this
  }

  /**
   * Whether a feature is on. An absent leaf means off.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for a name that is not in the feature table
   */
  has(name: CpuidFeatureName | (string & {})): boolean {
    return this.#hasFeature(feature(name))
  }

  /**
   * Turns a feature on or off. Turning it on adds the leaf if it is missing and raises the leaf
   * that announces the maximum, so that a guest which follows the rules finds it.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for a name that is not in the feature table
   */
  set(name: CpuidFeatureName | (string & {}), on = true): this {
    const f = feature(name)
    const leaf = this.#leafOf(f)
    const mask = (1 << f.bit) >>> 0
    const entry = this.find(leaf, f.subleaf) ?? (on ? this.#add(leaf, f.subleaf) : undefined)
    if (entry === undefined) return this
    entry[f.register] = (on ? entry[f.register] | mask : entry[f.register] & ~mask) >>> 0
    return this
  }

  /**
   * Turns the named features off.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for a name that is not in the feature table
   */
  mask(names: Iterable<CpuidFeatureName | (string & {})>): this {
    for (const name of names) this.set(name, false)
    return this
  }

  /**
   * Turns off every named feature that `other` lacks: what a guest may be shown that must be able
   * to run on both machines.
   */
  intersect(other: CpuidTable): this {
    return this.mask(this.features().filter((name) => !other.has(name)))
  }

  /** The names of all features that are on, by leaf and bit. */
  features(): CpuidFeatureName[] {
    return cpuidFeatures()
      .filter((f) => this.#hasFeature(f))
      .map((f) => f.name)
  }

  #hasFeature(f: CpuidFeature): boolean {
    const entry = this.find(this.#leafOf(f), f.subleaf)
    return entry !== undefined && ((entry[f.register] >>> f.bit) & 1) === 1
  }

  // KVM's leaves move up by 0x100 when another hypervisor interface takes the first place.
  #leafOf(f: CpuidFeature): number {
    if (!f.name.startsWith('kvm_')) return f.leaf
    const kvm = cpuidHypervisors(this.entries).find((h) => h.vendor === 'KVMKVMKVM')
    return kvm === undefined ? f.leaf : kvm.base + (f.leaf - 0x40000000)
  }

  #add(leaf: number, subleaf: number): CpuidEntry {
    const entry = cpuidEntry(leaf, subleaf)
    this.entries.push(entry)
    this.#announce(leaf - (leaf % (isHypervisorLeaf(leaf) ? 0x100 : 0x10000000)), leaf)
    if (leaf === 7 || leaf === 0x14 || leaf === 0x24) this.#announce(leaf, subleaf)
    return entry
  }

  #announce(leaf: number, maximum: number): void {
    const entry = this.find(leaf)
    if (entry !== undefined && entry.eax < maximum) entry.eax = maximum
  }
}

/** Compares two tables, by feature names and by registers. */
export function diffCpuid(a: CpuidTable, b: CpuidTable): CpuidDifference {
  return {
    onlyInA: a.features().filter((name) => !b.has(name)),
    onlyInB: b.features().filter((name) => !a.has(name)),
    registers: leavesOf(a, b).flatMap(([leaf, subleaf]) => diffLeaf(a, b, leaf, subleaf)),
  }
}

// Hypervisor interfaces follow each other every 0x100 leaves, each with its own maximum.
function isHypervisorLeaf(leaf: number): boolean {
  return leaf >= 0x40000000 && leaf < 0x50000000
}

function leavesOf(a: CpuidTable, b: CpuidTable): [number, number][] {
  const leaves = new Map<string, [number, number]>()
  for (const e of [...a.entries, ...b.entries]) {
    leaves.set(`${e.function}.${e.index}`, [e.function, e.index])
  }
  return [...leaves.values()].sort((x, y) => x[0] - y[0] || x[1] - y[1])
}

function diffLeaf(
  a: CpuidTable,
  b: CpuidTable,
  leaf: number,
  subleaf: number,
): CpuidRegisterDifference[] {
  const inA = a.find(leaf, subleaf)
  const inB = b.find(leaf, subleaf)
  return REGISTERS.map((register) => ({
    function: leaf,
    index: subleaf,
    register,
    a: inA?.[register] ?? 0,
    b: inB?.[register] ?? 0,
  })).filter((d) => d.a !== d.b)
}

function feature(name: string): CpuidFeature {
  const found = cpuidFeature(name)
  if (found === undefined) throw outOfRange('name', 'the name of a CPUID feature', name)
  return found
}
