// The setup header of a Linux x86 kernel (`struct setup_header`, Linux/x86 boot protocol): where its
// fields are, and a strict reading of the ones that decide how a bzImage is loaded.

import { BootError, hex } from './boot-error.js'
import { ImageReader } from './image-reader.js'
import { GPA_4G } from './layout.js'

/** Field offsets, the same in a bzImage and in the zero page. */
export const SETUP_HEADER = {
  setup_sects: 0x1f1,
  syssize: 0x1f4,
  vid_mode: 0x1fa,
  boot_flag: 0x1fe,
  jump: 0x200,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  code32_start: 0x214,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  kernel_alignment: 0x230,
  relocatable_kernel: 0x234,
  xloadflags: 0x236,
  cmdline_size: 0x238,
  payload_offset: 0x248,
  payload_length: 0x24c,
  setup_data: 0x250,
  pref_address: 0x258,
  init_size: 0x260,
  handover_offset: 0x264,
} as const

/** Value of `boot_flag`. */
export const BOOT_FLAG = 0xaa55
/** Value of `header`: "HdrS", little-endian. */
export const HEADER_MAGIC = 0x5372_6448
/** `loadflags`: the protected-mode code is loaded at 1 MiB or above. */
export const LOADED_HIGH = 1
/** `xloadflags`: the 64-bit entry point at offset 0x200 exists. */
export const XLF_KERNEL_64 = 1
/** `xloadflags`: kernel, RAM disk, command line and boot parameters may be above 4 GiB. */
export const XLF_CAN_BE_LOADED_ABOVE_4G = 2

/** Where `struct setup_header` begins in image and zero page. */
export const SETUP_HEADER_START = SETUP_HEADER.setup_sects
/** Where the zero page's next field begins: no setup header may reach further. */
export const SETUP_HEADER_MAX_END = 0x290
/** Where a header of protocol 2.12 ends at least. */
const SETUP_HEADER_MIN_END = 0x268
/** 2.12 brought `xloadflags`, without which a 64-bit entry cannot be known to exist. */
const MIN_VERSION = 0x020c
const BYTES_PER_SECTOR = 512
const DEFAULT_SETUP_SECTS = 4
const BYTES_PER_PARAGRAPH = 16

/** What a bzImage says about itself, checked. */
export interface SetupHeader {
  /** Boot protocol version, major × 256 + minor. */
  readonly version: number
  /** The header's own bytes, from offset 0x1f1, for the zero page. */
  readonly bytes: Uint8Array
  /** The protected-mode part: everything after the real-mode setup sectors. */
  readonly payload: Uint8Array
  /** Bits XLF_*. */
  readonly xloadflags: number
  /** Whether the kernel runs at another address than `prefAddress`. */
  readonly relocatable: boolean
  /** Bytes; a power of two. */
  readonly kernelAlignment: number
  /** The address at which the kernel prefers to run. */
  readonly prefAddress: number
  /** Bytes from its run address on that the kernel needs before it reads the memory map. */
  readonly initSize: number
  /** Highest address that the RAM disk may reach. */
  readonly initrdAddrMax: number
  /** Longest command line in bytes, without the terminating zero. */
  readonly cmdlineSize: number
}

/** Whether an image carries the marks of a Linux setup header (boot flag and "HdrS"). */
export function isBzImage(image: Uint8Array): boolean {
  if (image.length < SETUP_HEADER.version) return false
  const reader = new ImageReader(image, 'bzImage')
  return (
    reader.u16(SETUP_HEADER.boot_flag, 'boot_flag') === BOOT_FLAG &&
    reader.u32(SETUP_HEADER.header, 'header') === HEADER_MAGIC
  )
}

/**
 * Reads and checks a bzImage's setup header.
 *
 * @throws BootError `ERR_BOOT_BAD_IMAGE` when the image is truncated or contradicts itself;
 *   `ERR_BOOT_UNSUPPORTED` when the kernel has no 64-bit entry point
 */
export function parseSetupHeader(image: Uint8Array): SetupHeader {
  const reader = new ImageReader(image, 'bzImage')
  reader.check(0, SETUP_HEADER_MIN_END, 'the setup header')
  checkMagic(reader)
  const version = reader.u16(SETUP_HEADER.version, 'version')
  const xloadflags = reader.u16(SETUP_HEADER.xloadflags, 'xloadflags')
  checkEntry64(reader, version, xloadflags)
  const initSize = reader.u32(SETUP_HEADER.init_size, 'init_size')
  if (initSize === 0) throw reader.bad('init_size is 0', SETUP_HEADER.init_size)

  return {
    version,
    bytes: headerBytes(reader),
    payload: payload(reader),
    xloadflags,
    relocatable: reader.u8(SETUP_HEADER.relocatable_kernel, 'relocatable_kernel') !== 0,
    kernelAlignment: alignment(reader),
    prefAddress: prefAddress(reader),
    initSize,
    initrdAddrMax: reader.u32(SETUP_HEADER.initrd_addr_max, 'initrd_addr_max'),
    cmdlineSize: reader.u32(SETUP_HEADER.cmdline_size, 'cmdline_size'),
  }
}

function checkMagic(reader: ImageReader): void {
  const flag = reader.u16(SETUP_HEADER.boot_flag, 'boot_flag')
  if (flag !== BOOT_FLAG) {
    throw reader.bad(`boot_flag is ${hex(flag)}, not ${hex(BOOT_FLAG)}`, SETUP_HEADER.boot_flag)
  }
  const magic = reader.u32(SETUP_HEADER.header, 'header')
  if (magic !== HEADER_MAGIC) {
    throw reader.bad(`header is ${hex(magic)}, not "HdrS"`, SETUP_HEADER.header)
  }
}

function checkEntry64(reader: ImageReader, version: number, xloadflags: number): void {
  if (version < MIN_VERSION) {
    const message =
      `bzImage: boot protocol version ${hex(version)} is older than ${hex(MIN_VERSION)} ` +
      '(Linux 3.8), which brought the 64-bit entry; use a newer kernel'
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: SETUP_HEADER.version })
  }
  const loadflags = reader.u8(SETUP_HEADER.loadflags, 'loadflags')
  if (loadflags % 2 !== LOADED_HIGH) {
    const message = 'zImage: it loads below 1 MiB (LOADED_HIGH is clear); build a bzImage instead'
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: SETUP_HEADER.loadflags })
  }
  if ((xloadflags & XLF_KERNEL_64) === 0) {
    const message =
      `bzImage: xloadflags ${hex(xloadflags)} lacks XLF_KERNEL_64, so this is a 32-bit kernel; ` +
      'use one built for x86-64'
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: SETUP_HEADER.xloadflags })
  }
}

/** The header's end is given by the displacement of the short jump at 0x200. */
function headerBytes(reader: ImageReader): Uint8Array {
  const displacement = SETUP_HEADER.jump + 1
  const end = SETUP_HEADER.header + reader.u8(displacement, 'jump')
  if (end < SETUP_HEADER_MIN_END || end > SETUP_HEADER_MAX_END) {
    const range = `${hex(SETUP_HEADER_MIN_END)}..${hex(SETUP_HEADER_MAX_END)}`
    throw reader.bad(`the setup header ends at ${hex(end)}, must be in ${range}`, displacement)
  }
  return reader.slice(SETUP_HEADER_START, end - SETUP_HEADER_START, 'the setup header')
}

function payload(reader: ImageReader): Uint8Array {
  const sects = reader.u8(SETUP_HEADER.setup_sects, 'setup_sects') || DEFAULT_SETUP_SECTS
  // One more: the legacy boot sector is not counted.
  const start = (sects + 1) * BYTES_PER_SECTOR
  const size = reader.u32(SETUP_HEADER.syssize, 'syssize') * BYTES_PER_PARAGRAPH
  if (size === 0) throw reader.bad('syssize is 0: no protected-mode code', SETUP_HEADER.syssize)
  reader.check(start, size, 'the protected-mode code (syssize)')
  const payload = reader.slice(start, reader.size - start, 'the protected-mode code')

  const offset = reader.u32(SETUP_HEADER.payload_offset, 'payload_offset')
  const length = reader.u32(SETUP_HEADER.payload_length, 'payload_length')
  if (offset + length > payload.length) {
    const message =
      `the compressed kernel is at ${hex(offset)}..${hex(offset + length)} of only ` +
      `${hex(payload.length)} bytes; the image is truncated`
    throw reader.bad(message, SETUP_HEADER.payload_offset)
  }
  return payload
}

function alignment(reader: ImageReader): number {
  const value = reader.u32(SETUP_HEADER.kernel_alignment, 'kernel_alignment')
  // Without 32-bit operators: 2^31 would turn negative.
  if (value > 0 && Number.isInteger(Math.log2(value))) return value
  throw reader.bad(
    `kernel_alignment ${hex(value)} is not a power of two`,
    SETUP_HEADER.kernel_alignment,
  )
}

function prefAddress(reader: ImageReader): number {
  const value = reader.address(SETUP_HEADER.pref_address, 'pref_address')
  if (value < GPA_4G) return value
  throw reader.bad(`pref_address ${hex(value)} is above 4 GiB`, SETUP_HEADER.pref_address)
}
