// Descriptors as they lie in a GDT or LDT: 8 bytes for code, data and 32-bit system segments,
// 16 bytes for system segments of long mode.

import { decodeBits, encodeBits, field, flag } from './bitfields.js'
import { checkInteger, checkUnsigned, outOfRange } from './out-of-range.js'
import { type Segment, unusableSegment } from './segment.js'

/**
 * The 8 bytes of a segment descriptor. Source: SDM vol. 3A §3.4.5, figure 3-8; APM vol. 2 §4.7.
 */
export const SEGMENT_DESCRIPTOR = {
  limitLow: field(0, 16),
  baseLow: field(16, 24),
  type: field(40, 4),
  s: flag(44),
  dpl: field(45, 2),
  present: flag(47),
  limitHigh: field(48, 4),
  avl: flag(52),
  l: flag(53),
  db: flag(54),
  g: flag(55),
  baseHigh: field(56, 8),
}

/**
 * Encodes a code, data or 32-bit system segment as its 8-byte descriptor. The selector is not part
 * of it; an `unusable` segment encodes as a null descriptor.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) for a base over 32 bits, or a limit that its
 * granularity cannot express
 */
export function encodeSegmentDescriptor(segment: Segment): Uint8Array {
  checkUnsigned('base', segment.base, 32)
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, lowHalf(segment), true)
  return bytes
}

/**
 * Encodes a TSS or LDT of long mode as its 16-byte descriptor. Source: SDM vol. 3A §3.5.2 and
 * §8.2.3, figure 8-4.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) unless `s` is 0 and base and limit fit
 */
export function encodeSystemDescriptor64(segment: Segment): Uint8Array {
  checkUnsigned('base', segment.base, 64)
  if (segment.s !== 0) throw outOfRange('s', '0 (a system segment)', segment.s)
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, lowHalf({ ...segment, base: segment.base & 0xffffffffn }), true)
  if (segment.unusable === 0) view.setBigUint64(8, segment.base >> 32n, true)
  return bytes
}

/**
 * Decodes an 8-byte descriptor, as loading `selector` would. A null descriptor (8 zero bytes) is
 * `unusable`; one that is merely not present keeps its other fields.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) unless `bytes` has at least 8 bytes
 */
export function decodeSegmentDescriptor(bytes: Uint8Array, selector = 0): Segment {
  const descriptor = word(bytes, 0)
  const d = decodeBits(SEGMENT_DESCRIPTOR, descriptor)
  const limit = d.limitLow + d.limitHigh * 0x10000
  return {
    base: BigInt(d.baseLow) + (BigInt(d.baseHigh) << 24n),
    limit: d.g ? limit * 0x1000 + 0xfff : limit,
    selector,
    type: d.type,
    present: Number(d.present),
    dpl: d.dpl,
    db: Number(d.db),
    s: Number(d.s),
    l: Number(d.l),
    g: Number(d.g),
    avl: Number(d.avl),
    unusable: Number(descriptor === 0n),
  }
}

/**
 * Decodes a 16-byte system descriptor of long mode.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) unless `bytes` has at least 16 bytes
 */
export function decodeSystemDescriptor64(bytes: Uint8Array, selector = 0): Segment {
  const low = decodeSegmentDescriptor(bytes, selector)
  return { ...low, base: low.base + ((word(bytes, 8) & 0xffffffffn) << 32n) }
}

/** The null descriptor that must come first in a GDT. */
export function nullDescriptor(): Uint8Array {
  return encodeSegmentDescriptor(unusableSegment())
}

/** Lays descriptors of 8 and 16 bytes one behind the other, as they go into guest memory. */
export function descriptorTable(descriptors: readonly Uint8Array[]): Uint8Array {
  const table = new Uint8Array(descriptors.reduce((size, d) => size + d.length, 0))
  let offset = 0
  for (const descriptor of descriptors) {
    table.set(descriptor, offset)
    offset += descriptor.length
  }
  return table
}

function lowHalf(segment: Segment): bigint {
  if (segment.unusable !== 0) return 0n
  const limit = storedLimit(segment)
  return encodeBits(SEGMENT_DESCRIPTOR, {
    limitLow: limit & 0xffff,
    limitHigh: limit >>> 16,
    baseLow: Number(segment.base & 0xffffffn),
    baseHigh: Number(segment.base >> 24n),
    type: segment.type,
    s: segment.s !== 0,
    dpl: segment.dpl,
    present: segment.present !== 0,
    avl: segment.avl !== 0,
    l: segment.l !== 0,
    db: segment.db !== 0,
    g: segment.g !== 0,
  })
}

// VMX refuses a segment whose limit and granularity contradict each other (SDM vol. 3C §27.3.1.2),
// so the contradiction is reported here rather than rounded away.
function storedLimit({ limit, g }: Segment): number {
  checkInteger('limit', limit, 0, 0xffffffff)
  if (g !== 0 && (limit & 0xfff) !== 0xfff) {
    throw outOfRange('limit', 'one less than a multiple of 4096 when g is 1', limit)
  }
  if (g === 0 && limit > 0xfffff) throw outOfRange('limit', 'at most 0xfffff when g is 0', limit)
  return g === 0 ? limit : limit >>> 12
}

function word(bytes: Uint8Array, offset: number): bigint {
  if (bytes.length < offset + 8) {
    throw outOfRange('bytes.length', `at least ${offset + 8}`, bytes.length)
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(offset, true)
}
