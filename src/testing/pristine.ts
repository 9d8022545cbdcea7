// What a vCPU was when its guest was made, for going back to it quickly: only what guest code can
// change.

import { readMsrs } from '../core/state/state-msrs.js'
import type { MsrEntry } from '../core/vcpu/vcpu-msrs.js'
import type { Vcpu } from '../core/vcpu.js'
import { KVM_MP_STATE_RUNNABLE, type KvmSregs } from '../uapi/index.js'
import type { Segment } from '../x86/segment.js'

/** Time goes on over a reset. */
const IA32_TSC = 0x10

/** MSRs that exist; the same for every vCPU of this host, and to find out takes many tries. */
let msrIndices: readonly number[] | undefined

function currentMsrs(vcpu: Vcpu): MsrEntry[] {
  msrIndices ??= readMsrs(vcpu)
    .map(({ index }) => index)
    .filter((index) => index !== IA32_TSC)
  return vcpu.getMsrs(msrIndices)
}

/** A vCPU's state at its beginning. */
export class Pristine {
  readonly sregs: KvmSregs
  readonly #vcpu: Vcpu
  readonly #regs
  readonly #msrs
  readonly #xsave
  readonly #xcrs
  readonly #debugregs
  readonly #events
  readonly #interrupts

  /** @param options `tr`: as it was set; KVM says busy of every task register. */
  constructor(vcpu: Vcpu, { kernelIrqchip, tr }: { kernelIrqchip: boolean; tr?: Segment }) {
    this.#vcpu = vcpu
    this.#regs = vcpu.getRegs()
    const sregs = vcpu.getSregs()
    this.sregs = tr ? { ...sregs, tr: { ...sregs.tr, ...tr } } : sregs
    this.#msrs = currentMsrs(vcpu)
    this.#xsave = vcpu.getXsave()
    this.#xcrs = vcpu.getXcrs()
    this.#debugregs = vcpu.getDebugregs()
    this.#events = vcpu.getVcpuEvents()
    this.#interrupts = kernelIrqchip
      ? {
          mpState: vcpu.getMpState(),
          lapic: vcpu.getLapic(),
        }
      : undefined
  }

  /** Lets it run whatever it waits for: a startup IPI, or an interrupt that a run before did. */
  wake(): void {
    if (this.#interrupts !== undefined) this.#vcpu.setMpState(KVM_MP_STATE_RUNNABLE)
  }

  /** Brings it back. */
  restore(): void {
    const vcpu = this.#vcpu
    vcpu.setRegs(this.#regs)
    vcpu.setVcpuEvents(this.#events)
    // ORDER: the APIC base says how the LAPIC's registers are read, and MSRs come after both.
    vcpu.setSregs(this.sregs)
    if (this.#interrupts !== undefined) {
      vcpu.setLapic(this.#interrupts.lapic)
      vcpu.setMpState(this.#interrupts.mpState)
    }
    vcpu.setXcrs(this.#xcrs)
    vcpu.setXsave(this.#xsave)
    vcpu.setDebugregs(this.#debugregs)
    this.#restoreMsrs()
  }

  /** KVM refuses some of its MSRs even with the value that they have: only others are written. */
  #restoreMsrs(): void {
    const now = currentMsrs(this.#vcpu)
    const changed = this.#msrs.filter(({ data }, i) => data !== now[i]!.data)
    if (changed.length > 0) this.#vcpu.setMsrs(changed)
  }
}
