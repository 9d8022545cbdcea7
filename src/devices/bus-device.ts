// What a bus asks of a device. The interface is small on purpose: a device is a register file, and
// everything else about it (interrupt lines, streams, clocks) comes through its constructor.

/**
 * A device on a port or memory bus. Offsets count from the first address of the range it was added
 * with; values are unsigned. A device may throw: the bus reports it as a `DeviceError`.
 */
export interface BusDevice {
  /** Short and unique enough for a message, such as `com1`. */
  readonly name: string
  /**
   * The widest access in bytes the device takes at once; 4 when absent. The bus cuts wider accesses
   * into several, lowest address first, as the ISA bus does for 8-bit cards.
   */
  readonly width?: 1 | 2 | 4
  /** Reads `size` (1, 2 or 4) bytes; bits beyond `size` are cut off by the bus. */
  read(offset: number, size: number): number
  /** Writes `size` (1, 2 or 4) bytes. */
  write(offset: number, size: number, value: number): void
  /** Serves an 8-byte read whole. Without it the bus makes two reads of 4 bytes, low half first. */
  read64?(offset: number): bigint
  /** Serves an 8-byte write whole. Without it the bus makes two writes of 4 bytes, low half first. */
  write64?(offset: number, value: bigint): void
  /** Puts the device into its state after power-on. */
  reset?(): void
}
