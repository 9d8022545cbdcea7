// A ring of a vCPU's latest exits, and their export for chrome://tracing and Perfetto.

import type { Binding, VcpuHandle } from '../../binding.js'
import { kvmError } from '../errors.js'
import { GuestMemory } from '../memory.js'
import type { ExitStatistics } from './exit-statistics.js'
import { type ExitType, exitTypeOf } from './exits.js'

const ENTRY = 32
const ANSWERED = 1
const WRITE = 2

/** One run of the guest, up to an exit. Times are microseconds on a clock of the machine's. */
export interface TracedExit {
  readonly enteredUs: number
  readonly exitedUs: number
  readonly type: ExitType
  /** Port or guest-physical address; undefined for exits that have none. */
  readonly address: number | undefined
  readonly isWrite: boolean
  readonly size: number
  /** Whether the VM's exit table answered it. */
  readonly answered: boolean
}

/** An event of the Trace Event Format, which chrome://tracing and ui.perfetto.dev read. */
export interface TraceEvent {
  readonly name: string
  readonly cat: string
  readonly ph: 'X'
  readonly ts: number
  readonly dur: number
  readonly pid: number
  readonly tid: number
  readonly args: Readonly<Record<string, unknown>>
}

/** A vCPU's latest exits. */
export class ExitTrace {
  readonly vcpuId: number
  readonly #native: Binding
  readonly #statistics: ExitStatistics
  readonly #u32: Uint32Array
  readonly #u64: BigUint64Array
  readonly #capacity: number

  /** @internal */
  constructor(
    native: Binding,
    vcpu: VcpuHandle,
    vcpuId: number,
    statistics: ExitStatistics,
    capacity: number,
  ) {
    const size = Math.ceil(((capacity + 1) * ENTRY) / 4096) * 4096
    const region = GuestMemory.create(size).regions[0]!.handle
    const result = native.setTrace(vcpu, region, capacity)
    if (result < 0) throw kvmError(result, { vcpuId, reason: 'the vCPU has a trace' })
    const buffer = native.regionBuffer(region, 0, size, 0)
    this.vcpuId = vcpuId
    this.#native = native
    this.#statistics = statistics
    this.#capacity = capacity
    this.#u32 = new Uint32Array(buffer)
    this.#u64 = new BigUint64Array(buffer)
  }

  /** Begins to record, or goes on. */
  start(): void {
    this.#statistics.setTracing(true)
  }

  /** Ends it; what was recorded stays. */
  stop(): void {
    this.#statistics.setTracing(false)
  }

  /** What was recorded last, oldest first. Of a vCPU that runs, the oldest may be newer than they say. */
  get exits(): TracedExit[] {
    const total = Number(this.#u64[0]!)
    const ticksPerUs = this.#native.tscRate() / 1e6
    const exits: TracedExit[] = []
    for (let i = Math.max(0, total - this.#capacity); i < total; i++) {
      exits.push(this.#exit((i % this.#capacity) + 1, ticksPerUs))
    }
    return exits
  }

  #exit(index: number, ticksPerUs: number): TracedExit {
    const at = index * 4
    const flags = this.#u32[index * 8 + 7]!
    const type = exitTypeOf(this.#u32[index * 8 + 6]!)
    const hasAddress = type === 'io' || type === 'mmio'
    return {
      enteredUs: Number(this.#u64[at]!) / ticksPerUs,
      exitedUs: Number(this.#u64[at + 1]!) / ticksPerUs,
      type,
      address: hasAddress ? Number(this.#u64[at + 2]!) : undefined,
      isWrite: (flags & WRITE) !== 0,
      size: flags >>> 8,
      answered: (flags & ANSWERED) !== 0,
    }
  }

  /** The same as events: the time in the guest, and that in handlers, each under its exit's type. */
  get events(): TraceEvent[] {
    const { exits, vcpuId: tid } = this
    const pid = process.pid
    return exits.flatMap((exit, i) => {
      const { type, enteredUs, exitedUs, address, isWrite, size, answered } = exit
      const access = address === undefined ? {} : { address, isWrite, size, answered }
      const common = { ph: 'X', pid, tid } as const
      const dur = exitedUs - enteredUs
      const guest = { ...common, name: 'guest', cat: 'guest', ts: enteredUs, dur, args: {} }
      const next = exits[i + 1]
      if (next === undefined) return [guest]
      const handled = next.enteredUs - exitedUs
      return [
        guest,
        { ...common, name: type, cat: 'exit', ts: exitedUs, dur: handled, args: access },
      ]
    })
  }
}

/** A file for ui.perfetto.dev or chrome://tracing. */
export function traceToJson(traces: readonly ExitTrace[]): string {
  return JSON.stringify({ traceEvents: traces.flatMap(({ events }) => events) })
}
