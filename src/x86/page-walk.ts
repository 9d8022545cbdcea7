// Translates a linear address as the processor would, entry by entry, and says why it cannot. It
// only reads: accessed and dirty flags stay as they are.

import { type Decoded, decodeBits, encodeBits, flagBits } from './bitfields.js'
import { CR0, CR3, CR4 } from './control-registers.js'
import { EFER } from './efer.js'
import { PAGE_FAULT_ERROR } from './error-codes.js'
import { PTE, pageAddress, reservedBits, tableAddress } from './page-entry.js'
import {
  isCanonical,
  PAGING_GEOMETRY,
  type PagingGeometry,
  type PagingLevel,
  pagingMode,
  tableIndex,
} from './paging-mode.js'
import type { PhysicalMemory } from './physical-memory.js'

/** The registers, and facts of the processor, that decide a translation. */
export interface PagingRegisters {
  cr0: bigint
  cr3: bigint
  cr4: bigint
  efer: bigint
  /** PKRU, for user-mode pages with CR4.PKE (0, all allowed, by default). */
  pkru?: number
  /** IA32_PKRS, for supervisor-mode pages with CR4.PKS (0, all allowed, by default). */
  pkrs?: number
  /**
   * The PDPTE registers of PAE paging (`kvm_sregs2.pdptrs`), which an Intel processor and KVM load with
   * CR3 (SDM vol. 3A §4.4.1). By default they are read from memory, as AMD processors do with nested
   * paging (APM vol. 2 §15.25).
   */
  pdptrs?: readonly bigint[]
  /** Width of physical addresses in bits, 32 to 52 (52, so that no address is refused). */
  maxPhyAddr?: number
  /** The processor has 1 GiB pages (true by default). */
  gbPages?: boolean
}

/** What the access is; by default a supervisor-mode read. */
export interface PageAccess {
  write?: boolean
  user?: boolean
  /** Instruction fetch. */
  fetch?: boolean
  /** EFLAGS.AC, which with CR4.SMAP allows supervisor accesses to user-mode pages. */
  ac?: boolean
}

/** Rights and attributes of a translation, over all levels. */
export interface PageAttributes {
  writable: boolean
  user: boolean
  executable: boolean
  global: boolean
  accessed: boolean
  dirty: boolean
  /** Index into IA32_PAT, 0 to 7. */
  pat: number
  protectionKey: number
}

/** One entry that the walk read. */
export interface PageWalkLevel {
  /** 5 for PML5 down to 1 for the page table. */
  level: number
  /** Guest-physical address of the entry; -1 for a PDPTE register. */
  entryGpa: number
  entry: bigint
}

/** Why an address does not translate, or the access is refused. */
export type PageFaultReason =
  | 'non-canonical'
  | 'not-present'
  | 'reserved-bit'
  | 'outside-ram'
  | 'read-only'
  | 'supervisor-page'
  | 'no-execute'
  | 'smep'
  | 'smap'
  | 'protection-key'

/** The exception that the access would raise. */
export interface PageWalkFault {
  /** 14 (#PF), or 13 (#GP) for a non-canonical address and for reserved bits in a PDPTE of PAE. */
  vector: 13 | 14
  /** Error code of the exception; see `PAGE_FAULT_ERROR`. */
  errorCode: number
  /** Level of the entry at fault: 5 to 1, or 0 when no entry was read. */
  level: number
  reason: PageFaultReason
}

/** The outcome of a walk; `fault` tells the two apart. */
export type PageWalk =
  | {
      fault: undefined
      /** Guest-physical address of the byte at the linear address. */
      gpa: number
      /** Size of the page in bytes. */
      pageSize: number
      flags: PageAttributes
      levels: PageWalkLevel[]
    }
  | { fault: PageWalkFault; levels: PageWalkLevel[] }

interface Walk {
  readonly geometry: PagingGeometry
  readonly registers: PagingRegisters
  readonly access: PageAccess
  readonly cr4: Decoded<typeof CR4>
  readonly nxe: boolean
  readonly levels: PageWalkLevel[]
  /** Bits 1, 2 and 63 over all levels: R/W and U/S are and-ed, XD or-ed. */
  rights: bigint
}

/**
 * Walks the page tables for one byte at linear address `va`. Source: SDM vol. 3A §4.3 to §4.5
 * (translation), §4.6 (access rights and protection keys), §4.7 (error codes); LAM as in 64-bit
 * mode. Not modelled: shadow stacks, SGX, HLAT, LASS, segment limits. An entry outside of RAM,
 * about which the architecture says nothing, is `outside-ram`, with the error code of `not-present`
 * as KVM has it.
 */
export function walkPageTables(
  memory: PhysicalMemory,
  registers: PagingRegisters,
  va: bigint,
  access: PageAccess = {},
): PageWalk {
  const mode = pagingMode(registers)
  if (mode === 'none') return untranslated(va)
  const walk: Walk = {
    geometry: PAGING_GEOMETRY[mode],
    registers,
    access,
    cr4: decodeBits(CR4, registers.cr4),
    // 32-bit entries have no execute-disable bit whatever NXE says.
    nxe: mode !== '32-bit' && (registers.efer & flagBits(EFER, 'NXE')) !== 0n,
    levels: [],
    rights: PTE.RW | PTE.US,
  }
  const linear = linearAddress(walk, va)
  if (linear === undefined) return generalProtection(walk, 0, 'non-canonical')
  return descend(memory, walk, linear)
}

function untranslated(va: bigint): PageWalk {
  const flags: PageAttributes = {
    writable: true,
    user: true,
    executable: true,
    global: false,
    accessed: false,
    dirty: false,
    pat: 0,
    protectionKey: 0,
  }
  const gpa = Number(BigInt.asUintN(32, va))
  return { fault: undefined, gpa, pageSize: 4096, flags, levels: [] }
}

function linearAddress(walk: Walk, va: bigint): bigint | undefined {
  const { linearBits } = walk.geometry
  if (linearBits === 32) return BigInt.asUintN(32, va)
  const bits = walk.access.fetch ? 64 : unmaskedBits(walk, va)
  const upper = va < 0n || (va >> 63n) & 1n ? -1n : 0n
  const linear = BigInt.asUintN(64, (upper << BigInt(bits)) | BigInt.asUintN(bits, va))
  return isCanonical(linear, bits) && isCanonical(linear, linearBits) ? linear : undefined
}

// How many low bits of a data pointer count, bit 63 aside: all, unless LAM masks some.
function unmaskedBits({ registers, cr4 }: Walk, va: bigint): number {
  const supervisor = (BigInt.asUintN(64, va) >> 63n) & 1n
  if (supervisor) return cr4.LAM_SUP ? (cr4.LA57 ? 57 : 48) : 64
  if ((registers.cr3 & flagBits(CR3, 'LAM_U57')) !== 0n) return 57
  return (registers.cr3 & flagBits(CR3, 'LAM_U48')) !== 0n ? 48 : 64
}

function descend(memory: PhysicalMemory, walk: Walk, va: bigint): PageWalk {
  const { geometry, cr4 } = walk
  let table = topTable(walk)
  for (const level of geometry.levels) {
    const found = readEntry(memory, walk, level, table, va)
    if (found === undefined) return pageFault(walk, level.level, 'outside-ram')
    walk.levels.push(found)
    const { entry } = found
    if ((entry & PTE.P) === 0n) return pageFault(walk, level.level, 'not-present')
    const large = (entry & PTE.PS) !== 0n && (geometry.mode !== '32-bit' || cr4.PSE)
    const isLeaf = level.level === 1 || (large && level.canMapPage)
    if ((entry & reservedBits(geometry, level, isLeaf, rulesOf(walk))) !== 0n) {
      const registerLoad = geometry.mode === 'pae' && level.level === 3
      return (registerLoad ? generalProtection : pageFault)(walk, level.level, 'reserved-bit')
    }
    if (geometry.mode !== 'pae' || level.level !== 3) addRights(walk, entry)
    if (isLeaf) return finish(walk, level, entry, va)
    table = tableAddress(geometry, entry)
  }
  throw new Error('unreachable: level 1 is always a leaf')
}

function topTable({ geometry, registers }: Walk): number {
  const mask = geometry.mode === 'pae' ? 0xffff_ffe0n : 0x000f_ffff_ffff_f000n
  return Number(registers.cr3 & (geometry.linearBits === 32 ? mask & 0xffff_ffffn : mask))
}

function readEntry(
  memory: PhysicalMemory,
  walk: Walk,
  level: PagingLevel,
  table: number,
  va: bigint,
): PageWalkLevel | undefined {
  const index = tableIndex(level, va)
  const { entrySize, mode } = walk.geometry
  const register = mode === 'pae' && level.level === 3 ? walk.registers.pdptrs?.[index] : undefined
  if (register !== undefined) return { level: level.level, entryGpa: -1, entry: register }
  const entryGpa = table + index * entrySize
  const inside = memory.ranges.some(
    (r) => entryGpa >= r.gpa && entryGpa + entrySize <= r.gpa + r.size,
  )
  if (!inside) return undefined
  const entry = entrySize === 8 ? memory.readU64(entryGpa) : BigInt(memory.readU32(entryGpa))
  return { level: level.level, entryGpa, entry }
}

function rulesOf({ registers, nxe }: Walk) {
  return { maxPhyAddr: registers.maxPhyAddr ?? 52, nxe, gbPages: registers.gbPages ?? true }
}

function addRights(walk: Walk, entry: bigint): void {
  const allowed = walk.rights & entry & (PTE.RW | PTE.US)
  walk.rights = allowed | ((walk.rights | entry) & PTE.XD)
}

function finish(walk: Walk, level: PagingLevel, entry: bigint, va: bigint): PageWalk {
  const flags = attributes(walk, level, entry)
  const reason = refusal(walk, flags)
  if (reason !== undefined) {
    return pageFault(walk, level.level, reason, keyRefuses(walk, flags))
  }
  const pageSize = 2 ** level.shift
  const offset = Number(BigInt.asUintN(level.shift, va))
  const gpa = pageAddress(walk.geometry, level, entry) + offset
  return { fault: undefined, gpa, pageSize, flags, levels: walk.levels }
}

function attributes(walk: Walk, level: PagingLevel, entry: bigint): PageAttributes {
  const patBit = level.level === 1 ? PTE.PS : PTE.PATLarge
  return {
    writable: (walk.rights & PTE.RW) !== 0n,
    user: (walk.rights & PTE.US) !== 0n,
    executable: !walk.nxe || (walk.rights & PTE.XD) === 0n,
    global: (entry & PTE.G) !== 0n,
    accessed: (entry & PTE.A) !== 0n,
    dirty: (entry & PTE.D) !== 0n,
    pat: Number((entry & (PTE.PWT | PTE.PCD)) >> 3n) + (entry & patBit ? 4 : 0),
    protectionKey: walk.geometry.linearBits > 32 ? Number((entry >> 59n) & 0xfn) : 0,
  }
}

// SDM vol. 3A §4.6.1. The order among several reasons is ours; the error code is the same.
function refusal(walk: Walk, page: PageAttributes): PageFaultReason | undefined {
  const { access, cr4 } = walk
  const obeysReadOnly = access.user || (walk.registers.cr0 & flagBits(CR0, 'WP')) !== 0n
  if (access.user && !page.user) return 'supervisor-page'
  if (access.fetch) {
    if (!access.user && page.user && cr4.SMEP) return 'smep'
    return page.executable ? undefined : 'no-execute'
  }
  if (!access.user && page.user && cr4.SMAP && !access.ac) return 'smap'
  if (access.write && !page.writable && obeysReadOnly) return 'read-only'
  return keyRefuses(walk, page) ? 'protection-key' : undefined
}

// SDM vol. 3A §4.6.2. Keys exist in 4- and 5-level paging only, and never apply to fetches.
function keyRefuses(walk: Walk, page: PageAttributes): boolean {
  const { access, cr4, registers } = walk
  const enabled = page.user ? cr4.PKE : cr4.PKS
  if (!enabled || access.fetch || walk.geometry.linearBits === 32) return false
  const rights = (page.user ? registers.pkru : registers.pkrs) ?? 0
  const accessDisable = (rights >>> (page.protectionKey * 2)) & 1
  const writeDisable = (rights >>> (page.protectionKey * 2 + 1)) & 1
  const obeysWrite = access.user || (registers.cr0 & flagBits(CR0, 'WP')) !== 0n
  return accessDisable === 1 || (writeDisable === 1 && access.write === true && obeysWrite)
}

function pageFault(walk: Walk, level: number, reason: PageFaultReason, key = false): PageWalk {
  const { access, cr4 } = walk
  const errorCode = encodeBits(PAGE_FAULT_ERROR, {
    P: reason !== 'not-present' && reason !== 'outside-ram',
    W: access.write === true,
    U: access.user === true,
    RSVD: reason === 'reserved-bit',
    I: access.fetch === true && (cr4.SMEP || walk.nxe),
    PK: key,
  })
  const fault: PageWalkFault = { vector: 14, errorCode: Number(errorCode), level, reason }
  return { fault, levels: walk.levels }
}

function generalProtection(walk: Walk, level: number, reason: PageFaultReason): PageWalk {
  return { fault: { vector: 13, errorCode: 0, level, reason }, levels: walk.levels }
}
