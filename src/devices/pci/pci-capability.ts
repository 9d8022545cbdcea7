// What a function can do beyond the header: a linked list of records in its configuration space.

/** One record of a function's list of capabilities (PCI Local Bus Specification 3.0 §6.7). */
export interface PciCapability {
  readonly id: number
  /**
   * The record as it is after a reset, from its third byte on (the first two, id and link, are the
   * function's).
   */
  readonly initial: Uint8Array
  /** The bits of `initial` that the guest can write; none when absent. */
  readonly writable?: Uint8Array
  /** Told before a read of bytes `from` to `to`, to bring `bytes` (in place of `initial`) up to date. */
  onRead?(bytes: Uint8Array, from: number, to: number): void
  /** Told what `bytes` are after a write of those `from` to `to`, or, without these two, after a reset. */
  onWrite?(bytes: Uint8Array, from?: number, to?: number): void
}
