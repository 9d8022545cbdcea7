// Descriptor tables of a test guest: flat segments for every ring, a gate for every vector, and
// entry points that tell the test and change no register.

import { encodeGate, type GateKind } from '../x86/gate.js'
import type { PhysicalMemory } from '../x86/physical-memory.js'
import {
  flatCode32,
  flatCode64,
  flatData,
  type Segment,
  SYSTEM_TYPE,
  taskStateSegment,
} from '../x86/segment.js'
import {
  descriptorTable,
  encodeSegmentDescriptor,
  encodeSystemDescriptor64,
  nullDescriptor,
} from '../x86/segment-descriptor.js'
import * as layout from './layout.js'
import type { Mode, Ring } from './modes.js'

/**
 * Selectors of the flat segments. The order is the one that SYSCALL and SYSRET want: ring 0's code
 * and data, then ring 3's 32-bit code, data and 64-bit code.
 */
export const SELECTORS = {
  code64: [0x08, 0x50, 0x68, 0x28],
  data: [0x10, 0x58, 0x70, 0x20],
  code32: [0x30, 0x60, 0x78, 0x18],
  tss: 0x38,
} as const

const TSS_LIMIT = 0x68 + 32
const VECTORS = 256

/** A flat segment of that ring, with its selector. */
function flat(make: (selector: number) => Segment, selectors: readonly number[], ring: Ring) {
  return { ...make(selectors[ring]! | ring), dpl: ring }
}

/** The code segment that code of the mode runs in. */
export function codeSegment({ bits }: Mode, ring: Ring): Segment {
  return bits === 64
    ? flat(flatCode64, SELECTORS.code64, ring)
    : flat(flatCode32, SELECTORS.code32, ring)
}

export const dataSegment = (ring: Ring): Segment => flat(flatData, SELECTORS.data, ring)

/** Of the TSS at `base`. Available instead of busy where the processor wants it so. */
export function taskSegment(base: number, busy = true): Segment {
  const segment = taskStateSegment(BigInt(base), TSS_LIMIT, SELECTORS.tss)
  return busy ? segment : { ...segment, type: SYSTEM_TYPE.tssAvailable }
}

/** The GDT. Gives its limit. */
export function writeGdt(ram: PhysicalMemory, { long }: Mode): number {
  const table: Uint8Array[] = []
  const put = (selector: number, bytes: Uint8Array) => {
    table[selector >> 3] = bytes.subarray(0, 8)
    if (bytes.length > 8) table[(selector >> 3) + 1] = bytes.subarray(8)
  }
  for (const ring of [0, 1, 2, 3] as const) {
    put(SELECTORS.code64[ring], encodeSegmentDescriptor(flat(flatCode64, SELECTORS.code64, ring)))
    put(SELECTORS.code32[ring], encodeSegmentDescriptor(flat(flatCode32, SELECTORS.code32, ring)))
    put(SELECTORS.data[ring], encodeSegmentDescriptor(dataSegment(ring)))
  }
  // The first vCPU's; the others' task registers are loaded without a descriptor.
  const task = taskSegment(layout.TSS)
  put(SELECTORS.tss, long ? encodeSystemDescriptor64(task) : encodeSegmentDescriptor(task))
  const bytes = descriptorTable(Array.from(table, (entry) => entry ?? nullDescriptor()))
  ram.write(layout.GDT, bytes)
  return bytes.length - 1
}

/** The task state: stacks for the way in, and ports that every ring may use. */
export function writeTss(ram: PhysicalMemory, { long }: Mode, place: layout.CpuLayout): void {
  const IO_MAP = 0x68
  const bytes = new Uint8Array(TSS_LIMIT + 1)
  const view = new DataView(bytes.buffer)
  if (long) {
    view.setBigUint64(0x04, BigInt(place.ring0Stack), true)
    view.setBigUint64(0x24, BigInt(place.doubleFaultStack), true)
  } else {
    view.setUint32(0x04, place.ring0Stack, true)
    view.setUint32(0x08, SELECTORS.data[0], true)
  }
  view.setUint16(0x66, IO_MAP, true)
  // A set bit forbids its port: all but the harness's eight stay forbidden. The last byte ends the map.
  bytes.fill(0xff, IO_MAP)
  bytes[IO_MAP + layout.PORT_DONE / 8] = 0
  ram.write(place.tss, bytes)
}

/** `out PORT_VECTOR, al; jmp` back to it: which entry point it is, its address says. */
function writeStubs(ram: PhysicalMemory): void {
  const stub = [0xe6, layout.PORT_VECTOR, 0xeb, 0xfc]
  ram.write(
    layout.STUBS,
    Uint8Array.from({ length: VECTORS * 4 }, (_, i) => stub[i % 4]!),
  )
}

export const stubOf = (vector: number): number => layout.STUBS + vector * layout.STUB_SIZE

/** The vector whose entry point holds the address, or undefined. */
export function vectorAt(rip: bigint): number | undefined {
  const vector = Number(rip - BigInt(layout.STUBS)) / layout.STUB_SIZE
  return vector >= 0 && vector < VECTORS ? Math.floor(vector) : undefined
}

/** A vector's entry; `dpl` is the outermost ring that may use it by INT. */
export function writeGate(
  ram: PhysicalMemory,
  mode: Mode,
  vector: number,
  entry: number,
  { dpl = 3 as Ring, kind = 'interrupt' as GateKind } = {},
): void {
  if (!mode.protected) {
    // Offset, then segment 0.
    ram.write(layout.IVT + vector * 4, Uint8Array.of(entry, entry >> 8, 0, 0))
    return
  }
  const bits = mode.long ? 64 : 32
  const selector = mode.long ? SELECTORS.code64[0] : SELECTORS.code32[0]
  const ist = mode.long && vector === 8 ? 1 : 0
  const offset = BigInt(entry)
  const gate = { kind, bits, selector, offset, dpl, ist, present: true, parameterCount: 0 } as const
  ram.write(layout.IDT + vector * (bits / 4), encodeGate(gate))
}

/** Gates to the entry points, and these. Gives the IDT's limit. */
export function writeVectors(ram: PhysicalMemory, mode: Mode): number {
  writeStubs(ram)
  for (let vector = 0; vector < VECTORS; vector++) writeGate(ram, mode, vector, stubOf(vector))
  return VECTORS * (mode.long ? 16 : mode.protected ? 8 : 4) - 1
}
