// Which pages the guest wrote: bitmaps of slots, and the rings of the vCPUs.

import {
  encodeKvmClearDirtyLog,
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CLEAR_DIRTY_LOG,
  KVM_RESET_DIRTY_RINGS,
} from '../../uapi/index.js'
import { check } from '../errors.js'
import { bitmapSize } from '../memory/dirty-bits.js'
import { bytes, integer, object, outOfRange, uint32 } from '../validate.js'
import { dirtyRingsOf } from './vm-file.js'
import { VmMemory } from './vm-memory.js'

const PAGE = 4096
const CLEAR_DIRTY_LOG_SIZE = 24

/** @internal Why the kernel refuses to read or clear a log. */
export const DIRTY_LOG_REASONS = {
  ENOENT: 'there is no such slot, or it does not log (KVM_MEM_LOG_DIRTY_PAGES)',
  ENXIO: 'the VM keeps dirty rings and no bitmaps',
}

/** What {@link Vm.clearDirtyLog} takes. */
export interface ClearDirtyLog {
  slot: number
  /** First page of the range within the slot, a multiple of 64. */
  firstPage: number
  /** Pages: a multiple of 64, unless the range reaches the slot's end. */
  pageCount: number
  /** A bit for each page of the range, the first in bit 0 of byte 0: those set are cleared. */
  bitmap: Uint8Array
}

/** Dirty pages of a VM. */
export abstract class VmDirty extends VmMemory {
  /**
   * Which pages of a slot were written since the last call: bit i of the bytes is page i. The call
   * clears them, unless `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2` is enabled.
   *
   * The bytes come in whole 64-bit words.
   *
   * @param into Bytes to write to and return, at least as many, instead of new ones.
   * @ioctl KVM_GET_DIRTY_LOG (KVM API 4.8)
   * @throws KvmError `ENOENT` when there is no such slot, or it was made without
   *   `KVM_MEM_LOG_DIRTY_PAGES`; `ENXIO` when the VM has dirty rings instead; `EFAULT` when `into` is
   *   too short.
   */
  getDirtyLog(slot: number, into?: Uint8Array): Uint8Array {
    uint32(slot, 'slot')
    const bitmap = into === undefined ? this.#bitmapFor(slot) : bytes(into, 'into')
    const result = this.native.getDirtyLog(this.handle, slot, bitmap)
    check(result, 'KVM_GET_DIRTY_LOG', { slot, reasons: DIRTY_LOG_REASONS })
    return bitmap
  }

  #bitmapFor(slot: number): Uint8Array {
    return new Uint8Array(bitmapSize((this.slots.get(slot)?.size ?? 0) / PAGE))
  }

  /**
   * Clears the pages whose bits are set, so that writes to them are noticed again.
   *
   * @ioctl KVM_CLEAR_DIRTY_LOG (KVM API 4.117)
   * @capability KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
   * @throws `ERR_OUT_OF_RANGE` for a range that is not aligned as {@link ClearDirtyLog} says or does
   *   not lie in the slot; KvmError as {@link getDirtyLog}.
   */
  clearDirtyLog(range: ClearDirtyLog): void {
    const { slot, firstPage, pageCount, bitmap } = object(range, 'range')
    uint32(slot, 'range.slot')
    uint32(pageCount, 'range.pageCount')
    if (integer(firstPage, 'range.firstPage') % 64) {
      throw outOfRange('range.firstPage', 'a multiple of 64', firstPage)
    }
    this.#checkRange(slot, firstPage, pageCount)
    const words = padded(bytes(bitmap, 'range.bitmap'), pageCount)
    this.capabilities.require(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
    this.sendPointers(
      KVM_CLEAR_DIRTY_LOG,
      'KVM_CLEAR_DIRTY_LOG',
      CLEAR_DIRTY_LOG_SIZE,
      (draft) =>
        encodeKvmClearDirtyLog(draft, 0, {
          slot,
          num_pages: pageCount,
          first_page: firstPage,
          dirty_bitmap: 0n,
        }),
      [words],
      { slot, reasons: DIRTY_LOG_REASONS },
    )
  }

  #checkRange(slot: number, firstPage: number, pageCount: number): void {
    const known = this.slots.get(slot)
    const pages = known === undefined ? undefined : known.size / PAGE
    if (pages !== undefined && firstPage + pageCount > pages) {
      throw outOfRange('range.pageCount', `<= ${Math.max(pages - firstPage, 0)}`, pageCount)
    }
    if (pageCount % 64 && firstPage + pageCount !== pages) {
      throw outOfRange('range.pageCount', "a multiple of 64, or up to the slot's end", pageCount)
    }
  }

  /**
   * Takes back the entries of all vCPUs' dirty rings that were marked as collected, and notices
   * writes to their pages again. Before the rings fill up, and before the pages are read.
   *
   * @returns How many entries it took.
   * @ioctl KVM_RESET_DIRTY_RINGS (KVM API 8.29)
   * @capability KVM_CAP_DIRTY_LOG_RING
   * @throws KvmError `EINVAL` when the VM has no dirty rings.
   */
  resetDirtyRings(): number {
    this.capabilities.require(KVM_CAP_DIRTY_LOG_RING)
    const count = this.request(KVM_RESET_DIRTY_RINGS, 'KVM_RESET_DIRTY_RINGS', undefined, {
      reasons: { EINVAL: 'the VM has no dirty rings: enable KVM_CAP_DIRTY_LOG_RING first' },
    })
    dirtyRingsOf(this).resets++
    return count
  }
}

/** The bitmap in as many bytes as the kernel reads. */
function padded(bitmap: Uint8Array, pages: number): Uint8Array {
  const needed = Math.ceil(pages / 8)
  if (bitmap.length < needed) throw outOfRange('range.bitmap.length', `>= ${needed}`, bitmap.length)
  const words = new Uint8Array(bitmapSize(pages))
  words.set(bitmap.subarray(0, needed))
  return words
}
