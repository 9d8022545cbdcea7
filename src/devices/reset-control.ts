// The reset control register of Intel's chip sets (port 0xcf9), by which ACPI and many kernels
// restart a PC.

import type { BusDevice } from './bus-device.js'

/** The bit whose change from 0 to 1 resets. */
const RESET_CPU = 0x04
/** Hard reset, reset now, full reset: the bits that exist. */
const IMPLEMENTED = 0x0e

/**
 * One port: writing 0x06 or 0x0e resets the machine (ICH datasheet, RST_CNT). The kind of reset, hard
 * (bit 1) or of the processors alone, makes no difference here.
 *
 * A PCI host bridge takes four ports from 0xcf8 on, among them this one: then do not put this device
 * on the bus, but let the bridge pass byte accesses to its second port on.
 */
export class ResetControl implements BusDevice {
  readonly name = 'reset-control'
  readonly width = 1
  readonly #onReset: () => void
  #value = 0

  constructor(onReset: () => void) {
    this.#onReset = onReset
  }

  read(): number {
    return this.#value
  }

  write(_offset: number, _size: number, value: number): void {
    const resets = (value & ~this.#value & RESET_CPU) !== 0
    this.#value = value & IMPLEMENTED
    if (resets) this.#onReset()
  }

  reset(): void {
    this.#value = 0
  }
}
