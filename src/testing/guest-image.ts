// The low RAM of a test guest: vectors, descriptors, page tables. Guests of one mode and size begin
// with the same bytes, so these are made once.

import { BufferMemory } from '../x86/buffer-memory.js'
import { PageTableBuilder, type PagingRegisterBits } from '../x86/page-table-builder.js'
import type { PhysicalMemory } from '../x86/physical-memory.js'
import { writeGdt, writeTss, writeVectors } from './descriptors.js'
import * as layout from './layout.js'
import type { Mode } from './modes.js'

/** What a guest's RAM begins with. */
export interface GuestImage {
  /** What is not zero, by pages. */
  readonly pieces: readonly { readonly gpa: number; readonly bytes: Uint8Array }[]
  readonly gdtLimit: number
  readonly idtLimit: number
  readonly paging: PagingRegisterBits
}

const images = new Map<Mode, Map<number, GuestImage>>()

/** The image for guests of that mode with so many bytes of RAM. */
export function imageOf(mode: Mode, ramSize: number): GuestImage {
  const bySize = images.get(mode) ?? new Map<number, GuestImage>()
  images.set(mode, bySize)
  const image = bySize.get(ramSize) ?? makeImage(mode, ramSize)
  bySize.set(ramSize, image)
  return image
}

function makeImage(mode: Mode, ramSize: number): GuestImage {
  const bytes = new Uint8Array(layout.TABLES + layout.TABLES_SIZE)
  const ram = new BufferMemory([{ gpa: 0, bytes }])
  const idtLimit = writeVectors(ram, mode)
  const gdtLimit = writeGdt(ram, mode)
  writeTss(ram, mode, layout.cpuLayout(0, 0))
  const paging = mapRam(ram, mode, ramSize)?.registers()
  const none = { cr0: 0n, cr3: 0n, cr4: 0n, efer: 0n }
  return { pieces: piecesOf(bytes), gdtLimit, idtLimit, paging: paging ?? none }
}

/** Pages that hold something, those in a row together. */
function piecesOf(image: Uint8Array): GuestImage['pieces'] {
  const pieces: { gpa: number; bytes: Uint8Array }[] = []
  for (let gpa = 0; gpa < image.length; gpa += 4096) {
    if (image.subarray(gpa, gpa + 4096).every((byte) => byte === 0)) continue
    const last = pieces.at(-1)
    const follows = last !== undefined && last.gpa + last.bytes.length === gpa
    if (follows) last.bytes = image.subarray(last.gpa, gpa + 4096)
    else pieces.push({ gpa, bytes: image.subarray(gpa, gpa + 4096) })
  }
  return pieces
}

/** As much RAM is mapped by small pages, so that each has its own rights; more by large ones. */
const SMALL_PAGES = 2 ** 24

/** RAM mapped to its own addresses for every ring. */
export function mapRam(
  ram: PhysicalMemory,
  { paging }: Mode,
  size: number,
): PageTableBuilder | undefined {
  if (paging === undefined) return undefined
  const tables = new PageTableBuilder(ram, {
    mode: paging,
    gpa: layout.TABLES,
    size: layout.TABLES_SIZE,
    ...(size <= SMALL_PAGES && { maxPageSize: 4096 }),
  })
  for (let gpa = 0; gpa < Math.min(size, SMALL_PAGES); gpa += 4096) {
    tables.map(BigInt(gpa), gpa, 4096, { user: true })
  }
  if (size > SMALL_PAGES) {
    tables.map(BigInt(SMALL_PAGES), SMALL_PAGES, size - SMALL_PAGES, { user: true })
  }
  return tables
}
