// One of KVM's statistics: what it counts, in which unit, and how its numbers are laid out.

import {
  KVM_STATS_BASE_MASK,
  KVM_STATS_BASE_POW2,
  KVM_STATS_TYPE_CUMULATIVE,
  KVM_STATS_TYPE_INSTANT,
  KVM_STATS_TYPE_LINEAR_HIST,
  KVM_STATS_TYPE_LOG_HIST,
  KVM_STATS_TYPE_MASK,
  KVM_STATS_TYPE_PEAK,
  KVM_STATS_UNIT_BOOLEAN,
  KVM_STATS_UNIT_BYTES,
  KVM_STATS_UNIT_CYCLES,
  KVM_STATS_UNIT_MASK,
  KVM_STATS_UNIT_NONE,
  KVM_STATS_UNIT_SECONDS,
  type KvmStatsDesc,
} from '../uapi/index.js'

const TYPES = {
  [KVM_STATS_TYPE_CUMULATIVE]: 'cumulative',
  [KVM_STATS_TYPE_INSTANT]: 'instant',
  [KVM_STATS_TYPE_PEAK]: 'peak',
  [KVM_STATS_TYPE_LINEAR_HIST]: 'linear-histogram',
  [KVM_STATS_TYPE_LOG_HIST]: 'log-histogram',
} as const
const UNITS = {
  [KVM_STATS_UNIT_NONE]: 'none',
  [KVM_STATS_UNIT_BYTES]: 'bytes',
  [KVM_STATS_UNIT_SECONDS]: 'seconds',
  [KVM_STATS_UNIT_CYCLES]: 'cycles',
  [KVM_STATS_UNIT_BOOLEAN]: 'boolean',
} as const

/** How a statistic changes; `'unknown'` for one newer than this library. */
export type StatType = (typeof TYPES)[keyof typeof TYPES] | 'unknown'
/** What it counts; `'unknown'` for one newer than this library. */
export type StatUnit = (typeof UNITS)[keyof typeof UNITS] | 'unknown'

/** Describes one statistic. */
export interface Stat {
  /** The kernel's name. */
  readonly name: string
  /** What becomes of its value: it only grows, goes up and down, is the highest so far, or buckets. */
  readonly type: StatType
  readonly unit: StatUnit
  /** A value times `base ** exponent` is in {@link unit}: 10 and -9 are nanoseconds. */
  readonly base: 2 | 10
  readonly exponent: number
  /** Numbers it has: 1, or the buckets of a histogram. */
  readonly size: number
  /** Where they are among the values, in bytes. */
  readonly offset: number
  /** Width of a linear histogram's buckets; 0 for others. */
  readonly bucketSize: number
}

/** A part of a histogram. */
export interface StatBucket {
  /** The smallest value counted here. */
  readonly from: bigint
  /** The first that is not; undefined for the last bucket, which has no end. */
  readonly to: bigint | undefined
  readonly count: bigint
}

/** A value in its statistic's unit, base and exponent: one number, or the buckets of a histogram. */
export type StatValue = bigint | readonly StatBucket[]

/** What a descriptor of the kernel says. */
export function describeStat(descriptor: KvmStatsDesc, name: string): Stat {
  const { flags, exponent, size, offset, bucket_size: bucketSize } = descriptor
  const types: Readonly<Record<number, StatType>> = TYPES
  const units: Readonly<Record<number, StatUnit>> = UNITS
  return {
    name,
    type: types[flags & KVM_STATS_TYPE_MASK] ?? 'unknown',
    unit: units[flags & KVM_STATS_UNIT_MASK] ?? 'unknown',
    base: (flags & KVM_STATS_BASE_MASK) === KVM_STATS_BASE_POW2 ? 2 : 10,
    exponent,
    size,
    offset,
    bucketSize,
  }
}

/** A statistic's value among all values. */
export function statValue(stat: Stat, values: BigUint64Array): StatValue {
  const first = stat.offset / 8
  if (stat.type !== 'linear-histogram' && stat.type !== 'log-histogram' && stat.size === 1) {
    return values[first]!
  }
  return Array.from({ length: stat.size }, (_, i) => ({
    from: bucketStart(stat, i),
    to: i + 1 < stat.size ? bucketStart(stat, i + 1) : undefined,
    count: values[first + i]!,
  }))
}

// KVM API 4.133: bucket n of a linear histogram begins at n times the bucket size; of a logarithmic
// one, bucket 0 is [0, 1), bucket n is [2^(n-1), 2^n).
function bucketStart({ type, bucketSize }: Stat, bucket: number): bigint {
  if (bucket === 0) return 0n
  return type === 'log-histogram' ? 1n << BigInt(bucket - 1) : BigInt(bucket * bucketSize)
}
