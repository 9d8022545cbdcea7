// The differentiated system description table: how to power off, and the devices that no bus can
// enumerate.

import { ACPI_PM_BLOCK, ACPI_PM_LENGTH, ACPI_S5_SLEEP_TYPE } from '../../devices/acpi-ports.js'
import { checkInteger } from '../../x86/out-of-range.js'
import type { Aml } from './aml.js'
import * as aml from './aml.js'
import {
  ioPorts,
  irq,
  memory32Fixed,
  type ResourceDescriptor,
  resourceTemplate,
} from './aml-resources.js'
import { type AcpiHpet, hpetDevice } from './hpet.js'
import { concat } from './pack.js'
import { type AcpiPciHost, ecamRange, pciHostDevice } from './pci-host.js'
import { encodeSdt } from './sdt.js'

/** A 16550-compatible serial port on the ISA bus. */
export interface AcpiSerialPort {
  /** First of its eight ports. */
  readonly port: number
  /** ISA interrupt. */
  readonly irq: number
}

/** What the DSDT says. */
export interface DsdtContent {
  readonly pmBase: number
  readonly serialPorts: readonly AcpiSerialPort[]
  readonly rtc: boolean
  readonly keyboardController: boolean
  readonly pci: AcpiPciHost | undefined
  readonly hpet: AcpiHpet | undefined
  /** More terms for the scope `\_SB`. */
  readonly devices: readonly Aml[]
}

/** The DSDT, with 64-bit integers (revision 2). */
export function encodeDsdt(content: DsdtContent): Uint8Array {
  const { rtc, keyboardController, serialPorts, pci, hpet } = content
  checkInteger('serialPorts.length', serialPorts.length, 0, 9)
  const devices = [
    boardDevice(content),
    ...serialPorts.map(serialDevice),
    ...(rtc ? [isaDevice('RTC', 'PNP0B00', ioPorts(0x70, 2), irq(8))] : []),
    ...(keyboardController ? [keyboardDevice()] : []),
    ...(hpet ? [hpetDevice(hpet)] : []),
    ...(pci ? [pciHostDevice(pci)] : []),
    ...content.devices,
  ]
  return encodeSdt('DSDT', 2, concat(sleepState5(), aml.scope('\\_SB', ...devices)))
}

/** `\_S5`: the sleep types that power off, for PM1a and PM1b control (ACPI 6.5 §7.4.2). */
function sleepState5(): Aml {
  const sleepType = aml.integer(ACPI_S5_SLEEP_TYPE)
  const zero = aml.integer(0)
  return aml.name('\\_S5', aml.packageOf([sleepType, sleepType, zero, zero]))
}

/** What the board itself decodes. Linux trusts an ECAM only when a device like this one claims it. */
function boardDevice({ pmBase, pci }: DsdtContent): Aml {
  const ecam = pci && ecamRange(pci)
  const pmLength = ACPI_PM_BLOCK.gpe0 + ACPI_PM_LENGTH.gpe0
  const registers = ecam ? [memory32Fixed(ecam.gpa, ecam.size)] : []
  return isaDevice('MBRD', 'PNP0C02', ioPorts(pmBase, pmLength), ...registers)
}

function serialDevice({ port, irq: number }: AcpiSerialPort, index: number): Aml {
  const uid = aml.name('_UID', aml.integer(index + 1))
  const resources = resourceTemplate(ioPorts(port, 8), irq(number))
  const hid = aml.name('_HID', aml.eisaId('PNP0501'))
  return aml.device(`COM${index + 1}`, hid, uid, aml.name('_CRS', resources))
}

function keyboardDevice(): Aml {
  return isaDevice('KBD', 'PNP0303', ioPorts(0x60, 1), ioPorts(0x64, 1), irq(1))
}

function isaDevice(name: string, id: string, ...resources: readonly ResourceDescriptor[]): Aml {
  const hid = aml.name('_HID', aml.eisaId(id))
  return aml.device(name, hid, aml.name('_CRS', resourceTemplate(...resources)))
}
