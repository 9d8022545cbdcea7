// Resource descriptors: what stands in a device's _CRS (ACPI 6.5 §6.4). Each function returns the
// bytes of one descriptor; `resourceTemplate` makes the buffer of them.

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'
import { type Aml, buffer } from './aml.js'
import { concat, pack } from './pack.js'

/** The bytes of one resource descriptor. */
export type ResourceDescriptor = Uint8Array

/** Descriptors, closed by the end tag, as a buffer for `_CRS`. */
export function resourceTemplate(...descriptors: readonly ResourceDescriptor[]): Aml {
  // A checksum of 0 in the end tag means that there is none.
  return buffer(concat(...descriptors, Uint8Array.of(0x79, 0x00)))
}

/** Ports `port` to `port + length - 1`, 16-bit decoded (§6.4.2.5); at most 255 of them. */
export function ioPorts(port: number, length: number): ResourceDescriptor {
  checkInteger('length', length, 1, 255)
  return pack([1, 0x47], [1, 0x01], [2, port], [2, port], [1, 0x01], [1, length])
}

/** ISA interrupt 0 to 15, edge-triggered and active high (§6.4.2.1). */
export function irq(number: number): ResourceDescriptor {
  checkInteger('irq', number, 0, 15)
  return pack([1, 0x22], [2, 2 ** number])
}

/** How an interrupt input behaves. */
export interface InterruptShape {
  readonly trigger: 'edge' | 'level'
  readonly polarity: 'high' | 'low'
  /** Whether several devices may drive it; default false. */
  readonly shared?: boolean | undefined
}

/** Global system interrupt of a device that consumes it (§6.4.3.6). */
export function interrupt(gsi: number, shape: InterruptShape): ResourceDescriptor {
  const edge = shape.trigger === 'edge' ? 0x02 : 0
  const low = shape.polarity === 'low' ? 0x04 : 0
  const flags = 0x01 + edge + low + (shape.shared === true ? 0x08 : 0)
  return pack([1, 0x89], [2, 6], [1, flags], [1, 1], [4, gsi])
}

/** Writable memory below 4 GiB that a device decodes (§6.4.3.4). */
export function memory32Fixed(gpa: number, size: number): ResourceDescriptor {
  return pack([1, 0x86], [2, 9], [1, 0x01], [4, gpa], [4, size])
}

/** PCI buses `first` to `last` below a host bridge (§6.4.3.5.3). */
export function wordBusNumber(first: number, last: number): ResourceDescriptor {
  return addressSpace(2, SPACE.bus, 0, first, last - first + 1)
}

/** Ports that a bridge forwards (§6.4.3.5.3). */
export function wordIo(port: number, length: number): ResourceDescriptor {
  return addressSpace(2, SPACE.io, 0x03, port, length)
}

/** Memory below 4 GiB that a bridge forwards, not cacheable, writable (§6.4.3.5.2). */
export function dwordMemory(gpa: number, size: number): ResourceDescriptor {
  return addressSpace(4, SPACE.memory, 0x01, gpa, size)
}

/** Memory anywhere that a bridge forwards; prefetchable says so to PCI drivers (§6.4.3.5.1). */
export function qwordMemory(gpa: number, size: number, prefetchable = false): ResourceDescriptor {
  return addressSpace(8, SPACE.memory, prefetchable ? 0x07 : 0x01, gpa, size)
}

const SPACE = { memory: 0, io: 1, bus: 2 } as const
const TAG = { 2: 0x88, 4: 0x87, 8: 0x8a } as const
/** Produced for the devices below, decoded positively, first and last address fixed. */
const PRODUCER_FIXED = 0x0c

function addressSpace(
  width: 2 | 4 | 8,
  space: number,
  typeFlags: number,
  first: number,
  length: number,
): ResourceDescriptor {
  const last = first + length - 1
  if (length < 1 || last >= 256 ** width || !Number.isSafeInteger(last)) {
    throw outOfRange('length', `such that the range ends below ${8 * width} bits`, length)
  }
  return pack(
    [1, TAG[width]],
    [2, 3 + 5 * width],
    [1, space],
    [1, PRODUCER_FIXED],
    [1, typeFlags],
    [width, 0], // granularity
    [width, first],
    [width, last],
    [width, 0], // translation
    [width, length],
  )
}
