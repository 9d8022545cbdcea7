// Test guests beside a C program that makes the same ioctls: from nothing to the first result, another
// run, a reset, what the code says to the test.

import { asm, guest, type Source, type TestGuest } from 'node-kvm/testing'
import {
  encodeKvmCpuid2,
  encodeKvmCpuid2Entries,
  encodeKvmRegs,
  encodeKvmSregs,
  type KvmRegs,
  StructView,
} from 'node-kvm/uapi'
import type { Benchmark, Context } from './benchmark.js'
import type { TestedBlocks } from './build.js'
import { compare } from './harness.js'
import { type LatencyRow, latencyRow, type Report, type Row, row } from './report.js'

/** Rounds before those that count. */
const WARM_UP = 20
/** Property tests reset thousands of times: by then the JavaScript is compiled. */
const RESETS_BEFORE = 1000
const NOTHING = asm`nop`
const ignore = () => {}
/** RCX times. */
const loop = (body: Source | typeof ignore) => asm`again: ${body}; dec ecx; jnz again`

/** All of it. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using g = await guest({ ring: 3 })
  g.run(NOTHING)
  const blocks = blocksOf(g)
  const latencies = [await firstResults(context, blocks), await resets(context, g)]
  const rows = [
    exitRow(context, g, 'run', 'a run of one instruction', NOTHING, false),
    exitRow(context, g, 'report', 'a value reported by the code', loop(g.report()), true),
    exitRow(context, g, 'call', 'a call of a function of the test', loop(ignore), true),
  ]
  return { rows, allocations: [], latencies }
}

/** What the C side needs to make the guest that stands at the beginning of `source`. */
function blocksOf(g: TestGuest, source = NOTHING): TestedBlocks {
  g.run(source, { regs: { rcx: 1n } })
  const regs = { ...ZERO, rip: g.code, rsp: g.stack, rflags: 2n }
  const entries = g.vcpu.getCpuid2()
  const bytes = (size: number, encode: (view: StructView) => void): Uint8Array => {
    const view = new StructView(size)
    encode(view)
    return view.u8
  }
  return {
    ram: g.memory.read(0, g.memory.size),
    cpuid: bytes(8 + entries.length * 40, (view) => {
      encodeKvmCpuid2(view, 0, { nent: entries.length })
      encodeKvmCpuid2Entries(view, 0, entries)
    }),
    sregs: bytes(312, (view) => encodeKvmSregs(view, 0, g.vcpu.getSregs())),
    regs: bytes(144, (view) => encodeKvmRegs(view, 0, regs)),
  }
}

/** A test as people write it: a guest of its own, one run, away with it. */
async function firstResults({ loops, effort }: Context, blocks: TestedBlocks): Promise<LatencyRow> {
  const c: number[] = []
  const ours: number[] = []
  for (let pair = -WARM_UP; pair < effort.pairs; pair++) {
    const start = loops.wallTime()
    loops.testedFirst(blocks)
    const middle = loops.wallTime()
    using g = await guest({ ring: 3 })
    g.run(NOTHING)
    g.close()
    if (pair < 0) continue
    c.push(middle - start)
    ours.push(loops.wallTime() - middle)
  }
  return latencyRow('first', 'a guest to its first result', c, ours, { p50ExtraUs: 2000 })
}

/** Of a guest that has run; the C side knows what the code may have changed. */
async function resets({ loops, effort }: Context, g: TestGuest): Promise<LatencyRow> {
  const c: number[] = []
  const ours: number[] = []
  const tested = loops.createTested(blocksOf(g))
  for (let pair = -RESETS_BEFORE; pair < effort.pairs; pair++) {
    loops.testedRun(tested, 1)
    g.run(NOTHING)
    const start = loops.wallTime()
    loops.testedReset(tested)
    const middle = loops.wallTime()
    g.reset()
    if (pair < 0) continue
    c.push(middle - start)
    ours.push(loops.wallTime() - middle)
  }
  return latencyRow('reset', 'a reset of a used guest', c, ours, { p50Us: 200 })
}

/** Per exit, where `loops`; else per run. */
function exitRow(
  { loops, effort }: Context,
  g: TestGuest,
  id: string,
  what: string,
  source: Source,
  isLoop: boolean,
): Row {
  const sides = () => {
    const tested = loops.createTested(blocksOf(g, source))
    const times = (run: (count: number) => void) => (count: number) => {
      if (isLoop) run(count)
      else for (let i = 0; i < count; i++) run(1)
    }
    return {
      c: times((count) => loops.testedRun(tested, count)),
      ours: times((count) => {
        g.run(source, { regs: { rcx: BigInt(count) }, timeoutMs: 60_000 })
      }),
    }
  }
  return row(id, what, compare(loops, sides, effort))
}

const ZERO = Object.fromEntries(
  'rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags'
    .split(' ')
    .map((name) => [name, 0n]),
) as unknown as KvmRegs
