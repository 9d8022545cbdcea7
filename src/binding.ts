// The native addon as TypeScript sees it. It is loaded at the first use, never at import, so that
// the package can be imported (and say what is missing) on a machine that cannot run it.

import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { StructView } from './uapi/index.js'

/** Not an error number: refusals of the native layer itself (native/base.h has the same). */
export const RESULT_CLOSED = -10001
export const RESULT_BUSY = -10002
export const RESULT_UNKNOWN_REQUEST = -10003
export const RESULT_BUFFER_TOO_SMALL = -10004
export const RESULT_WOULD_DEADLOCK = -10005

/** Why a run ended without an exit: bits of what `run()` returns (native/vcpu.h). */
export const RUN_KICKED = 1
export const RUN_SLICE = 2
export const RUN_DEADLINE = 4
export const RUN_STOPPED = 8
/** Alone: a sink must be drained before the run can go on. */
export const RUN_RING_FULL = 32

/** Kinds of native objects (native/base.h). */
export const KIND_SYSTEM = 0
export const KIND_VM = 1
export const KIND_VCPU = 2
export const KIND_REGION = 4
export const KIND_FILE = 6

/** A native object. Its functions are bound to it and never need `this`. */
export interface Handle {
  readonly __native: never
}

/** A handle on a kernel file. */
export interface FileHandle extends Handle {
  readonly __file: never
}

/** One with a function of its own. Results below zero are -errno or one of the refusals above. */
export interface BoundHandle extends FileHandle {
  /** Without a buffer, a request that takes a struct uses the scratch memory. */
  ioctl(request: number, argument?: number | ArrayBuffer): number
}

export interface VmHandle extends BoundHandle {
  /** Names this VM in `chosen`. */
  readonly slot: number
}

export interface VcpuHandle extends FileHandle {
  /** Names this vCPU in `chosen`. */
  readonly slot: number
}

/** A handle on a file that is not one of KVM's. */
export interface PlainFileHandle extends Handle {
  /** Adds to the count of an eventfd; undefined when it did. */
  signal(count: number): number | undefined
}

/** What an address or a descriptor in a struct refers to; null leaves the field as it is. */
export type Attachment = Uint8Array | Handle | null

/** What a vCPU's thread tells its owner (native/run_loop.h). */
export const THREAD_EXIT = 0
export const THREAD_PAUSED = 1
export const THREAD_ENDED = 2

/** Parts of what `addExitRange` takes (native/exit_table_api.cc). */
export interface ExitRangeArguments {
  place: [memory: Handle | null, offset: number]
  index: [offset: number, select: number, mask: number, match: number]
  read: [
    ...[how: number, low: number, high: number],
    ...ExitRangeArguments['place'],
    ...ExitRangeArguments['index'],
  ]
  write: [how: number, ...ExitRangeArguments['place'], ...[capacity: number, event: Handle | null]]
}

/** Says whether the exit is answered. `status` is that of `run`, or the number of a pause. */
export type Dispatch = (index: number, status: number, event: number) => boolean

/** Functions of guest memory. Results below zero are -errno. */
interface MemoryNative {
  createRegion(
    size: number,
    gpa: number,
    backing: number,
    path: string,
    fileOffset: number,
  ): Handle | number
  discardRegion(region: Handle, offset: number, length: number): number
  /** madvise(2), for harmless advice. */
  adviseRegion(region: Handle, offset: number, length: number, advice: number): number
  writeRegion(region: Handle, offset: number, bytes: Uint8Array): number
  fillRegion(region: Handle, offset: number, length: number, value: number): number
  /** Begins to bring pages in, on a thread of its own. */
  prefaultRegion(region: Handle, offset: number, length: number, write: 0 | 1): number
  lockRegion(region: Handle, onFault: 0 | 1): number
  /** mbind(2): a bit of `nodes` for each node below 53. */
  bindRegion(region: Handle, mode: number, nodes: number): number
  /** mincore(2): a byte for each page. */
  regionResidency(region: Handle, offset: number, pages: Uint8Array): number
  /** `/proc/self/pagemap`: eight bytes for each page. */
  regionPagemap(region: Handle, offset: number, entries: Uint8Array): number
  /** The lines of `/proc/self/smaps`, without addresses. */
  regionSmaps(region: Handle): string
  /** Pages that had gone and were replaced by zeros. */
  regionLostPages(region: Handle): number
}

/** Functions of userfaultfd(2). Offsets are in the region. */
interface UserfaultNative {
  /** A bit for each feature of linux/userfaultfd.h. */
  userfaultFeatures(): number
  /** `modes`: 1 missing, 2 write-protect, 4 minor. Missing pages come from `path` unless it is ''. */
  createUserfault(
    region: Handle,
    offset: number,
    length: number,
    modes: number,
    path: string,
    fileOffset: number,
    bell: Handle,
  ): Handle | number
  closeUserfault(userfault: Handle): void
  userfaultPageSize(userfault: Handle): number
  /** The page's offset plus the event; -EAGAIN when there is none. */
  userfaultTake(userfault: Handle, page: Uint8Array): number
  userfaultBring(userfault: Handle, offset: number, page: Uint8Array | null): number
  /** Which event a touch of the page would be; -EEXIST for none. */
  userfaultClaim(userfault: Handle, offset: number): number
  userfaultFetch(userfault: Handle, offset: number, length: number): number
  userfaultProtect(userfault: Handle, offset: number, length: number, on: 0 | 1): number
  userfaultCounts(userfault: Handle): number[]
  /** Whether this thread would wait for itself. */
  regionWouldWait(region: Handle, offset: number, length: number): boolean
}

/** Where a driver put a virtqueue (native/virtqueue.h). `flags`: 1 packed, 2 event index, 4 indirect, 8 in order. */
export type QueueArguments = [
  size: number,
  flags: number,
  descriptors: number,
  driver: number,
  device: number,
]

/** Functions of virtqueues that native code serves. */
interface VirtqueueNative {
  /** RAM as native devices see it: each region with its guest-physical address. */
  createGuestRam(regions: readonly Handle[], gpas: readonly number[]): Handle | number
  createVirtqueue(ram: Handle, ...setup: QueueArguments): Handle | number
  /** Id, slots, readable parts, then address and length of each part; 0: empty; -EIO: broken. */
  virtqueuePop(queue: Handle): number[] | number
  virtqueuePush(queue: Handle, id: number, slots: number, written: number): void
  virtqueueNeedsInterrupt(queue: Handle): boolean
  /** Switching them on says whether a buffer is there already. */
  virtqueueNotifications(queue: Handle, on: 0 | 1): boolean | undefined
}

/** States of a thread that serves a disk (native/block_worker.h). */
export const BLOCK_WORKER = {
  starting: 0,
  running: 1,
  paused: 2,
  broken: 3,
  failed: 4,
  ended: 5,
} as const

/** Functions of disks whose requests native threads carry out. */
interface BlockNative {
  openDisk(path: string, readOnly: 0 | 1, direct: 0 | 1): Handle | number
  /** Logical and physical block, alignment offset, minimum and optimal I/O, in bytes. */
  diskGeometry(disk: Handle): [number, number, number, number, number]
  /** Sectors of 512 bytes, as they are now. */
  refreshDisk(disk: Handle): number
  setDiskCache(disk: Handle, writeBack: 0 | 1, ignoresFlush: 0 | 1): void
  /** Per second and at most at once, each; 0: no limit. */
  setDiskLimit(
    disk: Handle,
    bytes: number,
    bytesBurst: number,
    operations: number,
    operationsBurst: number,
  ): void
  /** See src/io/virtio-disk.ts. */
  diskCounters(disk: Handle): number[]
  /** `features`: 1 discard, 2 write zeroes. */
  startBlockWorker(
    disk: Handle,
    ram: Handle,
    kick: Handle,
    call: Handle,
    bell: Handle,
    id: Uint8Array,
    features: number,
    useRing: 0 | 1,
    ...setup: QueueArguments
  ): Handle | number
  /** 0 run, 1 pause, 2 end. */
  tellBlockWorker(worker: Handle, what: 0 | 1 | 2): void
  /** One of BLOCK_WORKER, and whether it uses io_uring. */
  blockWorkerState(worker: Handle): [state: number, usesRing: number]
}

/** One direction's queue of a network device (native/net_worker.h). Limits of 0 a second are none. */
export type NetQueueArguments = [
  ...setup: QueueArguments,
  kick: Handle,
  call: Handle,
  bytesPerSecond: number,
  bytesBurst: number,
  framesPerSecond: number,
  framesBurst: number,
]

/** What a network device's thread says (native/net_worker.h): bits. */
export const NET_BROKEN = 1
export const NET_GONE = 2
export const NET_ENDED = 4
export const NET_PAUSED = 8

/** Functions of TAPs and of the threads that serve them. Results below zero are -errno. */
interface NetNative {
  /** ioctl(2) of a TAP's file: what the request points to, or its argument in four bytes. */
  tapRequest(file: Handle, request: number, data: Uint8Array): number
  interfaceMtu(name: string): number
  duplicateFile(fd: number): Handle | number
  startNetWorker(
    ram: Handle,
    tap: Handle,
    bell: Handle,
    mergeable: 0 | 1,
    linkUp: 0 | 1,
    ...queues: [...receive: NetQueueArguments, ...transmit: NetQueueArguments]
  ): Handle | number
  netWorkerState(worker: Handle): number
  /** Frames, bytes and frames thrown away, to the guest and from it. */
  netWorkerCounts(worker: Handle): number[]
  setNetWorkerLink(worker: Handle, up: 0 | 1): void
  pauseNetWorker(worker: Handle, on: 0 | 1): void
  /** It says by its state when it has ended. */
  stopNetWorker(worker: Handle): void
  /** After that. */
  forgetNetWorker(worker: Handle): void
}

interface Native extends MemoryNative, UserfaultNative, VirtqueueNative, BlockNative, NetNative {
  readonly scratch: ArrayBuffer
  openSystem(path: string): BoundHandle | number
  createVm(system: FileHandle, type: number): VmHandle | number
  createVcpu(vm: FileHandle, vcpuId: number): VcpuHandle | number
  regionBuffer(region: Handle, offset: number, length: number, shared: 0 | 1): ArrayBuffer
  runPage(vcpu: VcpuHandle): ArrayBuffer
  /**
   * The slot of the vCPU that `run` runs and `issue` asks, or of the VM that `issueVm` asks, and the
   * number of the request. One function for all of them: see native/handle_table.h.
   */
  readonly chosen: Uint32Array
  /** Undefined: the guest exited and the run page says how. Above zero: run bits. Below: an error. */
  readonly run: () => number | undefined
  /** A struct is in the scratch memory; a plain argument is 0. Undefined stands for the result 0. */
  readonly issue: () => number | undefined
  /** The same of a VM. */
  readonly issueVm: () => number | undefined
  /** {@link BoundHandle.ioctl} of the vCPU and the request chosen. */
  readonly issueWith: (argument?: number | ArrayBuffer) => number
  /** Ends the run of the vCPU chosen. */
  readonly kick: () => void
  setUserMemoryRegion(
    vm: FileHandle,
    slot: number,
    flags: number,
    gpa: number,
    size: number,
    region: Handle | null,
    offset: number,
  ): number
  setUserMemoryRegion2(
    vm: FileHandle,
    slot: number,
    flags: number,
    gpa: number,
    size: number,
    region: Handle | null,
    offset: number,
    guestMemfd: Handle | null,
    guestMemfdOffset: number,
  ): number
  /** Writes six doubles for each slot (src/core/memory/memory-slots.ts). Returns how many slots. */
  listSlots(vm: FileHandle, first: number, slots: Uint8Array): number
  changeSlot(vm: FileHandle, slot: number, flags: number, gpa: number): number
  getDirtyLog(vm: FileHandle, slot: number, bitmap: Uint8Array): number
  mapDirtyRing(vm: FileHandle, vcpu: FileHandle, size: number): ArrayBuffer | number
  /**
   * Takes ranges of set bits from a page on, as pairs of first page and count, and clears them. The
   * bitmap is aligned to 8 bytes. Returns how many pairs.
   */
  takePageRanges(bitmap: Int32Array, page: number, ranges: Uint32Array): number
  /**
   * The same from the first page of a slot on, after its log was read (bit 0 of `ways`; bit 1 keeps the
   * bits that are set before) and so many pages at a time were cleared in it. `found` gets the slot's
   * address, its pages (0: no such slot) and whether clearing had begun.
   */
  takeDirtyRanges(
    vm: FileHandle,
    slot: number,
    bitmap: Int32Array,
    ranges: Uint32Array,
    found: Float64Array,
    ways: number,
    clearAtOnce: number,
  ): number
  /**
   * Takes the entries of dirty rings and sets the bits of their pages in the bitmaps of `slots`. Each
   * ring's words are followed by its place (src/core/memory/dirty-ring.ts). Returns how many entries.
   */
  harvestRings(
    rings: readonly (Int32Array | Uint32Array)[],
    resets: number,
    slots: Uint32Array,
    bitmaps: readonly Int32Array[],
  ): number
  createGuestMemfd(vm: FileHandle, size: number, flags: number): Handle | number
  punchHole(guestMemfd: Handle, offset: number, length: number): number
  xenHvmConfig(
    vm: FileHandle,
    flags: number,
    msr: number,
    blob32: Uint8Array,
    blob64: Uint8Array,
  ): number
  setXenSharedInfo(vm: FileHandle, region: Handle | null, offset: number): number
  encryptedRegion(vm: FileHandle, add: 0 | 1, region: Handle, offset: number, size: number): number
  /** A request whose struct holds addresses or files: `attachments` fill them in their order. */
  pointerRequest(
    file: FileHandle,
    request: number,
    struct: Uint8Array,
    attachments: readonly Attachment[],
  ): number
  /** Writes the struct back, and the firmware's error code to the start of the scratch memory. */
  memoryEncryptOp(
    file: FileHandle,
    tdx: 0 | 1,
    command: number,
    flags: number,
    struct: Uint8Array,
    attachments: readonly Attachment[],
    firmware: Handle | null,
  ): number
  enableCapFile(file: FileHandle, capability: number, argument: Handle): number
  createDevice(vm: FileHandle, type: number, flags: number): BoundHandle | number
  getDeviceAttr(file: FileHandle, group: number, attr: number, value: Uint8Array): number
  setDeviceAttr(file: FileHandle, group: number, attr: number, value: Uint8Array | Handle): number
  openFile(path: string, writable: 0 | 1): PlainFileHandle | number
  createEventFd(initial: number, semaphore: 0 | 1): PlainFileHandle | number
  /** Calls back with each count it takes. A number for the two below, or an error. */
  watchEventFd(file: Handle, onSignal: (count: number) => void): number
  unwatchEventFd(watch: number): void
  refEventFd(watch: number, on: 0 | 1): void
  /** A number for the next, or an error: EBUSY, ELOOP (native/event_relay.h). */
  relayEventFd(source: Handle, target: Handle): number
  endEventFdRelay(relay: number): void
  statsFile(of: FileHandle): PlainFileHandle | number
  readFile(file: Handle, data: Uint8Array): number
  readFileAt(file: Handle, offset: number, data: Uint8Array): number
  /** One register: its id and value. */
  vcpuOneReg(vcpu: VcpuHandle, set: 0 | 1, register: BigUint64Array): number
  /** The signals blocked during KVM_RUN, in two halves; without them, the mask is lifted. */
  vcpuSignalMask(vcpu: VcpuHandle, ...halves: [] | [low: number, high: number]): number
  vcpuXenSetAttr(vcpu: VcpuHandle, region: Handle | null, offset: number, attr: ArrayBuffer): number
  /** The version of the enlightened VMCS. */
  vcpuEnlightenedVmcs(vcpu: VcpuHandle): number
  /** 1: done. 0: another exit of the same instruction. */
  vcpuCompleteIo(vcpu: VcpuHandle): number
  close(handle: Handle): void
  setDeadline(vcpu: VcpuHandle, nanoseconds: number): void
  unsafeIoctl(file: FileHandle, request: number, argument?: number | ArrayBuffer): number
  objectId(handle: Handle): number
  findObject(id: number, kind: number): Handle | null
  setDispatch(dispatch: Dispatch): void
  startThread(vcpu: VcpuHandle, index: number, paused: 0 | 1): Handle | number
  answerExit(thread: Handle): void
  pauseThread(thread: Handle): void
  resumeThread(thread: Handle): void
  stopThread(thread: Handle): void
  threadTid(thread: Handle): number
  exitCounts(vcpu: VcpuHandle): ArrayBuffer
  /** Once in a vCPU's life. */
  setTrace(vcpu: VcpuHandle, region: Handle, capacity: number): number
  /** Ticks of the TSC in a second. */
  tscRate(): number
  /** The range's number, or an error. */
  addExitRange(
    vm: FileHandle,
    isPort: 0 | 1,
    start: number,
    length: number,
    size: number,
    ...how: [
      ...ExitRangeArguments['read'],
      ...ExitRangeArguments['write'],
      ...ExitRangeArguments['place'],
      ...ExitRangeArguments['place'],
    ]
  ): number
  removeExitRange(vm: FileHandle, range: number): void
  /** Nanoseconds. */
  threadCpuTime(thread: Handle): number
  /** A bit for each CPU. */
  threadAffinity(thread: Handle, cpus: Uint8Array): number
  /** The nice value plus 20. */
  threadNice(thread: Handle, nicePlus20: number): number
  threadScheduler(thread: Handle, policy: number, priority: number): number
}

/** The addon and this thread's view of its scratch memory. */
export interface Binding extends Native {
  /** Where arguments are encoded and results decoded: one call at a time, never across an await. */
  readonly view: StructView
}

let loaded: Binding | undefined

/** The package's folder, in the command's bundle only: for Node to find it takes milliseconds. */
declare const COMMAND_ROOT: string | undefined

function load(): Binding {
  const require = createRequire(import.meta.url)
  // By name, as bundlers move this file.
  const packageRoot =
    typeof COMMAND_ROOT === 'string'
      ? COMMAND_ROOT
      : dirname(require.resolve('node-kvm/package.json'))
  // A build other than the installed one: sanitizers and benchmarks name it here.
  const chosen = process.env.NODE_KVM_ADDON
  const native: Native = chosen ? require(chosen) : findAddon(require, packageRoot)
  // What native code writes must not turn up in another thread.
  keepInThread(native.scratch)
  keepInThread(native.chosen.buffer)
  return Object.assign(Object.create(null), native, { view: new StructView(native.scratch) })
}

/** Where the binary is after a build here, and in the package. */
const USUAL_PLACES = ['build/Release/node_kvm.node', 'prebuilds/linux-x64/node-kvm.node']

function findAddon(require: NodeJS.Require, packageRoot: string): Native {
  // The search that knows all places takes longer to load than the binary, and the command's start is waited for.
  for (const place of typeof COMMAND_ROOT === 'string' ? USUAL_PLACES : []) {
    try {
      return require(`${packageRoot}/${place}`)
    } catch {
      // Not there, or for another C library.
    }
  }
  return (require('node-gyp-build') as (root: string) => Native)(packageRoot)
}

/**
 * Makes a buffer over native memory one that cannot be transferred. From Node 22 on such buffers are
 * that by themselves, and to mark them too ends Node 24's clean-up in a fatal error.
 */
export function keepInThread(buffer: ArrayBufferLike): void {
  if (Number.parseInt(process.versions.node, 10) >= 22) return
  // The command transfers nothing.
  if (typeof COMMAND_ROOT === 'string') return
  // Where it is not needed it is not loaded, which takes a millisecond or two.
  process.getBuiltinModule('node:worker_threads').markAsUntransferable(buffer)
}

/** The addon, loaded on the first call. Throws what the loader throws: no binary for this platform. */
export function binding(): Binding {
  loaded ??= load()
  return loaded
}
