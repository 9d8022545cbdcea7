// The wire from a device to an interrupt controller. A device only knows the level it drives; what
// the level means (edge or level triggered, which GSI, an ioctl or an eventfd) is the machine's.

/** An interrupt input as a device sees it. `set` may be called with the level it already has. */
export interface InterruptLine {
  /** Drives the line: `true` asserts the interrupt. */
  set(level: boolean): void
}

/** A line that leads nowhere, for devices whose interrupts nobody wants. */
export const unconnectedLine: InterruptLine = { set() {} }

/** Asserts and releases the line at once: one edge. */
export function pulse(line: InterruptLine): void {
  line.set(true)
  line.set(false)
}
