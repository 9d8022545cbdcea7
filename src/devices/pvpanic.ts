// The port by which a kernel says that it panicked (QEMU, docs/specs/pvpanic.rst).

import type { BusDevice } from './bus-device.js'

/** The one port of {@link Pvpanic}. */
export const PVPANIC_PORT = 0x505

/** What a guest can report. */
export type PanicEvent = 'panicked' | 'crashLoaded'

const PANICKED = 0x01
const CRASH_LOADED = 0x02

/** Tells what the guest reports: that it panicked, or that it did and its crash kernel will run. */
export class Pvpanic implements BusDevice {
  readonly name = 'pvpanic'
  readonly width = 1
  readonly #onEvent: (event: PanicEvent) => void

  constructor(onEvent: (event: PanicEvent) => void) {
    this.#onEvent = onEvent
  }

  read(): number {
    return PANICKED | CRASH_LOADED
  }

  write(_offset: number, _size: number, value: number): void {
    if (value & PANICKED) this.#onEvent('panicked')
    else if (value & CRASH_LOADED) this.#onEvent('crashLoaded')
  }
}
