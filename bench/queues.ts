// The native devices without a guest: a driver in C fills a ring, and our threads or a plain C loop serve
// it, in turn. The C loop believes the driver, and does each request of a disk at once (pread, pwrite).

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { EventFd, GuestMemory } from 'node-kvm'
import { BLOCK_WORKER, binding, type Handle, KIND_FILE, NET_ENDED } from '../lib/binding.js'
import { nativeRam } from '../lib/io/native-ram.js'
import type { Benchmark } from './benchmark.js'
import type { Loops } from './build.js'
import { quantile } from './harness.js'
import { type PeerFigures, type PeerRow, peerRow } from './report.js'

/** As bench/native/queues.h has them. */
const WORK = { send: 0, receive: 1, read: 2, write: 3 } as const
const SIZE = 256
const RAM = 64 * 2 ** 20
const DISK = 64 * 2 ** 20
const RING = 0x1000
/** A ring that nobody fills: a network device has two. */
const OTHER_RING = 0x8000
const EVENT_IDX = 2
/** The checks of what a driver writes have their price. */
const GOAL = { ratio: 1.1, cpuRatio: 1.1 }

interface Test {
  readonly id: string
  readonly what: string
  readonly work: keyof typeof WORK
  readonly length: number
  readonly depth: number
  /** Requests of one measurement. */
  readonly count: number
}

const TESTS: readonly Test[] = [
  { id: 'send-60', what: 'frames of 60 bytes to a TAP', work: 'send', length: 60 },
  { id: 'send-1500', what: 'frames of 1514 bytes to a TAP', work: 'send', length: 1514 },
  { id: 'receive-60', what: 'frames of 60 bytes from a TAP', work: 'receive', length: 18 },
  { id: 'receive-1500', what: 'frames of 1514 bytes from a TAP', work: 'receive', length: 1472 },
  { id: 'read-4k', what: 'reads of 4 KiB, 32 at once', work: 'read', length: 4096 },
  { id: 'write-4k', what: 'writes of 4 KiB, 32 at once', work: 'write', length: 4096 },
  { id: 'read-4k-1', what: 'reads of 4 KiB, one at a time', work: 'read', length: 4096, depth: 1 },
  {
    id: 'read-128k',
    what: 'reads of 128 KiB, 32 at once',
    work: 'read',
    length: 0x2_0000,
    count: 500,
  },
  {
    id: 'write-128k',
    what: 'writes of 128 KiB, 32 at once',
    work: 'write',
    length: 0x2_0000,
    count: 500,
  },
].map((test) => ({ depth: 32, count: 5000, ...test }) as Test)

/** Something of ours that serves the ring. */
interface Served {
  stop(): Promise<void>
}

/** What both sides work on. */
class Bench {
  readonly memory = GuestMemory.create(RAM)
  readonly ram = this.memory.view(0, RAM)
  readonly times = new Float64Array(2)
  readonly native = binding()
  readonly kick: number
  readonly call: number
  readonly #folder = mkdtempSync(join(tmpdir(), 'node-kvm-bench-'))
  readonly #image = join(this.#folder, 'disk.img')
  readonly #tapName = `bench${process.pid % 100000}`
  readonly #tap: number
  readonly #file: number
  readonly #sender: number

  readonly loops: Loops

  constructor(loops: Loops) {
    this.loops = loops
    this.kick = loops.eventfd()
    this.call = loops.eventfd()
    this.#file = openSync(this.#image, 'w+')
    ftruncateSync(this.#file, DISK)
    this.#tap = loops.openTap(this.#tapName)
    const address = `10.${process.pid % 200}.77`
    const ip = (...args: string[]) => execFileSync('ip', args)
    ip('addr', 'add', `${address}.1/24`, 'dev', this.#tapName)
    ip('link', 'set', this.#tapName, 'up')
    const mac = '52:54:00:00:00:09'
    ip('neigh', 'add', `${address}.2`, 'lladdr', mac, 'dev', this.#tapName, 'nud', 'permanent')
    this.#sender = loops.openUdp(`${address}.2`)
  }

  close(): void {
    for (const fd of [this.kick, this.call, this.#file, this.#tap, this.#sender]) closeSync(fd)
    rmSync(this.#folder, { recursive: true })
    this.memory.close()
  }

  /** As bench/native/queues_addon.c reads them. */
  numbers({ work, length, depth, count }: Test): Float64Array {
    const file = work === 'send' || work === 'receive' ? this.#tap : this.#file
    const ends = [this.kick, this.call, file, this.#sender]
    return Float64Array.of(WORK[work], RING, ...ends, count, depth, length, DISK)
  }

  /** Our thread for the test's ring. */
  serve(test: Test): Served {
    const ram = nativeRam(this.memory)
    const bell = EventFd.create()
    const files = [this.kick, this.call, this.#tap].map((fd) => this.#handle(fd))
    const [kick, call, tap] = files as [Handle, Handle, Handle]
    const bellHandle = this.native.findObject(bell.id, KIND_FILE)!
    const isDisk = test.work === 'read' || test.work === 'write'
    const stopWorker = isDisk
      ? this.#serveDisk(ram, kick, call, bellHandle)
      : this.#serveNet(test.work === 'send', ram, kick, call, tap, bellHandle)
    return {
      stop: async () => {
        await stopWorker()
        for (const file of files) this.native.close(file)
        this.native.close(ram)
        bell.close()
      },
    }
  }

  #serveDisk(ram: Handle, kick: Handle, call: Handle, bell: Handle): () => Promise<void> {
    const disk = checked(this.native.openDisk(this.#image, 0, 0))
    this.native.refreshDisk(disk)
    const ring = [SIZE, EVENT_IDX, ...ringAt(RING)] as const
    const worker = checked(
      this.native.startBlockWorker(disk, ram, kick, call, bell, new Uint8Array(20), 0, 1, ...ring),
    )
    return async () => {
      this.native.tellBlockWorker(worker, 2)
      while (this.native.blockWorkerState(worker)[0] !== BLOCK_WORKER.ended) await setImmediate()
      this.native.close(worker)
      this.native.close(disk)
    }
  }

  #serveNet(
    sends: boolean,
    ram: Handle,
    kick: Handle,
    call: Handle,
    tap: Handle,
    bell: Handle,
  ): () => Promise<void> {
    const idle = this.#handle(this.loops.eventfd())
    const noLimits = [0, 0, 0, 0] as const
    const used = [SIZE, EVENT_IDX, ...ringAt(RING), kick, call, ...noLimits] as const
    const unused = [SIZE, EVENT_IDX, ...ringAt(OTHER_RING), idle, idle, ...noLimits] as const
    const queues = sends ? ([...unused, ...used] as const) : ([...used, ...unused] as const)
    const worker = checked(this.native.startNetWorker(ram, tap, bell, 0, 1, ...queues))
    return async () => {
      this.native.stopNetWorker(worker)
      while ((this.native.netWorkerState(worker) & NET_ENDED) === 0) await setImmediate()
      this.native.forgetNetWorker(worker)
      this.native.close(idle)
    }
  }

  #handle(fd: number): Handle {
    return checked(this.native.duplicateFile(fd))
  }
}

const ringAt = (gpa: number) => [gpa, gpa + 0x1000, gpa + 0x2000] as const

function checked(handle: Handle | number): Handle {
  if (typeof handle === 'number') throw new Error(`error ${-handle}`)
  return handle
}

/** Requests of a driver of our own; of the tests those that BENCH_TESTS names, if it does. */
export const benchmark: Benchmark = async ({ loops, effort }) => {
  const bench = new Bench(loops)
  const pairs = effort.rounds * 2
  const peers: PeerRow[] = []
  const chosen = process.env.BENCH_TESTS?.split(',')
  for (const test of TESTS) {
    if (chosen?.includes(test.id) === false) continue
    const theirs: PeerFigures[] = []
    const ours: PeerFigures[] = []
    for (let i = 0; i <= pairs; i++) {
      const isFirst = i % 2 === 0
      if (isFirst) theirs.push(byC(bench, test))
      ours.push(await byUs(bench, test))
      if (!isFirst) theirs.push(byC(bench, test))
    }
    peers.push(peerRow(test.id, test.what, 'C', middle(theirs), middle(ours), GOAL))
  }
  bench.close()
  return { rows: [], allocations: [], peers }
}

/** Medians; the first of each warms up. */
function middle(samples: readonly PeerFigures[]): PeerFigures {
  const median = (of: 'ns' | 'cpuNs') =>
    quantile(
      samples.slice(1).map((each) => each[of]),
      0.5,
    )
  return { ns: median('ns'), cpuNs: median('cpuNs') }
}

function drive({ loops, ram, times }: Bench, numbers: Float64Array, count: number): PeerFigures {
  loops.queueDrive(ram, numbers, times)
  return { ns: times[0]! / count, cpuNs: times[1]! / count }
}

function byC(bench: Bench, test: Test): PeerFigures {
  const { loops, ram, times } = bench
  const numbers = bench.numbers(test)
  loops.queueClear(ram, numbers, times)
  const device = loops.queueDeviceStart(ram, numbers, times)
  const figures = drive(bench, numbers, test.count)
  loops.queueDeviceStop(device)
  return figures
}

async function byUs(bench: Bench, test: Test): Promise<PeerFigures> {
  const { loops, ram, times } = bench
  const numbers = bench.numbers(test)
  loops.queueClear(ram, numbers, times)
  bench.memory.fill(OTHER_RING, 0x3000)
  const served = bench.serve(test)
  const figures = drive(bench, numbers, test.count)
  await served.stop()
  return figures
}
