// Our own cost of an exit: KVM_RUN is replaced, on both sides, by a request that fails at once, so
// every run finds the page as the one real exit before left it. Needs NODE_KVM_ADDON set to the
// addon that is built so; bench/exit.ts runs this in a process of its own.

import { Kvm } from 'node-kvm'
import { bytesAllocated } from './allocations.js'
import type { Benchmark } from './benchmark.js'
import { exitLoop } from './exit-loop.js'
import { createGuest, PORT_LOOP } from './guests.js'
import { compare } from './harness.js'
import { allocationRow, type Report, row } from './report.js'

const KVM_RUN = 0xae80
const ALLOCATION_EXITS = 1_000_000

/** Bare exits and what they allocate. */
export const benchmark: Benchmark = async ({ loops, effort }): Promise<Report> => {
  using kvm = Kvm.open()
  const stoppedGuest = () => {
    const vcpu = createGuest(kvm, PORT_LOOP)
    vcpu.unsafeIoctl(KVM_RUN)
    return vcpu
  }
  const sides = () => {
    const vcpu = stoppedGuest()
    const guest = loops.createGuest(PORT_LOOP)
    loops.exitLoop(guest, 1)
    return {
      c: (count: number) => void loops.bareLoop(guest, count),
      ours: (count: number) => void exitLoop(vcpu, count),
    }
  }
  const comparison = compare(loops, sides, effort)
  const vcpu = stoppedGuest()
  const bytes = await bytesAllocated((count) => void exitLoop(vcpu, count), ALLOCATION_EXITS)
  return {
    rows: [row('bare', 'port write, KVM_RUN replaced', comparison, { extraNs: 50 })],
    allocations: [
      allocationRow('bareBytes', 'port write, KVM_RUN replaced', ALLOCATION_EXITS, bytes),
    ],
  }
}
