// The fixed ACPI description table: which ports the power management has and what the machine lacks
// (ACPI 6.5 §5.2.9, revision 6.5).

import { ACPI_PM_BLOCK, ACPI_PM_LENGTH } from '../../devices/acpi-ports.js'
import { checkInteger } from '../../x86/out-of-range.js'
import { concat, pack, paddedText, putField } from './pack.js'
import { encodeSdt, SDT_HEADER_SIZE } from './sdt.js'

/** Bytes in a FADT of revision 6. */
export const FADT_SIZE = 276

/** Offsets of the fields that are not 0, from the start of the table (ACPI 6.5, table 5.9). */
export const FADT = {
  FIRMWARE_CTRL: 36,
  DSDT: 40,
  SCI_INT: 46,
  PM1a_EVT_BLK: 56,
  PM1a_CNT_BLK: 64,
  PM_TMR_BLK: 76,
  GPE0_BLK: 80,
  PM1_EVT_LEN: 88,
  PM1_CNT_LEN: 89,
  PM_TMR_LEN: 91,
  GPE0_BLK_LEN: 92,
  P_LVL2_LAT: 96,
  P_LVL3_LAT: 98,
  CENTURY: 108,
  IAPC_BOOT_ARCH: 109,
  Flags: 112,
  RESET_REG: 116,
  RESET_VALUE: 128,
  MinorVersion: 131,
  X_DSDT: 140,
  X_PM1a_EVT_BLK: 148,
  X_PM1a_CNT_BLK: 172,
  X_PM_TMR_BLK: 208,
  X_GPE0_BLK: 220,
  HypervisorVendorIdentity: 268,
} as const

/** Bits of {@link FADT.IAPC_BOOT_ARCH} (ACPI 6.5, table 5.11). */
export const IAPC_BOOT_ARCH = {
  LEGACY_DEVICES: 0x01,
  '8042': 0x02,
  VGA_NOT_PRESENT: 0x04,
  MSI_NOT_SUPPORTED: 0x08,
  PCIE_ASPM_CONTROLS: 0x10,
  CMOS_RTC_NOT_PRESENT: 0x20,
} as const

/** Bits of {@link FADT.Flags} that occur here (ACPI 6.5, table 5.10). */
export const FADT_FLAGS = {
  WBINVD: 2 ** 0,
  PROC_C1: 2 ** 2,
  /** Set: there is no sleep button in the fixed registers. (The power button, bit 4, there is.) */
  SLP_BUTTON: 2 ** 5,
  /** Set: the clock's wake-up is not in the fixed registers. */
  FIX_RTC: 2 ** 6,
  TMR_VAL_EXT: 2 ** 8,
  RESET_REG_SUP: 2 ** 10,
} as const

/** Address of the century in the CMOS RAM of PCs. */
const CMOS_CENTURY = 0x32
/** The latencies that mean "no C2" and "no C3": the least above the allowed. */
const NO_C2 = 101
const NO_C3 = 1001

/** A port that resets the machine when `value` is written to it. */
export interface ResetRegister {
  readonly port: number
  readonly value: number
}

/** What the FADT says. */
export interface FadtContent {
  readonly facsGpa: number
  readonly dsdtGpa: number
  readonly pmBase: number
  readonly pmTimerBits: 24 | 32
  readonly sciIrq: number
  readonly reset: ResetRegister | undefined
  /** Sum of {@link IAPC_BOOT_ARCH} bits. */
  readonly bootArch: number
}

/** The FADT (signature `FACP`), for fixed ACPI hardware that is always in ACPI mode. */
export function encodeFadt(content: FadtContent): Uint8Array {
  const body = new Uint8Array(FADT_SIZE - SDT_HEADER_SIZE)
  const put = (offset: number, size: number, value: number) =>
    putField(body, offset - SDT_HEADER_SIZE, size, value)
  // FACS by its 32-bit field alone: only one of the two may be used. DSDT by both, for old readers.
  put(FADT.FIRMWARE_CTRL, 4, content.facsGpa)
  put(FADT.DSDT, 4, content.dsdtGpa)
  put(FADT.X_DSDT, 8, content.dsdtGpa)
  put(FADT.SCI_INT, 2, content.sciIrq)
  put(FADT.P_LVL2_LAT, 2, NO_C2)
  put(FADT.P_LVL3_LAT, 2, NO_C3)
  const hasRtc = Math.floor(content.bootArch / IAPC_BOOT_ARCH.CMOS_RTC_NOT_PRESENT) % 2 === 0
  put(FADT.CENTURY, 1, hasRtc ? CMOS_CENTURY : 0)
  put(FADT.IAPC_BOOT_ARCH, 2, content.bootArch)
  put(FADT.Flags, 4, fadtFlags(content))
  put(FADT.MinorVersion, 1, 5)
  putPmBlocks(body, content.pmBase)
  if (content.reset) putReset(body, content.reset)
  body.set(paddedText('node-kvm', 8), FADT.HypervisorVendorIdentity - SDT_HEADER_SIZE)
  return encodeSdt('FACP', 6, body)
}

function fadtFlags({ pmTimerBits, reset }: FadtContent): number {
  const always = FADT_FLAGS.WBINVD + FADT_FLAGS.PROC_C1 + FADT_FLAGS.SLP_BUTTON + FADT_FLAGS.FIX_RTC
  const timer = pmTimerBits === 32 ? FADT_FLAGS.TMR_VAL_EXT : 0
  return always + timer + (reset ? FADT_FLAGS.RESET_REG_SUP : 0)
}

type PmBlock = keyof typeof ACPI_PM_BLOCK

/** Where the FADT names each block: its old field, its length, its generic address, access size. */
const PM_FIELDS: readonly (readonly [PmBlock, number, number, number, number])[] = [
  ['pm1Event', FADT.PM1a_EVT_BLK, FADT.PM1_EVT_LEN, FADT.X_PM1a_EVT_BLK, 2],
  ['pm1Control', FADT.PM1a_CNT_BLK, FADT.PM1_CNT_LEN, FADT.X_PM1a_CNT_BLK, 2],
  ['timer', FADT.PM_TMR_BLK, FADT.PM_TMR_LEN, FADT.X_PM_TMR_BLK, 3],
  ['gpe0', FADT.GPE0_BLK, FADT.GPE0_BLK_LEN, FADT.X_GPE0_BLK, 1],
]

function putPmBlocks(body: Uint8Array, pmBase: number): void {
  checkInteger('pmBase', pmBase, 1, 0xffc0)
  for (const [block, portField, lengthField, addressField, access] of PM_FIELDS) {
    const port = pmBase + ACPI_PM_BLOCK[block]
    const length = ACPI_PM_LENGTH[block]
    putField(body, portField - SDT_HEADER_SIZE, 4, port)
    putField(body, lengthField - SDT_HEADER_SIZE, 1, length)
    body.set(portAddress(port, length, access), addressField - SDT_HEADER_SIZE)
  }
}

function putReset(body: Uint8Array, { port, value }: ResetRegister): void {
  checkInteger('reset.port', port, 0, 0xffff)
  checkInteger('reset.value', value, 0, 0xff)
  body.set(portAddress(port, 1, 1), FADT.RESET_REG - SDT_HEADER_SIZE)
  putField(body, FADT.RESET_VALUE - SDT_HEADER_SIZE, 1, value)
}

const SPACE_SYSTEM_IO = 1

/** A generic address structure in port space (ACPI 6.5 §5.2.3.2). */
function portAddress(port: number, length: number, access: number): Uint8Array {
  return concat(pack([1, SPACE_SYSTEM_IO], [1, 8 * length], [1, 0], [1, access], [8, port]))
}
