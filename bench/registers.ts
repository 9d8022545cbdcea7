// Methods of a vCPU beside the ioctl that each issues, and those that get and set registers.

import type { Kvm, Vcpu } from 'node-kvm'
import {
  encodeKvmRegs,
  KVM_GET_REGS,
  KVM_GET_SREGS2,
  KVM_SET_REGS,
  type KvmRegs,
  StructView,
} from 'node-kvm/uapi'
import type { Context } from './benchmark.js'
import type { CGuest } from './build.js'
import { createGuest, PORT_LOOP } from './guests.js'
import { compare } from './harness.js'
import { keep } from './keep.js'
import { type Goal, type Row, row } from './report.js'

const REGISTERS: Goal = { extraNs: 150 }
const SPECIAL: Goal = { extraNs: 500 }

/** One method. */
export interface Method<T> {
  name: string
  goal?: Goal
  request: number
  prepare: (vcpu: Vcpu) => T
  /** The argument of the bare ioctl. */
  argument: (prepared: T) => ArrayBuffer
  /** `prepared` is what {@link Method.prepare} gave. */
  ours: (vcpu: Vcpu, prepared: T, count: number) => void
}

/** Called once for each pair of guests, before anything is measured. */
export type PrepareBoth = (vcpu: Vcpu, guest: CGuest) => void

/** Measures a method; `request`, when given, is issued in C in place of the method's own. */
export function methodRow<T>(
  { loops, effort }: Context,
  kvm: Kvm,
  { name, goal, request, prepare, argument, ours }: Method<T>,
  prepareBoth: PrepareBoth,
  replaced?: { request: number; what: string },
): Row {
  const sides = () => {
    const vcpu = createGuest(kvm, PORT_LOOP)
    const guest = loops.createGuest(PORT_LOOP)
    const prepared = prepare(vcpu)
    const bytes = argument(prepared)
    prepareBoth(vcpu, guest)
    return {
      c: (count: number) => loops.ioctlLoop(guest, replaced?.request ?? request, bytes, count),
      ours: (count: number) => ours(vcpu, prepared, count),
    }
  }
  return row(name, `${name}${replaced?.what ?? ''}`, compare(loops, sides, effort), goal)
}

/** The registers' methods that have a goal. */
export function registerRows(
  context: Context,
  kvm: Kvm,
  prepareBoth: PrepareBoth,
  replaced?: { request: number; what: string },
): Row[] {
  const getRegs: Method<void> = {
    name: 'getRegs',
    goal: REGISTERS,
    request: KVM_GET_REGS,
    prepare: () => undefined,
    argument: () => new ArrayBuffer(1024),
    ours: (vcpu, _, count) => {
      let last: unknown
      for (let i = 0; i < count; i++) last = vcpu.getRegs()
      keep(last)
    },
  }
  const setRegs: Method<KvmRegs> = {
    name: 'setRegs',
    goal: REGISTERS,
    request: KVM_SET_REGS,
    prepare: (vcpu) => vcpu.getRegs(),
    argument: (regs) => bytesOf(1024, (view) => encodeKvmRegs(view, 0, regs)),
    ours: (vcpu, regs, count) => {
      for (let i = 0; i < count; i++) vcpu.setRegs(regs)
    },
  }
  const getSregs2: Method<void> = {
    name: 'getSregs2',
    goal: SPECIAL,
    request: KVM_GET_SREGS2,
    prepare: () => undefined,
    argument: () => new ArrayBuffer(1024),
    ours: (vcpu, _, count) => {
      let last: unknown
      for (let i = 0; i < count; i++) last = vcpu.getSregs2()
      keep(last)
    },
  }
  const measure = <T>(method: Method<T>) => methodRow(context, kvm, method, prepareBoth, replaced)
  return [measure(getRegs), measure(setRegs), measure(getSregs2)]
}

/** A buffer with what `put` writes. */
export function bytesOf(size: number, put: (view: StructView) => void): ArrayBuffer {
  const view = new StructView(size)
  put(view)
  return view.buffer as ArrayBuffer
}
