// The one-port console of Bochs (0xE9) and of firmware debug builds (0x402): a write prints a byte,
// and a read gives a signature by which a guest recognises it.

import type { BusDevice } from './bus-device.js'
import { ByteOutput } from './byte-output.js'

/** Where a {@link DebugConsole} usually sits; it takes 1 port. */
export const DEBUG_CONSOLE_PORTS = { bochs: 0xe9, firmware: 0x402 } as const

/** What a {@link DebugConsole} reads as. */
export const DEBUG_CONSOLE_SIGNATURE = 0xe9

/** Options of {@link DebugConsole}. */
export interface DebugConsoleOptions {
  /** Bytes of output kept while nobody reads `output`; see `ByteOutputOptions.limit`. */
  readonly outputLimit?: number
  /** Sees every byte at once, beside `output`. */
  readonly onByte?: (byte: number) => void
}

/** A write-only console: what the guest writes comes out of `output`. Reads give 0xE9. */
export class DebugConsole implements BusDevice {
  readonly name = 'debug-console'
  readonly width = 1
  /** What the guest prints. */
  readonly output: ByteOutput
  readonly #onByte: ((byte: number) => void) | undefined

  constructor(options: DebugConsoleOptions = {}) {
    const limit = options.outputLimit
    this.output = new ByteOutput(limit === undefined ? {} : { limit })
    this.#onByte = options.onByte
  }

  /** Ends `output` after what was written so far. */
  close(): void {
    this.output.finish()
  }

  read(): number {
    return DEBUG_CONSOLE_SIGNATURE
  }

  write(_offset: number, _size: number, value: number): void {
    this.output.writeByte(value)
    this.#onByte?.(value)
  }
}
