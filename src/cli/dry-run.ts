// `node-kvm run --dry-run`: does everything to a machine but make it.

import { E820_TYPE, layOutRam } from '../boot/index.js'
import { GuestMemory } from '../core/memory.js'
import { placeMachineAcpi } from '../machine/acpi.js'
import { readBoot } from '../machine/boot.js'
import { cpuSettings } from '../machine/guest-cpuid.js'
import type { MachineOptions } from '../machine/machine.js'
import { memorySize } from '../machine/memory-size.js'

/**
 * Loads the images as the machine would and tells what is where; needs no /dev/kvm.
 *
 * @throws as `Machine.create` for what is wrong with the options or images
 */
export async function dryRun(options: Omit<MachineOptions, 'devices'>): Promise<string> {
  const { memory = '256M', boot } = options
  const { ids } = cpuSettings(options)
  const loader = await readBoot(boot)
  using ram = GuestMemory.create(layOutRam(memorySize(memory)))
  const acpi = placeMachineAcpi(ram, { cpus: ids })
  const state = loader.load(ram, acpi)
  const { regs, sregs, mode, protocol, placements, memoryMap } = state
  const rom = 'rom' in state ? [{ name: 'firmware', ...sized(state.rom) }] : []
  const tables = acpi.tables.map(({ name, gpa, bytes }) => {
    return { name: `ACPI table ${name}`, gpa, size: bytes.length }
  })
  const typeNames = new Map<number, string>(Object.entries(E820_TYPE).map(([name, n]) => [n, name]))
  const all = [...placements, ...rom, ...(protocol === 'firmware' ? [] : tables)]
  return [
    `${ids.length} vCPU${ids.length === 1 ? '' : 's'}, entered by ${protocol} in ${mode} mode at ` +
      `0x${((mode === 'real' ? sregs.cs.base : 0n) + (regs.rip ?? 0n)).toString(16)}`,
    ...section(
      'RAM',
      ram.ranges.map((range) => ({ name: '', ...range })),
    ),
    ...section(
      'Placed',
      all.sort((a, b) => a.gpa - b.gpa),
    ),
    ...section(
      'Memory map',
      memoryMap.map(({ type, ...range }) => ({ name: typeNames.get(type) ?? `${type}`, ...range })),
    ),
  ].join('\n')
}

interface Named {
  readonly name: string
  readonly gpa: number
  readonly size: number
}

const sized = ({ gpa, image }: { gpa: number; image: Uint8Array }) => ({ gpa, size: image.length })

function section(title: string, ranges: readonly Named[]): string[] {
  if (ranges.length === 0) return []
  const hex = (value: number) => value.toString(16).padStart(10, '0')
  return [
    '',
    title,
    ...ranges.map(({ name, gpa, size }) =>
      `  ${hex(gpa)}-${hex(gpa + size - 1)}  ${name}`.trimEnd(),
    ),
  ]
}
