// The Intel MP table, by which kernels without ACPI find processors and interrupts (Intel
// MultiProcessor Specification 1.4, chapter 4).

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'
import type { PhysicalMemory } from '../../x86/physical-memory.js'
import { BIOS_GPA, HIGH_MEMORY_GPA, MP_TABLE_GPA } from '../layout.js'
import { LoadPlan } from '../load-plan.js'
import {
  checkApicIds,
  type InterruptOverride,
  type IoApic,
  interruptFlags,
  KVM_IO_APIC,
  LOCAL_APIC_GPA,
  XAPIC_ID_MAX,
} from './interrupt-topology.js'
import { checksum, concat, pack, paddedText, putField } from './pack.js'

/** The machine that the MP table describes. */
export interface MpTableOptions {
  /** Local APIC ids, 0 to 254; the boot processor first. */
  readonly cpus: readonly number[]
  /**
   * Default: KVM's, with the lowest id above all processors', since the specification wants ids that
   * differ; guests write the id into the I/O APIC themselves.
   */
  readonly ioApic?: IoApic | undefined
  /** ISA interrupts that arrive elsewhere than at their number; default the timer at input 2. */
  readonly interruptOverrides?: readonly InterruptOverride[] | undefined
  /** CPUID leaf 1 EAX: family, model and stepping; default 0x600. */
  readonly cpuSignature?: number | undefined
  /** CPUID leaf 1 EDX; default FPU, APIC and no more. */
  readonly cpuFeatures?: number | undefined
  /** Address of the floating pointer, a multiple of 16; default {@link MP_TABLE_GPA}. */
  readonly gpa?: number | undefined
}

/** Types of base table entries (MP 1.4, table 4-3). */
export const MP_ENTRY = {
  PROCESSOR: 0,
  BUS: 1,
  IO_APIC: 2,
  IO_INTERRUPT: 3,
  LOCAL_INTERRUPT: 4,
} as const

/** Kinds of interrupt (MP 1.4, table 4-11). */
export const MP_INTERRUPT = { INT: 0, NMI: 1, SMI: 2, EXT_INT: 3 } as const

/** Bytes in the MP floating pointer structure. */
export const MP_FLOATING_POINTER_SIZE = 16

const SPEC_1_4 = 4
const HEADER_SIZE = 44
const POINTER_CHECKSUM = 10
const HEADER_CHECKSUM = 7
const ENABLED = 1
const BOOT_PROCESSOR = 2
const LOCAL_APIC_VERSION = 0x14
const IO_APIC_VERSION = 0x11
const CPU_SIGNATURE = 0x600
const CPU_FPU_APIC = 0x201
const ISA_BUS = 0
const ISA_INTERRUPTS = 16
/** The slave 8259's input: no device can use it. */
const CASCADE = 2
const ALL_LOCAL_APICS = 0xff

const TIMER_AT_INPUT_2: readonly InterruptOverride[] = [{ irq: 0, gsi: 2 }]

/**
 * The floating pointer and, directly behind it, the configuration table: processors, an ISA bus, one
 * I/O APIC, the ISA interrupts, ExtINT at the boot processor's LINT0, NMI at every LINT1.
 *
 * @throws RangeError `ERR_OUT_OF_RANGE`: processor ids above 254 need ACPI
 */
export function encodeMpTable(options: MpTableOptions): Uint8Array {
  const { cpus, gpa = MP_TABLE_GPA } = options
  checkApicIds(cpus, XAPIC_ID_MAX)
  const ioApic = options.ioApic ?? { ...KVM_IO_APIC, id: Math.max(...cpus) + 1 }
  checkInteger('ioApic.id', ioApic.id, 0, 255)
  const entries = [
    ...processors(options),
    concat(pack([1, MP_ENTRY.BUS], [1, ISA_BUS]), paddedText('ISA', 6)),
    ioApicEntry(ioApic),
    ...isaInterrupts(ioApic, options.interruptOverrides ?? TIMER_AT_INPUT_2),
    localInterrupt(MP_INTERRUPT.EXT_INT, cpus[0]!, 0),
    localInterrupt(MP_INTERRUPT.NMI, ALL_LOCAL_APICS, 1),
  ]
  const configuration = configurationTable(entries)
  return concat(floatingPointer(gpa + MP_FLOATING_POINTER_SIZE), configuration)
}

/**
 * Writes the MP table where kernels search for it, and returns its address.
 *
 * @throws as {@link encodeMpTable}; BootError `ERR_BOOT_NO_SPACE` where there is no RAM; nothing has
 *   been written then
 */
export function placeMpTable(memory: PhysicalMemory, options: MpTableOptions): number {
  const { gpa = MP_TABLE_GPA } = options
  const table = encodeMpTable(options)
  checkInteger('gpa', gpa, BIOS_GPA, HIGH_MEMORY_GPA - table.length)
  if (gpa % MP_FLOATING_POINTER_SIZE !== 0) throw outOfRange('gpa', 'a multiple of 16', gpa)
  const plan = new LoadPlan(memory.ranges)
  plan.claim('MP table', gpa, table.length)
  plan.write(gpa, table)
  plan.commit(memory)
  return gpa
}

function floatingPointer(configurationGpa: number): Uint8Array {
  // All feature bytes 0: there is a table, and interrupts start in virtual wire mode.
  const fields = pack([4, configurationGpa], [1, 1], [1, SPEC_1_4], [1, 0], [4, 0], [1, 0])
  const pointer = concat(paddedText('_MP_', 4), fields)
  putField(pointer, POINTER_CHECKSUM, 1, checksum(pointer))
  return pointer
}

function configurationTable(entries: readonly Uint8Array[]): Uint8Array {
  const body = concat(...entries)
  const table = concat(
    paddedText('PCMP', 4),
    pack([2, HEADER_SIZE + body.length], [1, SPEC_1_4], [1, 0]),
    paddedText('NODE-KVM', 8),
    paddedText('', 12),
    pack([4, 0], [2, 0], [2, entries.length], [4, LOCAL_APIC_GPA], [4, 0]),
    body,
  )
  putField(table, HEADER_CHECKSUM, 1, checksum(table))
  return table
}

function processors(options: MpTableOptions): Uint8Array[] {
  const { cpus, cpuSignature = CPU_SIGNATURE, cpuFeatures = CPU_FPU_APIC } = options
  return cpus.map((id, index) => {
    const flags = ENABLED + (index === 0 ? BOOT_PROCESSOR : 0)
    const head = pack([1, MP_ENTRY.PROCESSOR], [1, id], [1, LOCAL_APIC_VERSION], [1, flags])
    return concat(head, pack([4, cpuSignature], [4, cpuFeatures], [8, 0]))
  })
}

function ioApicEntry({ id, gpa }: IoApic): Uint8Array {
  return pack([1, MP_ENTRY.IO_APIC], [1, id], [1, IO_APIC_VERSION], [1, ENABLED], [4, gpa])
}

function isaInterrupts(ioApic: IoApic, overrides: readonly InterruptOverride[]): Uint8Array[] {
  const lines = Array.from({ length: ISA_INTERRUPTS }, (_, irq) => irq)
  return lines
    .filter((irq) => irq !== CASCADE)
    .map((irq) => {
      const entry = overrides.find((override) => override.irq === irq) ?? { irq, gsi: irq }
      const input = entry.gsi - ioApic.gsiBase
      const kind = pack([1, MP_ENTRY.IO_INTERRUPT], [1, MP_INTERRUPT.INT])
      const source = pack([2, interruptFlags(entry)], [1, ISA_BUS], [1, irq])
      return concat(kind, source, pack([1, ioApic.id], [1, input]))
    })
}

function localInterrupt(kind: number, localApicId: number, lint: number): Uint8Array {
  const head = pack([1, MP_ENTRY.LOCAL_INTERRUPT], [1, kind], [2, 0])
  return concat(head, pack([1, ISA_BUS], [1, 0], [1, localApicId], [1, lint]))
}
