// KVM's binary statistics: a file that describes itself, and the numbers in it.

import type { Binding, FileHandle } from '../binding.js'
import {
  decodeKvmStatsDesc,
  decodeKvmStatsHeader,
  type KvmStatsHeader,
  StructView,
} from '../uapi/index.js'
import { KvmError, kvmError } from './errors.js'
import { PlainFile } from './plain-file.js'
import { describeStat, type Stat, type StatValue, statValue } from './stat.js'

const HEADER = 24
const DESCRIPTOR = 16

/**
 * The statistics of a VM or a vCPU. What there is depends on the kernel: {@link stats} lists it. It
 * stays readable after its VM or vCPU was closed, and keeps the kernel's VM alive.
 *
 * Layout and meaning: KVM API 4.133.
 */
export class StatsFd extends PlainFile {
  #description: { header: KvmStatsHeader; id: string; stats: readonly Stat[] } | undefined
  #data: StructView | undefined

  /** @internal */
  static of(native: Binding, file: FileHandle): StatsFd {
    const handle = native.statsFile(file)
    if (typeof handle === 'number') throw kvmError(handle, { ioctl: 'KVM_GET_STATS_FD' })
    return new StatsFd(native, handle)
  }

  /** The file's header: how many descriptors, how long their names are, where what begins. */
  get header(): KvmStatsHeader {
    return this.#described.header
  }

  /** Whose statistics they are: `kvm-<pid>`, `kvm-<pid>/vcpu-<id>`. */
  get id(): string {
    return this.#described.id
  }

  /** The statistics there are, in the file's order. Read once: a kernel does not change them. */
  get stats(): readonly Stat[] {
    return this.#described.stats
  }

  /** Reads all values of this moment, with one pread(2). */
  read(): Map<string, StatValue> {
    const { stats, header } = this.#described
    const end = Math.max(...stats.map(({ offset, size }) => offset + size * 8), 0)
    this.#data ??= new StructView(end)
    this.#readAt(header.data_offset, this.#data.u8.subarray(0, end))
    const { u64 } = this.#data
    return new Map(stats.map((stat) => [stat.name, statValue(stat, u64)]))
  }

  get #described() {
    this.#description ??= this.#describe()
    return this.#description
  }

  #describe() {
    const view = new StructView(HEADER)
    this.#readAt(0, view.u8)
    const header = decodeKvmStatsHeader(view, 0)
    const id = new Uint8Array(header.name_size)
    this.#readAt(header.id_offset, id)
    const each = DESCRIPTOR + header.name_size
    const all = new StructView(header.num_desc * each)
    this.#readAt(header.desc_offset, all.u8.subarray(0, header.num_desc * each))
    const stats = Array.from({ length: header.num_desc }, (_, i) => {
      const name = all.u8.subarray(i * each + DESCRIPTOR, (i + 1) * each)
      return describeStat(decodeKvmStatsDesc(all, i * each), text(name))
    })
    return { header, id: text(id), stats }
  }

  #readAt(offset: number, into: Uint8Array): void {
    const result = this.native.readFileAt(this.handle, offset, into)
    if (result < 0) throw kvmError(result, { syscall: 'pread64' })
    if (result === into.length) return
    throw new KvmError('EIO', 5, 'the statistics end early', {
      syscall: 'pread64',
      size: into.length,
    })
  }
}

/** The characters before the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('latin1')
}
