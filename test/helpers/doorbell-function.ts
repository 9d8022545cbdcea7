// A PCI function whose driver is in the guest of guests/platform.S: a write of n to its first register
// raises MSI-X vector n.

import { type BusDevice, MsixCapability, PciFunction } from '../../src/devices/index.js'
import type { Machine } from '../../src/index.js'

/** Puts it into a slot. */
export function addDoorbell(machine: Machine, slot: number): void {
  const msix = new MsixCapability({ vectors: 2, barIndex: 1, create: machine.messageInterrupt })
  const device: BusDevice = {
    name: 'doorbell',
    read: () => 0,
    write: (_offset, _size, vector) => msix.signal(vector),
  }
  const bars = [{ kind: 'memory32', size: 4096, device } as const, msix.bar]
  const ids = { vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff_0000 }
  const capabilities = [msix]
  machine.pci.add(slot, new PciFunction({ name: 'doorbell', ...ids, bars, capabilities }))
}
