// Name to number and back, over single registers, counted families and the x2APIC's window.

import { LAPIC_REGISTERS, lapicMsr } from './lapic-registers.js'
import { MSR, MSR_FAMILIES, type MsrFamily } from './msr.js'

let numbers: ReadonlyMap<string, number> | undefined
let names: ReadonlyMap<number, string> | undefined

// Made when they are first used: most programs never see a name.
function byName(): ReadonlyMap<string, number> {
  numbers ??= new Map(allNames())
  return numbers
}

function byNumber(): ReadonlyMap<number, string> {
  names ??= new Map(Array.from(byName(), ([name, number]) => [number, name]))
  return names
}

/**
 * The number of a named register, such as `IA32_EFER`, `IA32_MC3_STATUS`, `IA32_MTRR_PHYSBASE0` or
 * `IA32_X2APIC_SVR`; `undefined` for an unknown name.
 */
export function msrNumber(name: string): number | undefined {
  return byName().get(name)
}

/** The name of a register, or `undefined` when this library has none for it. */
export function msrName(msr: number): string | undefined {
  return byNumber().get(msr)
}

/** A register as messages show it: `IA32_EFER (0xc0000080)`, or `MSR 0x1234`. */
export function describeMsr(msr: number): string {
  const name = byNumber().get(msr)
  const number = `0x${msr.toString(16)}`
  return name === undefined ? `MSR ${number}` : `${name} (${number})`
}

/** Every known name with its number. */
export function msrEntries(): [string, number][] {
  return [...byName()]
}

function allNames(): [string, number][] {
  return [
    ...Object.entries(MSR),
    ...MSR_FAMILIES.flatMap(members),
    ...Object.entries(LAPIC_REGISTERS)
      .filter(([, r]) => r.x2apic)
      .map(([name, r]): [string, number] => [`IA32_X2APIC_${name}`, lapicMsr(r.offset)]),
  ]
}

function members({ name, first, count, step = 1 }: MsrFamily): [string, number][] {
  return Array.from({ length: count }, (_, i) => [name.replace('#', String(i)), first + i * step])
}
