// The leaves of CPUID that differ from one vCPU to the next: APIC identifiers and the shape of
// sockets, cores and threads. KVM_GET_SUPPORTED_CPUID reports the host's, which no guest may see.

import { type CpuidEntry, cpuidEntry } from './cpuid-entry.js'
import { isAmdCpuid } from './cpuid-identity.js'
import { CpuidTable } from './cpuid-table.js'
import { checkInteger } from './out-of-range.js'

/** The shape of a machine. Counts that are no powers of two leave gaps in the APIC identifiers. */
export interface CpuTopology {
  /** Logical processors in all. */
  cpus: number
  /** Logical processors of a core (1 by default). */
  threadsPerCore?: number
  /** Cores of a socket (by default all cores are in one). */
  coresPerSocket?: number
}

interface Shape {
  threads: number
  cores: number
  /** Bits of the APIC identifier below the core number. */
  coreShift: number
  /** Bits of the APIC identifier below the socket number. */
  socketShift: number
}

/**
 * The APIC identifier, which with KVM is also the vCPU id, of the n-th logical processor. Source:
 * SDM vol. 3A §9.9.2 (hierarchical identifiers), §9.9.3.2.
 *
 * @param index 0 to `cpus - 1`
 * @throws RangeError (`ERR_OUT_OF_RANGE`)
 */
export function apicIdOf(index: number, topology: CpuTopology): number {
  checkInteger('index', index, 0, topology.cpus - 1)
  const { threads, cores, coreShift, socketShift } = shapeOf(topology)
  const thread = index % threads
  const core = Math.floor(index / threads) % cores
  const socket = Math.floor(index / (threads * cores))
  return socket * 2 ** socketShift + core * 2 ** coreShift + thread
}

/**
 * A copy of a CPUID table made true for one vCPU: leaves 1, 4, 0xB, 0x1F (when present) and, for
 * AMD, 0x80000008, 0x8000001D and 0x8000001E. Leaf 0x80000026 is removed, since the older leaves
 * say all that it would. Source: SDM vol. 2A, CPUID; APM vol. 3 appendix E.
 *
 * @param entries the table to start from, such as KVM_GET_SUPPORTED_CPUID's
 * @param vcpu the machine's shape and this vCPU's id, which is its APIC identifier; see
 * {@link apicIdOf}
 * @throws RangeError (`ERR_OUT_OF_RANGE`)
 */
export function withTopology(
  entries: readonly CpuidEntry[],
  vcpu: CpuTopology & { vcpuId: number },
): CpuidEntry[] {
  checkInteger('vcpuId', vcpu.vcpuId, 0, 0xffffffff)
  const table = new CpuidTable(entries)
  const shape = shapeOf(vcpu)
  setLeaf1(table, shape, vcpu.vcpuId)
  setCaches(table, 0x4, shape)
  setExtendedTopology(table, 0xb, shape, vcpu.vcpuId)
  if (table.find(0x1f) !== undefined) setExtendedTopology(table, 0x1f, shape, vcpu.vcpuId)
  if (isAmdCpuid(entries)) setAmdLeaves(table, shape, vcpu.vcpuId)
  return table.remove(0x80000026).entries
}

function shapeOf({ cpus, threadsPerCore = 1, coresPerSocket }: CpuTopology): Shape {
  checkInteger('cpus', cpus, 1, 0xffff)
  checkInteger('threadsPerCore', threadsPerCore, 1, 256)
  const cores = coresPerSocket ?? Math.ceil(cpus / threadsPerCore)
  checkInteger('coresPerSocket', cores, 1, 0xffff)
  const coreShift = bitsFor(threadsPerCore)
  return { threads: threadsPerCore, cores, coreShift, socketShift: coreShift + bitsFor(cores) }
}

function bitsFor(count: number): number {
  return 32 - Math.clz32(count - 1)
}

function setLeaf1(table: CpuidTable, shape: Shape, apicId: number): void {
  const leaf = table.find(1)
  if (leaf === undefined) return
  // The count is an 8-bit field; larger packages are described by leaf 0xB alone.
  const identifiers = Math.min(2 ** shape.socketShift, 255)
  leaf.ebx = ((apicId & 0xff) * 0x1000000 + identifiers * 0x10000 + (leaf.ebx & 0xffff)) >>> 0
  table.set('ht', shape.threads * shape.cores > 1)
}

// First- and second-level caches belong to a core, all further levels to the socket.
function setCaches(table: CpuidTable, leaf: number, shape: Shape): void {
  for (const entry of table.entries) {
    if (entry.function !== leaf || (entry.eax & 0x1f) === 0) continue
    const level = (entry.eax >>> 5) & 7
    const sharing = 2 ** (level < 3 ? shape.coreShift : shape.socketShift) - 1
    const cores = leaf === 4 ? 2 ** (shape.socketShift - shape.coreShift) - 1 : 0
    entry.eax =
      ((entry.eax & 0x3fff) +
        Math.min(sharing, 0xfff) * 0x4000 +
        Math.min(cores, 63) * 0x4000000) >>>
      0
  }
}

function setExtendedTopology(table: CpuidTable, leaf: number, shape: Shape, apicId: number): void {
  const level = (subleaf: number, type: number, shift: number, count: number) =>
    cpuidEntry(leaf, subleaf, { eax: shift, ebx: count, ecx: subleaf + type * 256, edx: apicId })
  table
    .remove(leaf)
    .put(level(0, 1, shape.coreShift, shape.threads))
    .put(level(1, 2, shape.socketShift, shape.threads * shape.cores))
    .put(level(2, 0, 0, 0))
}

function setAmdLeaves(table: CpuidTable, shape: Shape, apicId: number): void {
  setCaches(table, 0x8000001d, shape)
  const size = table.find(0x80000008)
  if (size !== undefined) {
    const threads = Math.min(shape.threads * shape.cores - 1, 0xff)
    size.ecx = ((size.ecx & 0xffff0f00) | (shape.socketShift << 12) | threads) >>> 0
  }
  if (!table.has('topoext')) return
  const core = Math.floor((apicId % 2 ** shape.socketShift) / 2 ** shape.coreShift)
  const node = Math.floor(apicId / 2 ** shape.socketShift)
  const ebx = (shape.threads - 1) * 256 + (core & 0xff)
  table.put(cpuidEntry(0x8000001e, 0, { eax: apicId, ebx, ecx: node & 0xff }))
}
