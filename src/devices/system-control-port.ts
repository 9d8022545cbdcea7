// System control port A of the PS/2 (port 0x92): the fast way to open A20 and to reset.

import type { A20Gate } from './a20-gate.js'
import type { BusDevice } from './bus-device.js'

/** The one port of {@link SystemControlPort}. */
export const SYSTEM_CONTROL_PORT = 0x92

/** Options of {@link SystemControlPort}. */
export interface SystemControlPortOptions {
  /** Called when the guest asks for a reset of the processor. */
  readonly onReset?: () => void
  /** Give the keyboard controller the same object. */
  readonly a20?: A20Gate
}

const RESET = 0x01
const A20 = 0x02

/** One port: bit 0 resets when it goes from 0 to 1, bit 1 is the A20 gate, the rest is kept. */
export class SystemControlPort implements BusDevice {
  readonly name = 'system-control'
  readonly width = 1
  readonly #onReset: (() => void) | undefined
  readonly #a20: A20Gate
  #value = 0

  constructor(options: SystemControlPortOptions = {}) {
    this.#onReset = options.onReset
    this.#a20 = options.a20 ?? { enabled: true }
  }

  read(): number {
    return (this.#value & ~A20) | (this.#a20.enabled ? A20 : 0)
  }

  write(_offset: number, _size: number, value: number): void {
    const asksReset = (value & ~this.#value & RESET) !== 0
    this.#value = value
    this.#a20.enabled = (value & A20) !== 0
    if (asksReset) this.#onReset?.()
  }

  reset(): void {
    this.#value = 0
    this.#a20.enabled = true
  }
}
