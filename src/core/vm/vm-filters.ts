// What a guest may use of its CPU: which MSRs, which events of the performance counters.

import {
  encodeKvmMsrFilter,
  encodeKvmPmuEventFilter,
  encodeKvmPmuEventFilterEvents,
  KVM_CAP_PMU_EVENT_FILTER,
  KVM_CAP_X86_MSR_FILTER,
  KVM_MSR_FILTER_MAX_BITMAP_SIZE,
  KVM_MSR_FILTER_MAX_RANGES,
  KVM_SET_PMU_EVENT_FILTER,
  KVM_X86_SET_MSR_FILTER,
} from '../../uapi/index.js'
import { bytes, list, object, outOfRange, uint32 } from '../validate.js'
import { VmClock } from './vm-clock.js'

const MSR_FILTER_SIZE = 392
const MAX_PMU_EVENTS = 300
const NO_RANGE = { flags: 0, nmsrs: 0, base: 0, bitmap: 0n }

/** A range of {@link MsrFilter}. */
export interface MsrFilterRange {
  /** What the range is about: `KVM_MSR_FILTER_READ` (1), `KVM_MSR_FILTER_WRITE` (2). */
  flags: number
  /** The first MSR. */
  base: number
  /** How many, at most 12288. */
  count: number
  /** A bit for each, the first in bit 0 of byte 0: 1 allows it. */
  bitmap: Uint8Array
}

/** What {@link Vm.x86SetMsrFilter} takes. */
export interface MsrFilter {
  /** What no range is about: `KVM_MSR_FILTER_DEFAULT_ALLOW` (0) or `_DENY` (1). */
  flags?: number
  /** At most 16. None removes the filter, and needs the default to be allow. */
  ranges: readonly MsrFilterRange[]
}

/** What {@link Vm.setPmuEventFilter} takes. */
export interface PmuEventFilter {
  /** What is done with the events listed: `KVM_PMU_EVENT_ALLOW` (0), `KVM_PMU_EVENT_DENY` (1). */
  action: number
  /** Event select and unit mask, or masked entries; at most 300. */
  events: readonly bigint[]
  /** A bit for each fixed counter: those the action applies to. */
  fixedCounterBitmap?: number
  /** `KVM_PMU_EVENT_FLAG_MASKED_EVENTS` (1): the events are masked entries. */
  flags?: number
}

/** Filters of a VM. */
export abstract class VmFilters extends VmClock {
  /**
   * Denies the guest accesses to MSRs: they raise #GP or, with `KVM_CAP_X86_USER_SPACE_MSR` and its
   * filter reason enabled, exit. Replaces the filter before.
   *
   * x2APIC MSRs (0x800 to 0x8ff) cannot be filtered.
   *
   * @ioctl KVM_X86_SET_MSR_FILTER (KVM API 4.97)
   * @capability KVM_CAP_X86_MSR_FILTER
   * @throws KvmError `EINVAL` when the default is to deny and there is no range.
   */
  x86SetMsrFilter(filter: MsrFilter): void {
    const { flags = 0, ranges } = object(filter, 'filter')
    uint32(flags, 'filter.flags')
    const checked = list(ranges, 'filter.ranges').map(checkedRange)
    if (checked.length > KVM_MSR_FILTER_MAX_RANGES) {
      throw outOfRange('filter.ranges.length', `<= ${KVM_MSR_FILTER_MAX_RANGES}`, checked.length)
    }
    this.capabilities.require(KVM_CAP_X86_MSR_FILTER)
    this.sendPointers(
      KVM_X86_SET_MSR_FILTER,
      'KVM_X86_SET_MSR_FILTER',
      MSR_FILTER_SIZE,
      (draft) =>
        encodeKvmMsrFilter(draft, 0, {
          flags,
          ranges: Array.from(
            { length: KVM_MSR_FILTER_MAX_RANGES },
            (_, i) => checked[i] ?? NO_RANGE,
          ),
        }),
      checked.map(({ words }) => words),
      { reasons: { EINVAL: 'a default of deny needs a range, and a range needs a direction' } },
    )
  }

  /**
   * Allows or denies the guest's performance counters events. Replaces the filter before.
   *
   * @ioctl KVM_SET_PMU_EVENT_FILTER (KVM API 4.120)
   * @capability KVM_CAP_PMU_EVENT_FILTER
   * @throws KvmError `EINVAL` for flags or masked entries that the kernel does not take.
   */
  setPmuEventFilter(filter: PmuEventFilter): void {
    const { action, events, fixedCounterBitmap = 0, flags = 0 } = object(filter, 'filter')
    const entries = list(events, 'filter.events')
    if (entries.length > MAX_PMU_EVENTS) {
      throw outOfRange('filter.events.length', `<= ${MAX_PMU_EVENTS}`, entries.length)
    }
    uint32(action, 'filter.action')
    this.capabilities.require(KVM_CAP_PMU_EVENT_FILTER)
    this.send(KVM_SET_PMU_EVENT_FILTER, 'KVM_SET_PMU_EVENT_FILTER', (draft) => {
      encodeKvmPmuEventFilter(draft, 0, {
        action,
        nevents: entries.length,
        fixed_counter_bitmap: fixedCounterBitmap,
        flags,
      })
      encodeKvmPmuEventFilterEvents(draft, 0, entries)
    })
  }
}

/** The range as the kernel's struct has it, and its bits in whole words of 64. */
function checkedRange(range: MsrFilterRange, index: number) {
  const name = `filter.ranges[${index}]`
  const { flags, base, count, bitmap } = object(range, name)
  const size = Math.ceil(uint32(count, `${name}.count`) / 64) * 8
  if (size > KVM_MSR_FILTER_MAX_BITMAP_SIZE || count === 0) {
    throw outOfRange(`${name}.count`, `>= 1 and <= ${KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8}`, count)
  }
  const given = bytes(bitmap, `${name}.bitmap`)
  const needed = Math.ceil(count / 8)
  if (given.length < needed) {
    throw outOfRange(`${name}.bitmap.length`, `>= ${needed}`, given.length)
  }
  const words = new Uint8Array(size)
  words.set(given.subarray(0, needed))
  return { flags, base: uint32(base, `${name}.base`), nmsrs: count, bitmap: 0n, words }
}
