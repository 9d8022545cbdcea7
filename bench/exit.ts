// vcpu.run() against KVM_RUN in C: real exits of a port and of a memory-mapped register, our own
// cost alone (bench/exit-bare.ts), and the registers in the run page.

import { Kvm } from 'node-kvm'
import { bytesAllocated } from './allocations.js'
import type { Benchmark, Context } from './benchmark.js'
import { BARE_ADDON } from './build.js'
import { exitLoop } from './exit-loop.js'
import { createGuest, MMIO_LOOP, PORT_LOOP } from './guests.js'
import { compare } from './harness.js'
import { allocationRow, type Report, type Row, row } from './report.js'
import { syncRegsRows } from './sync-regs.js'

const ALLOCATION_EXITS = 50_000

/** Port, MMIO and bare exits, allocations, sync regs. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const bare = context.runApart('exit-bare', { NODE_KVM_ADDON: BARE_ADDON })
  const rows = [
    ...bare.rows,
    realExits(context, kvm, 'pio', 'port write, real exit', PORT_LOOP),
    realExits(context, kvm, 'mmio', 'MMIO write, real exit', MMIO_LOOP),
    ...syncRegsRows(context, kvm),
  ]
  const allocations = [...bare.allocations, await allocated(kvm)]
  return { rows, allocations }
}

function realExits(
  { loops, effort }: Context,
  kvm: Kvm,
  id: string,
  what: string,
  code: Uint8Array,
): Row {
  const sides = () => {
    const vcpu = createGuest(kvm, code)
    const guest = loops.createGuest(code)
    expectSame(exitLoop(vcpu, 64), loops.exitLoop(guest, 64))
    return {
      c: (count: number) => void loops.exitLoop(guest, count),
      ours: (count: number) => void exitLoop(vcpu, count),
    }
  }
  return row(id, what, compare(loops, sides, effort), { extraPercent: 3 })
}

async function allocated(kvm: Kvm) {
  const vcpu = createGuest(kvm, PORT_LOOP)
  const bytes = await bytesAllocated((count) => void exitLoop(vcpu, count), ALLOCATION_EXITS)
  return allocationRow('pioBytes', 'port write, real exit', ALLOCATION_EXITS, bytes)
}

function expectSame(ours: number, c: number): void {
  if (ours !== c) throw new Error(`the two sides differ: handlers add up to ${ours}, in C to ${c}`)
}
