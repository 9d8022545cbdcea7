// @ts-check
// devices.mjs over MMIO.
import { devicesOver } from './devices.mjs'

export const { machineOptions, whileRunning } = devicesOver('mmio')
