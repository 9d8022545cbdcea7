// The initial RAM disk goes as high as the kernel can reach, so that it does not stand in the way of
// the kernel's own early allocations.

import { alignUp } from './align.js'
import { BootError, hex } from './boot-error.js'
import { BYTES_PER_PAGE, GPA_4G, GPA_END, HIGH_MEMORY_GPA } from './layout.js'
import type { LoadPlan } from './load-plan.js'

/** Where the RAM disk went; both 0 without one. */
export interface InitrdPlacement {
  readonly gpa: number
  /** Bytes of content. The pages are claimed whole. */
  readonly size: number
}

/** What the kernel says about where its RAM disk may be. */
export interface InitrdLimits {
  /** Highest address that the RAM disk's last byte may have (`initrd_addr_max`). */
  readonly addrMax: number
  /** The kernel also takes a RAM disk above 4 GiB (XLF_CAN_BE_LOADED_ABOVE_4G). */
  readonly above4G: boolean
}

/**
 * Claims and fills the highest page-aligned place that holds the RAM disk: below 4 GiB and
 * `addrMax`; if there is no such place and the kernel can, above 4 GiB. Call it after the kernel's
 * claim, which includes the area that the kernel unpacks itself into.
 *
 * @throws BootError `ERR_BOOT_NO_SPACE`
 */
export function placeInitrd(
  plan: LoadPlan,
  initrd: Uint8Array | undefined,
  limits: InitrdLimits,
): InitrdPlacement {
  if (!initrd || initrd.length === 0) return { gpa: 0, size: 0 }
  const size = alignUp(initrd.length, BYTES_PER_PAGE)
  const end = Math.min(limits.addrMax + 1, GPA_4G)
  const alignment = BYTES_PER_PAGE
  const below = { alignment, from: HIGH_MEMORY_GPA, end }
  const above = { alignment, from: GPA_4G, end: GPA_END }
  const gpa =
    plan.claimHighest('initrd', size, below) ??
    (limits.above4G ? plan.claimHighest('initrd', size, above) : undefined)
  if (gpa === undefined) throw noSpace(plan, initrd.length, end, limits.above4G)
  plan.write(gpa, initrd)
  return { gpa, size: initrd.length }
}

function noSpace(plan: LoadPlan, size: number, end: number, above4G: boolean): BootError {
  const taken = plan.placements.map((p) => `${p.name} ${hex(p.gpa)}..${hex(p.gpa + p.size)}`)
  const where = above4G ? `below ${hex(end)} or above 4 GiB` : `below ${hex(end)}`
  const message =
    `no place for the initrd of ${hex(size)} bytes ${where} (taken: ${taken.join(', ')}); ` +
    'give the guest more memory or use a smaller initrd'
  return new BootError('ERR_BOOT_NO_SPACE', message, { placement: 'initrd', size, limit: end })
}
