// Port 0x80, where firmware shows its progress and Linux writes to pass a microsecond. It gets a
// device of its own so that those writes do not count as unclaimed.

import type { BusDevice } from './bus-device.js'

/** The one port of {@link PostCodePort}. */
export const POST_CODE_PORT = 0x80

/** Keeps the last byte written. */
export class PostCodePort implements BusDevice {
  readonly name = 'post-code'
  readonly width = 1
  /** The last byte the guest wrote. */
  lastCode = 0

  read(): number {
    return this.lastCode
  }

  write(_offset: number, _size: number, value: number): void {
    this.lastCode = value
  }

  reset(): void {
    this.lastCode = 0
  }
}
