// What the emulated processor of the lab cannot do, where trying would end the emulator.

/**
 * Whether a guest may come from that ring to ring 0 by its task state. QEMU 7.2 takes the busy TSS of
 * an SVM guest outside of long mode for an invalid one and aborts.
 */
export function canChangeRings(mode: string, ring: number): boolean {
  return process.env.LAB !== 'svm' || mode !== 'protected' || ring === 0
}
