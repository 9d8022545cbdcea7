// @ts-check
// devices.mjs over PCI.
import { devicesOver } from './devices.mjs'

export const { machineOptions, whileRunning } = devicesOver('pci')
