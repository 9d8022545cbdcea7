// Small synthetic kernels: just enough header to be loaded, with every field open to a test.

import { SETUP_HEADER } from '../../src/boot/index.js'

/** Fields of {@link makeBzImage}; the defaults make a sound relocatable kernel of 8 KiB. */
export interface BzImageFields {
  setupSects?: number
  headerEnd?: number
  bootFlag?: number
  magic?: number
  version?: number
  loadflags?: number
  xloadflags?: number
  relocatable?: number
  kernelAlignment?: number
  prefAddress?: bigint
  initSize?: number
  initrdAddrMax?: number
  cmdlineSize?: number
  payloadSize?: number
  syssize?: number
  payloadOffset?: number
  payloadLength?: number
}

/** A bzImage whose protected-mode part is filled with 0xcc. */
export function makeBzImage(fields: BzImageFields = {}): Buffer {
  const { setupSects = 3, payloadSize = 0x2000, headerEnd = 0x26c } = fields
  const start = (setupSects + 1) * 512
  const image = Buffer.alloc(start + payloadSize)
  image.fill(0xcc, start)
  const h = SETUP_HEADER
  image.writeUInt8(setupSects, h.setup_sects)
  image.writeUInt32LE(fields.syssize ?? Math.floor(payloadSize / 16), h.syssize)
  image.writeUInt16LE(fields.bootFlag ?? 0xaa55, h.boot_flag)
  image.writeUInt8(0xeb, h.jump)
  image.writeUInt8(headerEnd - 0x202, h.jump + 1)
  image.writeUInt32LE(fields.magic ?? 0x53726448, h.header)
  image.writeUInt16LE(fields.version ?? 0x020f, h.version)
  image.writeUInt8(fields.loadflags ?? 1, h.loadflags)
  image.writeUInt32LE(fields.initrdAddrMax ?? 0x7fff_ffff, h.initrd_addr_max)
  image.writeUInt32LE(fields.kernelAlignment ?? 0x20_0000, h.kernel_alignment)
  image.writeUInt8(fields.relocatable ?? 1, h.relocatable_kernel)
  image.writeUInt16LE(fields.xloadflags ?? 0x3, h.xloadflags)
  image.writeUInt32LE(fields.cmdlineSize ?? 2047, h.cmdline_size)
  image.writeUInt32LE(fields.payloadOffset ?? 0x400, h.payload_offset)
  image.writeUInt32LE(fields.payloadLength ?? 0x1000, h.payload_length)
  // A pointer that a hostile image plants; the loader must not pass it on.
  image.writeBigUInt64LE(0xdead_beefn, h.setup_data)
  image.writeBigUInt64LE(fields.prefAddress ?? 0x20_0000n, h.pref_address)
  image.writeUInt32LE(fields.initSize ?? 0x8000, h.init_size)
  return image
}

/** One program header of {@link makeElf}. */
export interface SegmentFields {
  type?: number
  flags?: number
  vaddr?: bigint
  paddr?: bigint
  data?: Uint8Array
  /** Overrides for fields that normally follow from `data`. */
  offset?: bigint
  fileSize?: bigint
  memorySize?: bigint
  alignment?: bigint
}

/** File header fields of {@link makeElf}. */
export interface ElfFields {
  bits?: 32 | 64
  data?: number
  version?: number
  type?: number
  machine?: number
  entry?: bigint
  phoff?: bigint
  ehsize?: number
  phentsize?: number
  phnum?: number
  segments?: SegmentFields[]
}

/** Where {@link makeElf} loads and enters its default segment. */
export const ELF_LOAD_GPA = 0x10_0000

const CODE_SEGMENT: SegmentFields = {
  type: 1,
  flags: 5,
  vaddr: 0xffff_ffff_8100_0000n,
  paddr: BigInt(ELF_LOAD_GPA),
  data: Buffer.alloc(0x1800, 0xcc),
  memorySize: 0x3000n,
}

/** An ELF executable: header, program headers, then the segments' data one behind the other. */
export function makeElf(fields: ElfFields = {}): Buffer {
  const { bits = 64, segments = [CODE_SEGMENT] } = fields
  const wide = bits === 64
  const headerSize = wide ? 64 : 52
  const entrySize = wide ? 56 : 32
  const head = Buffer.alloc(headerSize + segments.length * entrySize)
  head.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, fields.data ?? 1, fields.version ?? 1])
  head.writeUInt16LE(fields.type ?? 2, 16)
  head.writeUInt16LE(fields.machine ?? (wide ? 62 : 3), 18)
  head.writeUInt32LE(1, 20)
  const word = (value: bigint, at: number) =>
    wide
      ? head.writeBigUInt64LE(value, at)
      : head.writeUInt32LE(Number(BigInt.asUintN(32, value)), at)
  word(fields.entry ?? BigInt(ELF_LOAD_GPA + 0x10), 24)
  word(fields.phoff ?? BigInt(headerSize), wide ? 32 : 28)
  const ehsizeAt = wide ? 52 : 40
  head.writeUInt16LE(fields.ehsize ?? headerSize, ehsizeAt)
  head.writeUInt16LE(fields.phentsize ?? entrySize, ehsizeAt + 2)
  head.writeUInt16LE(fields.phnum ?? segments.length, ehsizeAt + 4)

  const parts: Uint8Array[] = [head]
  let offset = head.length
  for (const [index, segment] of segments.entries()) {
    const data = segment.data ?? new Uint8Array(0)
    const at = headerSize + index * entrySize
    head.writeUInt32LE(segment.type ?? 1, at)
    head.writeUInt32LE(segment.flags ?? 5, at + (wide ? 4 : 24))
    const words = [
      segment.offset ?? BigInt(offset),
      segment.vaddr ?? 0n,
      segment.paddr ?? 0n,
      segment.fileSize ?? BigInt(data.length),
      segment.memorySize ?? BigInt(data.length),
    ]
    for (const [i, value] of words.entries()) word(value, at + (wide ? 8 + i * 8 : 4 + i * 4))
    word(segment.alignment ?? 4n, at + (wide ? 48 : 28))
    parts.push(data)
    offset += data.length
  }
  return Buffer.concat(parts)
}

/** The bytes of one ELF note with 4-byte padding. */
export function makeNote(name: string, type: number, desc: Uint8Array): Buffer {
  const head = Buffer.alloc(12)
  head.writeUInt32LE(name.length + 1, 0)
  head.writeUInt32LE(desc.length, 4)
  head.writeUInt32LE(type, 8)
  return Buffer.concat([head, pad4(Buffer.from(`${name}\0`)), pad4(desc)])
}

function pad4(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
}

/** An ELF64 kernel with a PVH entry note, behind a note of another owner. */
export function makePvhElf(entry = ELF_LOAD_GPA + 0x20): Buffer {
  const desc = Buffer.alloc(4)
  desc.writeUInt32LE(entry)
  const notes = Buffer.concat([makeNote('GNU', 3, Buffer.alloc(20)), makeNote('Xen', 18, desc)])
  return makeElf({ segments: [CODE_SEGMENT, { type: 4, flags: 0, data: notes }] })
}
