// The own cost of an exit that a VM's table answers: KVM_RUN replaced as in exit-bare.ts, in a
// process of its own as well.

import { GuestMemory, Kvm, Vcpu } from 'node-kvm'
import type { Benchmark, Context } from './benchmark.js'
import { createGuest, PORT_LOOP, READ_LOOP } from './guests.js'
import { compare } from './harness.js'
import { type Report, type Row, row } from './report.js'

const KVM_RUN = 0xae80
const EXIT_REASON = 8
const EXIT_IO = 2
/** Of native/kvm_numbers.h. */
const RUNS_LEFT = 3840
const EXTRA_NS = 5

/** Answered exits. */
export const benchmark: Benchmark = (context): Report => {
  using kvm = Kvm.open()
  const rows = [
    answered(
      context,
      kvm,
      'tableWrite',
      'write that the table ignores, KVM_RUN replaced',
      PORT_LOOP,
    ),
    answered(context, kvm, 'tableRead', 'read of a constant, KVM_RUN replaced', READ_LOOP),
  ]
  return { rows, allocations: [] }
}

function answered(
  { loops, effort }: Context,
  kvm: Kvm,
  id: string,
  what: string,
  code: Uint8Array,
): Row {
  const sides = () => {
    const vcpu = createGuest(kvm, code)
    const registers = GuestMemory.create(0x1000)
    for (const port of [0x10, 0x20, 0x80, 0x3f8]) {
      const read = port === 0x20 || port === 0x3f8 ? { memory: registers } : 0x1234_5678
      vcpu.vm.answerPio(port, 4, { read, write: 'ignore' })
    }
    vcpu.unsafeIoctl(KVM_RUN)
    const page = pageOf(vcpu)
    const guest = loops.createGuest(code)
    loops.exitLoop(guest, 1)
    return {
      c: (count: number) => void loops.bareLoop(guest, count),
      ours: (count: number) => {
        page.u32[EXIT_REASON / 4] = EXIT_IO
        page.u32[RUNS_LEFT / 4] = count
        const { type } = vcpu.run()
        if (type !== 'hlt') throw new Error(`unexpected exit: ${type}`)
      },
    }
  }
  return row(id, what, compare(loops, sides, effort), { extraNs: EXTRA_NS })
}

interface RunPage {
  readonly u32: Uint32Array
}

/** As the library has it. */
function pageOf(vcpu: Vcpu): RunPage {
  return (Vcpu as unknown as { pageOf(vcpu: Vcpu): RunPage }).pageOf(vcpu)
}
