// Our own cost of the registers' methods: their ioctls are replaced, on both sides, by a request that
// fails at once, as KVM_RUN is in exit-bare.ts; in a process of its own as well. A real ioctl of a
// vCPU displaces program and data from the caches, which costs ours more the more there is of it.

import { Kvm, Vcpu } from 'node-kvm'
import type { Benchmark } from './benchmark.js'
import { registerRows } from './registers.js'
import type { Report } from './report.js'

/** Of native/kvm_numbers.h. */
const BARE_CALLS = 3844
const BARE_REQUEST = 0xff80

/** Registers with the ioctl replaced. */
export const benchmark: Benchmark = (context): Report => {
  using kvm = Kvm.open()
  const replaced = { request: BARE_REQUEST, what: ', ioctl replaced' }
  const rows = registerRows(context, kvm, (vcpu) => replaceCalls(vcpu), replaced)
  return { rows, allocations: [] }
}

function replaceCalls(vcpu: Vcpu): void {
  const { pageOf } = Vcpu as unknown as { pageOf(vcpu: Vcpu): { u32: Uint32Array } }
  // The scratch memory shall hold registers, for want of an ioctl that puts them there.
  vcpu.setSregs2(vcpu.getSregs2())
  pageOf(vcpu).u32[BARE_CALLS / 4] = 1
}
