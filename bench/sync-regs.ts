// Registers in the run page: all of a kind read and written back, against a copy of the struct in C.

import type { Kvm, SyncRegs } from 'node-kvm'
import type { Context } from './benchmark.js'
import type { CGuest } from './build.js'
import { createGuest, PORT_LOOP } from './guests.js'
import { type Block, compare } from './harness.js'
import { type Goal, type Row, row } from './report.js'

/** Rows for the benchmark `exit`. */
export function syncRegsRows({ loops, effort }: Context, kvm: Kvm): Row[] {
  const measure = (
    id: string,
    what: string,
    c: (guest: CGuest, count: number) => void,
    ours: (regs: SyncRegs, count: number) => void,
    goal?: Goal,
  ): Row => {
    const sides = (): { c: Block; ours: Block } => {
      const vcpu = createGuest(kvm, PORT_LOOP)
      const regs = vcpu.enableSyncRegs()
      vcpu.run()
      const guest = loops.createGuest(PORT_LOOP)
      return { c: (count) => c(guest, count), ours: (count) => ours(regs, count) }
    }
    return row(id, what, compare(loops, sides, effort), goal)
  }
  const goal = { extraNs: 150 }
  return [
    measure('syncRegs', '18 registers, one by one', loops.copyRegs, copyOneByOne, goal),
    measure('syncRegsObject', '18 registers, as an object', loops.copyRegs, copyRegs, goal),
    measure('syncSregs', 'special registers, as an object', loops.copySregs, copySregs),
  ]
}

function copyRegs(regs: SyncRegs, count: number): void {
  for (let i = 0; i < count; i++) regs.setRegs(regs.getRegs())
}

function copySregs(regs: SyncRegs, count: number): void {
  for (let i = 0; i < count; i++) regs.setSregs(regs.getSregs())
}

function copyOneByOne(regs: SyncRegs, count: number): void {
  for (let i = 0; i < count; i++) {
    const { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp } = regs
    const { r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } = regs
    regs.rax = rax
    regs.rbx = rbx
    regs.rcx = rcx
    regs.rdx = rdx
    regs.rsi = rsi
    regs.rdi = rdi
    regs.rsp = rsp
    regs.rbp = rbp
    regs.r8 = r8
    regs.r9 = r9
    regs.r10 = r10
    regs.r11 = r11
    regs.r12 = r12
    regs.r13 = r13
    regs.r14 = r14
    regs.r15 = r15
    regs.rip = rip
    regs.rflags = rflags
  }
}
