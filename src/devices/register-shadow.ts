// Registers that others may read, and write, in a device's stead: how a device that is JavaScript lets
// accesses without consequences be answered where they are made.

/** Bit of a gate: a read gives what the shadow holds and has no effect on the device. */
export const READS = 1

/** Bit of a gate: a write may be handed to the device later, in its turn. */
export const WRITES = 2

/** Bit of a gate: and that soon, with no register read before. */
export const URGENT = 4

/**
 * A device's registers as it keeps them up to date, in memory that may be shared with others, and for
 * each of them whether it can be read ({@link READS}) or written ({@link WRITES}, {@link URGENT}) without
 * the device.
 */
export interface RegisterShadow {
  readonly registers: Uint8Array
  readonly gate: Uint8Array
  /**
   * One number: up to when reads give what the shadow holds, in nanoseconds of `process.hrtime`. For devices
   * whose registers change with time.
   */
  readonly until?: BigUint64Array
  /** Hands over writes that are late. Called before something from outside changes the device: they came before it. */
  readonly settle?: () => void
}
