// A port that ends the machine with a status, for test guests.

import type { BusDevice } from './bus-device.js'

/** Where {@link DebugExit} usually sits; it takes 4 ports. */
export const DEBUG_EXIT_PORT = 0xf4

/**
 * Hands what the guest writes (1, 2 or 4 bytes, unsigned) to `onExit` as its exit status. Unlike
 * QEMU's isa-debug-exit, which turns a value `v` into `v * 2 + 1`, the value stays as it is, so
 * that 0 can mean success. Reads give 0.
 */
export class DebugExit implements BusDevice {
  readonly name = 'debug-exit'
  readonly #onExit: (status: number) => void

  constructor(onExit: (status: number) => void) {
    this.#onExit = onExit
  }

  read(): number {
    return 0
  }

  write(_offset: number, _size: number, value: number): void {
    this.#onExit(value)
  }
}
