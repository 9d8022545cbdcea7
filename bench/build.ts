// Builds the addons of bench/binding.gyp when their sources changed, and loads the C loops.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('.', import.meta.url))
const require = createRequire(import.meta.url)

/** The product's addon with KVM_RUN replaced; name it in `NODE_KVM_ADDON`. */
export const BARE_ADDON = join(folder, 'build/Release/node_kvm_bare.node')

/** A virtual machine that the C side made for itself. */
export interface CGuest {
  readonly __native: never
}

/** One that takes interrupts. */
export interface CInterrupted {
  readonly __native: never
}

/** One whose written pages are collected. */
export interface CTracked {
  readonly __tracked: never
}

/** A device of the C side, on a thread of its own. */
export interface CQueueDevice {
  readonly __queueDevice: never
}

/** A test guest that the C side made. */
export interface CTested {
  readonly __tested: never
}

/** What a test guest begins with, as the kernel takes it. */
export interface TestedBlocks {
  readonly ram: Uint8Array
  readonly cpuid: Uint8Array
  readonly sregs: Uint8Array
  readonly regs: Uint8Array
}

/** The C side: see bench/native. Times are nanoseconds. */
export interface Loops {
  /** CPU time of the calling thread. */
  cpuTime(): number
  /** A monotonic clock. */
  wallTime(): number
  createGuest(code: Uint8Array): CGuest
  /** Handles `count` exits; the sum of what the handlers saw, -1 for an exit without a handler. */
  exitLoop(guest: CGuest, count: number): number
  /** The same with KVM_RUN replaced by a request that fails. */
  bareLoop(guest: CGuest, count: number): number
  /** Nanoseconds out of KVM_RUN for each exit that this thread answers to a vCPU's thread. */
  handoff(guest: CGuest, busy: boolean, times: Float64Array): void
  /** Nanoseconds between the answers to a guest that rings an eventfd and waits. */
  doorbell(guest: CGuest, busy: boolean, times: Float64Array): void
  /** Runs SMP_BOOT and SMP_AP; nanoseconds to create, start, stop and close. */
  smp(processors: number, boot: Uint8Array, ap: Uint8Array, times: Float64Array): void
  /** A guest that writes pages by command: see bench/tracked.ts. */
  createTracked(method: number, low: Uint8Array): CTracked
  /** Its first memory. */
  trackedLow(guest: CTracked): ArrayBuffer
  trackedWrite(guest: CTracked): void
  /** Restricts the calling thread to one CPU, if there is one of that number. */
  useCpu(cpu: number): void
  /** How many pages it found. */
  trackedCollect(guest: CTracked): number
  /** memcpy, `count` times. */
  copyBytes(to: Uint8Array, from: Uint8Array, count: number): void
  /** Makes a VM with so much RAM, and closes it. */
  createVm(size: number): void
  copyRegs(guest: CGuest, count: number): void
  copySregs(guest: CGuest, count: number): void
  createInterrupted(code: Uint8Array, handler: number): CInterrupted
  /** Nanoseconds from the write to an irqfd to the handler's doorbell. */
  interruptTrips(guest: CInterrupted, times: Float64Array): void
  signalMsi(guest: CInterrupted, count: number): void
  irqLine(guest: CInterrupted, count: number): void
  /** A test guest from nothing to its first result, and away. */
  testedFirst(blocks: TestedBlocks): void
  createTested(blocks: TestedBlocks): CTested
  /** Runs it with that number in RCX. */
  testedRun(guest: CTested, count: number): void
  testedReset(guest: CTested): void
  /** A fresh ring: see QueueNumbers in bench/queues.ts. */
  queueClear(ram: Uint8Array, numbers: Float64Array, times: Float64Array): void
  /** Drives whoever serves the ring; nanoseconds by the wall clock, and of the other threads' CPU time. */
  queueDrive(ram: Uint8Array, numbers: Float64Array, times: Float64Array): void
  queueDeviceStart(ram: Uint8Array, numbers: Float64Array, times: Float64Array): CQueueDevice
  queueDeviceStop(device: CQueueDevice): void
  /** Descriptors. */
  eventfd(): number
  openTap(name: string): number
  openUdp(address: string): number
  /** Issues a request on the guest's vCPU, which reads or fills `argument` each time. */
  ioctlLoop(guest: CGuest, request: number, argument: ArrayBuffer, count: number): void
}

/** Brings the addons up to date, in a second or two when they are. */
export function buildAddons(): void {
  // Each time: the list of sources is made here.
  nodeGyp('configure')
  nodeGyp('build')
}

/** The C loops. */
export function loadLoops(): Loops {
  return require(join(folder, 'build/Release/bench_loops.node'))
}

function nodeGyp(command: string): void {
  const script = require.resolve('node-gyp/bin/node-gyp.js')
  const args = [script, command, '--directory', folder]
  // The headers of this very Node, when it came with them, need no download.
  const prefix = dirname(dirname(process.execPath))
  if (existsSync(join(prefix, 'include/node/node_api.h'))) args.push(`--nodedir=${prefix}`)
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status === 0) return
  throw new Error(`node-gyp ${command} failed in bench/:\n${stdout}${stderr}`)
}
