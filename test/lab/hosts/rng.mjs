// Entropy devices in every way a driver can reach them.
import { VirtioRng } from '../../../lib/devices/index.js'

export const machineOptions = () => ({
  devices: [
    new VirtioRng(),
    { device: new VirtioRng(), packed: true },
    { device: new VirtioRng(), transport: 'mmio' },
    { device: new VirtioRng(), transport: 'mmio', packed: true },
  ],
})
