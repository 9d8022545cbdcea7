// All ACPI tables of a machine, each at its address.

import {
  ACPI_PM_BASE,
  ACPI_SCI_IRQ,
  RESET_CONTROL_HARD,
  RESET_CONTROL_PORT,
} from '../../devices/acpi-ports.js'
import { checkInteger } from '../../x86/out-of-range.js'
import { alignUp } from '../align.js'
import { checkPageAligned } from '../arguments.js'
import { BootError, hex } from '../boot-error.js'
import { ACPI_GPA, BYTES_PER_PAGE, GPA_4G, MP_TABLE_GPA } from '../layout.js'
import { E820_TYPE, type MemoryMapEntry } from '../memory-map.js'
import type { Aml } from './aml.js'
import { type AcpiSerialPort, encodeDsdt } from './dsdt.js'
import { encodeFadt, IAPC_BOOT_ARCH, type ResetRegister } from './fadt.js'
import { type AcpiHpet, encodeHpetTable } from './hpet.js'
import {
  type InterruptOverride,
  type IoApic,
  KVM_IO_APIC,
  PC_INTERRUPT_OVERRIDES,
} from './interrupt-topology.js'
import { encodeMadt } from './madt.js'
import { type AcpiPciHost, ecamRange, encodeMcfg } from './pci-host.js'
import { encodeFacs, encodeRsdp, encodeXsdt, FACS_SIZE } from './root-tables.js'

/** The machine that the tables describe. Only `cpus` is needed; the rest is a PC without PCI. */
export interface AcpiOptions {
  /** Local APIC ids; the boot processor first. Ids from 255 on get x2APIC entries. */
  readonly cpus: readonly number[]
  /** Default {@link KVM_IO_APIC}. */
  readonly ioApics?: readonly IoApic[] | undefined
  /** Default {@link PC_INTERRUPT_OVERRIDES}; see there about the timer. */
  readonly interruptOverrides?: readonly InterruptOverride[] | undefined
  /** First port of the power management; default {@link ACPI_PM_BASE}. */
  readonly pmBase?: number | undefined
  /** Width of the power-management timer; default 32. */
  readonly pmTimerBits?: 24 | 32 | undefined
  /** Default {@link ACPI_SCI_IRQ}. */
  readonly sciIrq?: number | undefined
  /** How to reset; default 6 to port 0xcf9. `null`: not by ACPI. */
  readonly reset?: ResetRegister | null | undefined
  /** Default one, at 0x3f8 with interrupt 4. */
  readonly serialPorts?: readonly AcpiSerialPort[] | undefined
  /** Whether there is a clock at 0x70; default true. */
  readonly rtc?: boolean | undefined
  /** Whether there is an 8042 at 0x60; default true. */
  readonly keyboardController?: boolean | undefined
  /** Whether there is a VGA adapter; default false. */
  readonly vga?: boolean | undefined
  readonly pci?: AcpiPciHost | undefined
  readonly hpet?: AcpiHpet | undefined
  /** More AML for the scope `\_SB`: devices of the machine's own. */
  readonly devices?: readonly Aml[] | undefined
  /** Where the tables begin, a multiple of 4 KiB below 4 GiB; default {@link ACPI_GPA}. */
  readonly gpa?: number | undefined
  /** One past the last address they may take; default 4 GiB, or {@link MP_TABLE_GPA} for low ones. */
  readonly end?: number | undefined
}

/** One table and its address. */
export interface AcpiTable {
  /** Signature, such as `APIC`; `RSDP` for the root pointer. */
  readonly name: string
  readonly gpa: number
  readonly bytes: Uint8Array
}

/** The result of {@link createAcpiTables}. */
export interface AcpiTables {
  /** Address of the root pointer, for the loaders' `rsdpGpa`. */
  readonly rsdpGpa: number
  /** Ascending by address. */
  readonly tables: readonly AcpiTable[]
  /** What the memory map must say about the tables, for the loaders' `reservations`. */
  readonly reservations: readonly MemoryMapEntry[]
}

/** The specification asks no alignment of most tables; readers like their fields aligned. */
const TABLE_ALIGNMENT = 16

/**
 * Makes RSDP, FACS, DSDT, FADT, MADT, where asked for MCFG and HPET, and XSDT (ACPI 6.5 §5.2).
 *
 * The first page, with the root pointer and the FACS, is for the guest's firmware data to stay
 * (type NVS); the pages of the other tables may be reclaimed.
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` for options that no table can express; BootError
 *   `ERR_BOOT_NO_SPACE` when the tables do not fit before `end`
 */
export function createAcpiTables(options: AcpiOptions): AcpiTables {
  const { gpa: rsdpGpa = ACPI_GPA } = options
  const { end = rsdpGpa < MP_TABLE_GPA ? MP_TABLE_GPA : GPA_4G } = options
  checkPageAligned('gpa', rsdpGpa)
  checkInteger('gpa', rsdpGpa, BYTES_PER_PAGE, GPA_4G - 1)
  checkInteger('end', end, rsdpGpa, GPA_4G)
  const reclaimableGpa = rsdpGpa + BYTES_PER_PAGE
  const facsGpa = rsdpGpa + FACS_SIZE
  const tables: AcpiTable[] = []
  let next = reclaimableGpa
  const add = (name: string, bytes: Uint8Array): number => {
    const gpa = next
    tables.push({ name, gpa, bytes })
    next = alignUp(gpa + bytes.length, TABLE_ALIGNMENT)
    return gpa
  }

  const dsdtGpa = add('DSDT', createDsdt(options))
  const listed = [add('FACP', createFadt(options, facsGpa, dsdtGpa))]
  listed.push(add('APIC', createMadt(options)))
  const ecam = options.pci && ecamRange(options.pci)
  if (ecam) listed.push(add('MCFG', encodeMcfg(ecam)))
  if (options.hpet) listed.push(add('HPET', encodeHpetTable(options.hpet)))
  const xsdtGpa = add('XSDT', encodeXsdt(listed))
  const size = alignUp(next, BYTES_PER_PAGE) - reclaimableGpa
  if (reclaimableGpa + size > end) throw noSpace(rsdpGpa, size + BYTES_PER_PAGE, end)

  const root = [
    { name: 'RSDP', gpa: rsdpGpa, bytes: encodeRsdp(xsdtGpa) },
    { name: 'FACS', gpa: facsGpa, bytes: encodeFacs() },
  ]
  const reservations = [
    { gpa: rsdpGpa, size: BYTES_PER_PAGE, type: E820_TYPE.NVS },
    { gpa: reclaimableGpa, size, type: E820_TYPE.ACPI },
  ]
  return { rsdpGpa, tables: [...root, ...tables], reservations }
}

function createDsdt(options: AcpiOptions): Uint8Array {
  const { pmBase = ACPI_PM_BASE, serialPorts = [{ port: 0x3f8, irq: 4 }] } = options
  const { rtc = true, keyboardController = true, pci, hpet, devices = [] } = options
  return encodeDsdt({ pmBase, serialPorts, rtc, keyboardController, pci, hpet, devices })
}

function createFadt(options: AcpiOptions, facsGpa: number, dsdtGpa: number): Uint8Array {
  const { pmBase = ACPI_PM_BASE, pmTimerBits = 32, sciIrq = ACPI_SCI_IRQ } = options
  const cf9 = { port: RESET_CONTROL_PORT, value: RESET_CONTROL_HARD }
  const reset = options.reset === undefined ? cf9 : (options.reset ?? undefined)
  const bootArch = bootArchitecture(options)
  return encodeFadt({ facsGpa, dsdtGpa, pmBase, pmTimerBits, sciIrq, reset, bootArch })
}

function bootArchitecture({ rtc, keyboardController, vga, serialPorts }: AcpiOptions): number {
  const legacy = serialPorts?.length !== 0 ? IAPC_BOOT_ARCH.LEGACY_DEVICES : 0
  const keyboard = keyboardController !== false ? IAPC_BOOT_ARCH['8042'] : 0
  const noVga = vga !== true ? IAPC_BOOT_ARCH.VGA_NOT_PRESENT : 0
  const noRtc = rtc === false ? IAPC_BOOT_ARCH.CMOS_RTC_NOT_PRESENT : 0
  return legacy + keyboard + noVga + noRtc
}

function createMadt(options: AcpiOptions): Uint8Array {
  const { cpus, ioApics = [KVM_IO_APIC] } = options
  const { interruptOverrides: overrides = PC_INTERRUPT_OVERRIDES } = options
  return encodeMadt({ cpus, ioApics, overrides })
}

function noSpace(gpa: number, size: number, limit: number): BootError {
  const message =
    `the ACPI tables at ${hex(gpa)} take ${hex(size)} bytes and must end before ${hex(limit)}; ` +
    'give another place for them (gpa, end)'
  return new BootError('ERR_BOOT_NO_SPACE', message, { placement: 'ACPI tables', gpa, size, limit })
}
