// Multiboot 1 (Multiboot Specification 0.6.96): 32-bit kernels that carry their own load addresses, as
// an ELF executable or in a header of their own, and take any number of modules.

import { alignUp } from './align.js'
import { checkBytes } from './arguments.js'
import { BootError, hex } from './boot-error.js'
import type { BootState } from './boot-state.js'
import { encodeCmdline } from './cmdline.js'
import { planGdt, protectedMode } from './cpu-modes.js'
import { isElf, PT_LOAD, parseElf } from './elf.js'
import { ImageReader } from './image-reader.js'
import { BOOT_PARAMS_GPA, BYTES_PER_PAGE, EBDA_GPA, GPA_4G, HIGH_MEMORY_GPA } from './layout.js'
import { beginLoad } from './linux-options.js'
import type { LoadPlan, LoadTarget } from './load-plan.js'
import { E820_TYPE, type MemoryMapEntry } from './memory-map.js'

/** First field of the header in the image. */
export const MULTIBOOT_HEADER_MAGIC = 0x1bad_b002

/** EAX at the kernel's first instruction. */
export const MULTIBOOT_BOOTLOADER_MAGIC = 0x2bad_b002

/** A file that the kernel gets beside its own image. */
export interface MultibootModule {
  /** Its bytes, placed at a page boundary. */
  readonly image: Uint8Array
  /** The string that goes with it, usually its name; printable ASCII, default empty. */
  readonly cmdline?: string | undefined
}

/** What {@link loadMultiboot} loads. */
export interface MultibootOptions {
  /** The kernel: an ELF executable, or a flat image whose header says where it goes. */
  readonly kernel: Uint8Array
  readonly modules?: readonly MultibootModule[] | undefined
  /** Kernel command line, printable ASCII; default empty. */
  readonly cmdline?: string | undefined
  /** Ranges that the memory map must show with another type, such as those of the ACPI tables. */
  readonly reservations?: readonly MemoryMapEntry[] | undefined
}

// The header lies within the first 8 KiB, at a multiple of 4 (§3.1).
const HEADER_AREA = 8192
const HEADER = { flags: 4, checksum: 8, headerAddr: 12, loadAddr: 16, loadEnd: 20, bssEnd: 24 }
const ENTRY_ADDR = 28
const ADDRESSES_VALID = 0x1_0000
/** Low flags are demands (§3.1.2): aligned modules and a memory map we have, a video mode not. */
const DEMANDS = 0xffff
const DEMANDS_MET = 0x0003

// The information structure (§3.3).
const INFO_SIZE = 88
const INFO = {
  flags: 0,
  memLower: 4,
  memUpper: 8,
  cmdline: 16,
  modsCount: 20,
  modsAddr: 24,
  mmapLength: 44,
  mmapAddr: 48,
  loaderName: 64,
} as const
const HAS_MEMORY = 0x001
const HAS_CMDLINE = 0x004
const HAS_MODULES = 0x008
const HAS_MEMORY_MAP = 0x040
const HAS_LOADER_NAME = 0x200
const MODULE_SIZE = 16
/** An entry's first field, its size, does not count itself. */
const MMAP_ENTRY_SIZE = 20
const LOADER_NAME = 'node-kvm'

/** Whether an image carries a Multiboot 1 header. */
export function isMultiboot(image: Uint8Array): boolean {
  return findHeader(image) !== undefined
}

/** Offset of the header: magic, and the three words that add up to 0. */
function findHeader(image: Uint8Array): number | undefined {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength)
  const end = Math.min(image.length, HEADER_AREA) - 12
  for (let at = 0; at <= end; at += 4) {
    if (view.getUint32(at, true) !== MULTIBOOT_HEADER_MAGIC) continue
    const flags = view.getUint32(at + HEADER.flags, true)
    const checksum = view.getUint32(at + HEADER.checksum, true)
    if ((MULTIBOOT_HEADER_MAGIC + flags + checksum) % 2 ** 32 === 0) return at
  }
  return undefined
}

/**
 * Loads a Multiboot 1 kernel with its modules: protected mode, paging off, EAX the magic, EBX the
 * information with memory map, command line and modules. There is no place in it for the ACPI root
 * pointer; kernels search for that.
 *
 * @throws BootError before anything is written, when the image is malformed or asks for what is not
 *   there (a video mode), or something does not fit
 */
export function loadMultiboot(memory: LoadTarget, options: MultibootOptions): BootState {
  const { kernel, modules = [], cmdline = '', reservations } = options
  checkBytes('kernel', kernel)
  for (const { image } of modules) checkBytes('modules.image', image)
  const { memoryMap, plan } = beginLoad(memory, reservations)
  const reader = new ImageReader(kernel, 'multiboot image')
  const header = checkedHeader(reader)
  planGdt(plan, 'protected')
  const hasAddresses = reader.u32(header + HEADER.flags, 'flags') & ADDRESSES_VALID
  const entry = hasAddresses ? planFlat(plan, reader, header) : planElf(plan, kernel)
  const placed = modules.map(({ image, cmdline: text = '' }, index) => {
    return { gpa: planModule(plan, image, index), size: image.length, text }
  })
  const info = planInfo(plan, { cmdline, modules: placed, memoryMap })
  plan.commit(memory)
  const regs = {
    rip: BigInt(entry),
    rax: BigInt(MULTIBOOT_BOOTLOADER_MAGIC),
    rbx: BigInt(info),
  }
  const { placements } = plan
  return { ...protectedMode(regs), protocol: 'multiboot', placements, memoryMap }
}

function checkedHeader(reader: ImageReader): number {
  const header = findHeader(reader.bytes)
  if (header === undefined) {
    throw reader.bad(`no header with a sound checksum in the first ${HEADER_AREA} bytes`, 0)
  }
  const unmet = reader.u32(header + HEADER.flags, 'flags') & DEMANDS & ~DEMANDS_MET
  if (unmet === 0) return header
  const message = `multiboot image: it demands features ${hex(unmet)} (4: a video mode), which are not there`
  throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: header + HEADER.flags })
}

/** Places what the header's address fields say (§3.1.3); returns the entry point. */
function planFlat(plan: LoadPlan, reader: ImageReader, header: number): number {
  const field = (offset: number, name: string) => reader.u32(header + offset, name)
  const loadAddr = field(HEADER.loadAddr, 'load_addr')
  const before = field(HEADER.headerAddr, 'header_addr') - loadAddr
  const start = header - before
  if (before < 0 || start < 0) {
    const message = `load_addr ${hex(loadAddr)} is not ${hex(header)} bytes or less below header_addr`
    throw reader.bad(message, header + HEADER.loadAddr)
  }
  // 0 means: to the end of the file, and no bss.
  const loadEnd = field(HEADER.loadEnd, 'load_end_addr') || loadAddr + reader.size - start
  const end = Math.max(loadEnd, field(HEADER.bssEnd, 'bss_end_addr'))
  if (loadEnd <= loadAddr) throw reader.bad('load_end_addr is not behind load_addr', header)
  const data = reader.slice(start, loadEnd - loadAddr, 'the loaded part')
  const entry = field(ENTRY_ADDR, 'entry_addr')
  if (entry < loadAddr || entry >= loadEnd) {
    throw reader.bad(`entry_addr ${hex(entry)} is not in the loaded part`, header + ENTRY_ADDR)
  }
  plan.claim('kernel', loadAddr, end - loadAddr)
  plan.write(loadAddr, data)
  plan.zero(loadEnd, end - loadEnd)
  return entry
}

/** Places an ELF executable's segments; returns the entry point as a physical address. */
function planElf(plan: LoadPlan, kernel: Uint8Array): number {
  if (!isElf(kernel)) {
    const message = 'multiboot image: neither an ELF executable nor a header with load addresses'
    throw new BootError('ERR_BOOT_BAD_IMAGE', message, { offset: 0 })
  }
  const elf = parseElf(kernel)
  const segments = elf.segments.filter(({ type, memorySize }) => type === PT_LOAD && memorySize > 0)
  for (const { index, paddr, memorySize, data } of segments) {
    plan.claim(`kernel segment ${index}`, paddr, memorySize)
    plan.write(paddr, data)
    plan.zero(paddr + data.length, memorySize - data.length)
  }
  // A kernel linked high has its entry point as a linear address in one, as a physical one in another.
  const inside = (start: bigint, size: number) =>
    elf.entry >= start && elf.entry < start + BigInt(size)
  const physical = segments.find(({ paddr, data }) => inside(BigInt(paddr), data.length))
  if (physical) return Number(elf.entry)
  const home = segments.find(({ vaddr, data }) => inside(vaddr, data.length))
  const entry = home && home.paddr + Number(elf.entry - home.vaddr)
  if (entry !== undefined && entry < GPA_4G) return entry
  const message = `multiboot image: e_entry ${hex(elf.entry)} is in no loaded segment below 4 GiB`
  throw new BootError('ERR_BOOT_BAD_IMAGE', message, { offset: 24 })
}

function planModule(plan: LoadPlan, image: Uint8Array, index: number): number {
  const name = `module ${index}`
  const size = Math.max(image.length, 1)
  const window = { alignment: BYTES_PER_PAGE, from: HIGH_MEMORY_GPA, end: GPA_4G }
  const gpa = plan.claimLowest(name, size, window)
  if (gpa === undefined) {
    const message = `no place for ${name} of ${hex(size)} bytes below 4 GiB; give the guest more memory`
    throw new BootError('ERR_BOOT_NO_SPACE', message, { placement: name, size, limit: GPA_4G })
  }
  plan.write(gpa, image)
  return gpa
}

interface InfoContent {
  readonly cmdline: string
  readonly modules: readonly { gpa: number; size: number; text: string }[]
  readonly memoryMap: readonly MemoryMapEntry[]
}

/** Claims and fills the information, its lists and strings, in one piece; returns its address. */
function planInfo(plan: LoadPlan, { cmdline, modules, memoryMap }: InfoContent): number {
  const modsAt = INFO_SIZE
  const mmapAt = modsAt + modules.length * MODULE_SIZE
  const mmapLength = memoryMap.length * (MMAP_ENTRY_SIZE + 4)
  const strings = [LOADER_NAME, cmdline, ...modules.map(({ text }) => text)].map((text) =>
    encodeCmdline(text, Number.POSITIVE_INFINITY),
  )
  const size = strings.reduce((sum, { length }) => sum + length, mmapAt + mmapLength)
  const window = { alignment: 16, from: BOOT_PARAMS_GPA, end: EBDA_GPA }
  const gpa = plan.claimLowest('multiboot information', alignUp(size, 16), window)
  if (gpa === undefined) {
    const message = `no place for the multiboot information of ${hex(size)} bytes below ${hex(EBDA_GPA)}`
    throw new BootError('ERR_BOOT_NO_SPACE', message, { size, limit: EBDA_GPA })
  }
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  const put = (at: number, value: number) => view.setUint32(at, value, true)
  let next = mmapAt + mmapLength
  const [nameGpa, cmdlineGpa, ...textGpas] = strings.map((text) => {
    bytes.set(text, next)
    next += text.length
    return gpa + next - text.length
  })
  put(INFO.flags, HAS_MEMORY + HAS_CMDLINE + HAS_MODULES + HAS_MEMORY_MAP + HAS_LOADER_NAME)
  put(INFO.memLower, ramFrom(memoryMap, 0) / 1024)
  put(INFO.memUpper, ramFrom(memoryMap, HIGH_MEMORY_GPA) / 1024)
  put(INFO.cmdline, cmdlineGpa!)
  put(INFO.loaderName, nameGpa!)
  put(INFO.modsCount, modules.length)
  put(INFO.modsAddr, gpa + modsAt)
  put(INFO.mmapLength, mmapLength)
  put(INFO.mmapAddr, gpa + mmapAt)
  for (const [index, module] of modules.entries()) {
    const at = modsAt + index * MODULE_SIZE
    put(at, module.gpa)
    put(at + 4, module.gpa + module.size)
    put(at + 8, textGpas[index]!)
  }
  for (const [index, entry] of memoryMap.entries()) {
    const at = mmapAt + index * (MMAP_ENTRY_SIZE + 4)
    put(at, MMAP_ENTRY_SIZE)
    view.setBigUint64(at + 4, BigInt(entry.gpa), true)
    view.setBigUint64(at + 12, BigInt(entry.size), true)
    put(at + 20, entry.type)
  }
  plan.write(gpa, bytes)
  return gpa
}

/** Bytes of usable RAM from `start` to the first hole, whole KiB, below 4 GiB. */
function ramFrom(memoryMap: readonly MemoryMapEntry[], start: number): number {
  const entry = memoryMap.find(({ gpa, size, type }) => {
    return type === E820_TYPE.RAM && gpa <= start && start < gpa + size
  })
  if (entry === undefined) return 0
  const bytes = Math.min(entry.gpa + entry.size, GPA_4G) - start
  return bytes - (bytes % 1024)
}
