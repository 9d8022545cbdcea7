// A PCI host bridge as ACPI describes it: the windows it forwards, where the interrupt pins arrive,
// and who may control PCI Express features; and the table that says where ECAM is.

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'
import { GPA_4G } from '../layout.js'
import type { GpaRange } from '../memory-map.js'
import type { Aml } from './aml.js'
import * as aml from './aml.js'
import {
  dwordMemory,
  ioPorts,
  qwordMemory,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from './aml-resources.js'
import { concat, pack } from './pack.js'
import { encodeSdt } from './sdt.js'

/** A host bridge with bus 0 and what is below it. */
export interface AcpiPciHost {
  /** Enhanced configuration space, 1 MiB a bus; below 4 GiB. Without it: configuration ports only. */
  readonly ecamGpa?: number | undefined
  /** Highest bus number, 0 to 255; default 255. */
  readonly lastBus?: number | undefined
  /** Memory that the bridge forwards below 4 GiB. */
  readonly memory32: GpaRange
  /** Memory that the bridge forwards above 4 GiB. */
  readonly memory64?: GpaRange | undefined
  /** Where INTA to INTD of slot 0 arrive; each further slot is turned by one pin. */
  readonly intxGsis: readonly [number, number, number, number]
}

/** Bytes of ECAM that one bus takes (PCI Express Base, "Enhanced Configuration Access Mechanism"). */
export const ECAM_BYTES_PER_BUS = 0x10_0000

const SLOTS = 32
const PINS = 4
/** The configuration ports, which no window may contain. */
const CONFIG_PORTS = { port: 0xcf8, length: 8 } as const

/** The ECAM range of a host, or undefined; throws `ERR_OUT_OF_RANGE` where ECAM cannot be. */
export function ecamRange({ ecamGpa, lastBus = 255 }: AcpiPciHost): GpaRange | undefined {
  checkInteger('pci.lastBus', lastBus, 0, 255)
  if (ecamGpa === undefined) return undefined
  const size = (lastBus + 1) * ECAM_BYTES_PER_BUS
  checkInteger('pci.ecamGpa', ecamGpa, 0, GPA_4G - size)
  if (ecamGpa % ECAM_BYTES_PER_BUS !== 0) throw outOfRange('pci.ecamGpa', 'whole MiB', ecamGpa)
  return { gpa: ecamGpa, size }
}

/** The device `PCI0`, for the scope `\_SB`. */
export function pciHostDevice(host: AcpiPciHost): Aml {
  const express = host.ecamGpa !== undefined
  const hid = aml.name('_HID', aml.eisaId(express ? 'PNP0A08' : 'PNP0A03'))
  const cid = express ? [aml.name('_CID', aml.eisaId('PNP0A03')), oscMethod()] : []
  return aml.device(
    'PCI0',
    hid,
    aml.name('_UID', aml.integer(0)),
    aml.name('_SEG', aml.integer(0)),
    aml.name('_BBN', aml.integer(0)),
    ...cid,
    aml.name('_CRS', windows(host)),
    aml.name('_PRT', routingTable(host.intxGsis)),
  )
}

function windows({ lastBus = 255, memory32, memory64 }: AcpiPciHost): Aml {
  const { port, length } = CONFIG_PORTS
  return resourceTemplate(
    wordBusNumber(0, lastBus),
    ioPorts(port, length),
    wordIo(0, port),
    wordIo(port + length, 0x1_0000 - port - length),
    dwordMemory(memory32.gpa, memory32.size),
    ...(memory64 ? [qwordMemory(memory64.gpa, memory64.size, true)] : []),
  )
}

/** `_PRT` (ACPI 6.5 §6.2.13): slot, pin, no link device, GSI. */
function routingTable(gsis: readonly number[]): Aml {
  const entries: Aml[] = []
  for (let slot = 0; slot < SLOTS; slot++) {
    for (let pin = 0; pin < PINS; pin++) {
      const address = aml.integer(slot * 0x1_0000 + 0xffff)
      const gsi = aml.integer(gsis[(slot + pin) % PINS]!)
      entries.push(aml.packageOf([address, aml.integer(pin), aml.integer(0), gsi]))
    }
  }
  return aml.packageOf(entries)
}

const OSC_PCI_UUID = '33db4d5b-1ff7-401c-9657-7441c03dd766'
/** Bits of _OSC's third double word (PCI Firmware specification, "_OSC Control Field"). */
const OSC_CONTROL = { nativeHotPlug: 0x01, pme: 0x04, aer: 0x08, capabilityStructure: 0x10 }
const OSC_BAD_UUID = 0x04
const OSC_BAD_REVISION = 0x08
const OSC_MASKED = 0x10

/** `_OSC` (ACPI 6.5 §6.2.11): hands PCI Express over to the guest; there is no firmware to share it. */
function oscMethod(): Aml {
  const granted = Object.values(OSC_CONTROL).reduce((sum, bit) => sum + bit, 0)
  const status = aml.reference('CDW1')
  const control = aml.reference('CDW3')
  const asked = aml.local(0)
  const report = (bit: number): Aml => aml.or(status, aml.integer(bit), status)
  return aml.method(
    '_OSC',
    4,
    [
      aml.createDwordField(aml.argument(3), 0, 'CDW1'),
      aml.ifThen(
        aml.equal(aml.argument(0), aml.uuid(OSC_PCI_UUID)),
        aml.createDwordField(aml.argument(3), 8, 'CDW3'),
        aml.store(control, asked),
        aml.and(control, aml.integer(granted), control),
        aml.ifThen(aml.not(aml.equal(aml.argument(1), aml.integer(1))), report(OSC_BAD_REVISION)),
        aml.ifThen(aml.not(aml.equal(asked, control)), report(OSC_MASKED)),
      ),
      aml.otherwise(report(OSC_BAD_UUID)),
      aml.returns(aml.argument(3)),
    ],
    true,
  )
}

/** Memory-mapped configuration table (PCI Firmware specification, "MCFG Table Description"). */
export function encodeMcfg(ecam: GpaRange): Uint8Array {
  const lastBus = ecam.size / ECAM_BYTES_PER_BUS - 1
  const allocation = pack([8, ecam.gpa], [2, 0], [1, 0], [1, lastBus], [4, 0])
  return encodeSdt('MCFG', 1, concat(pack([8, 0]), allocation))
}
