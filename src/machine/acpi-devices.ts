// The machine's devices that a guest finds only where the DSDT says that they are.

import { aml, amlResources } from '../boot/index.js'
import { FW_CFG_PORT, FW_CFG_PORTS, PVPANIC_PORT } from '../devices/index.js'

const { ioPorts, resourceTemplate } = amlResources

/** Present, enabled, functioning, but nothing for a user to see (ACPI 6.5 §6.3.7). */
const HIDDEN = 0x0b

/** For `devices` of `AcpiOptions`. */
export const machineAcpiDevices: readonly aml.Aml[] = [
  portDevice('FWCF', 'QEMU0002', FW_CFG_PORT, FW_CFG_PORTS),
  portDevice('PEVT', 'QEMU0001', PVPANIC_PORT, 1),
]

function portDevice(name: string, id: string, port: number, length: number): aml.Aml {
  return aml.device(
    name,
    aml.name('_HID', aml.string(id)),
    aml.name('_STA', aml.integer(HIDDEN)),
    aml.name('_CRS', resourceTemplate(ioPorts(port, length))),
  )
}
