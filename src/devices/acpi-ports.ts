// Where the ACPI fixed hardware sits. Numbers only: the device that answers at these ports and the
// tables that name them must agree, and neither should import the other.

/** First port of the power-management block, where {@link AcpiPm} is attached by default. */
export const ACPI_PM_BASE = 0x600

/** Offsets from the power-management base, in ports (ACPI 6.5 §4.8.3 and §4.8.4.1). */
export const ACPI_PM_BLOCK = {
  /** PM1a status (2 ports), then PM1a enable (2 ports). */
  pm1Event: 0x00,
  /** PM1a control (2 ports). */
  pm1Control: 0x04,
  /** Power-management timer (4 ports). */
  timer: 0x08,
  /** General-purpose event 0: status (2 ports), then enable (2 ports). */
  gpe0: 0x20,
} as const

/** Ports that each register block takes. */
export const ACPI_PM_LENGTH = { pm1Event: 4, pm1Control: 2, timer: 4, gpe0: 4 } as const

/** Ports from the power-management base to the end of the last block. */
export const ACPI_PM_PORTS = ACPI_PM_BLOCK.gpe0 + ACPI_PM_LENGTH.gpe0

/** ISA interrupt of the system control interrupt (SCI); level-triggered, active high. */
export const ACPI_SCI_IRQ = 9

/**
 * SLP_TYP value that means soft off (S5). It is 0 as in QEMU's machines, so that small kernels which
 * power off by writing 0x2000 to port 0x604 without reading the tables succeed here too.
 */
export const ACPI_S5_SLEEP_TYPE = 0

/** The reset control register of Intel's chip sets, a single port (ICH datasheet, RST_CNT). */
export const RESET_CONTROL_PORT = 0xcf9

/** The value that makes {@link RESET_CONTROL_PORT} reset the machine: hard reset, now. */
export const RESET_CONTROL_HARD = 0x06
