// What a vCPU was when its guest was made, for going back to it quickly: only what guest code can
// change.

import { readMsrs } from '../core/state/state-msrs.js'
import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { MsrEntry } from '../core/vcpu/vcpu-msrs.js'
import type { Vcpu } from '../core/vcpu.js'
import { KVM_GET_MSRS, KVM_MP_STATE_RUNNABLE, type KvmSregs } from '../uapi/index.js'
import type { Segment } from '../x86/segment.js'

/** Time goes on over a reset. */
const IA32_TSC = 0x10

/** MSRs that exist; the same for every vCPU of this host, and to find out takes many tries. */
let msrIndices: readonly number[] | undefined

/**
 * All MSRs as the kernel has them (struct kvm_msrs): two words, then four for each MSR. There are
 * hundreds, so they are compared as they are.
 */
function currentMsrs(vcpu: Vcpu): Uint32Array<ArrayBuffer> {
  msrIndices ??= readMsrs(vcpu)
    .map(({ index }) => index)
    .filter((index) => index !== IA32_TSC)
  const words = new Uint32Array(2 + 4 * msrIndices.length)
  words[0] = msrIndices.length
  for (const [i, index] of msrIndices.entries()) words[2 + 4 * i] = index
  // The error of the other way names the MSR that is refused.
  if (vcpu.unsafeIoctl(KVM_GET_MSRS, words.buffer) !== words[0]) vcpu.getMsrs(msrIndices)
  return words
}

/** Those whose value is another one now, with the value they had. */
function changedMsrs(before: Uint32Array, now: Uint32Array): MsrEntry[] {
  const changed: MsrEntry[] = []
  for (let i = 2; i < before.length; i += 4) {
    const [low, high] = [i + 2, i + 3]
    if (before[low] === now[low] && before[high] === now[high]) continue
    changed.push({ index: before[i]!, data: (BigInt(before[high]!) << 32n) | BigInt(before[low]!) })
  }
  return changed
}

/** A vCPU's state at its beginning. */
export class Pristine {
  readonly sregs: KvmSregs
  readonly #vcpu: Vcpu
  readonly #page: SyncRegs
  readonly #regs
  readonly #msrs
  readonly #xsave
  readonly #xcrs
  readonly #debugregs
  readonly #events
  readonly #interrupts

  /**
   * @param page The vCPU's registers in its run page.
   * @param options `tr`: as it was set; KVM says busy of every task register.
   */
  constructor(
    vcpu: Vcpu,
    page: SyncRegs,
    { kernelIrqchip, tr }: { kernelIrqchip: boolean; tr?: Segment },
  ) {
    this.#vcpu = vcpu
    this.#page = page
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
    // ORDER: a vCPU that waits for a startup IPI does not look at its run page.
    this.wake()
    this.#page.setRegs(this.#regs)
    this.#page.setSregs(this.sregs)
    this.#page.setVcpuEvents(this.#events)
    // One ioctl takes all three.
    vcpu.completeIo()
    // ORDER: the APIC base says how the LAPIC's registers are read, and MSRs come after both.
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
    const changed = changedMsrs(this.#msrs, currentMsrs(this.#vcpu))
    if (changed.length > 0) this.#vcpu.setMsrs(changed)
  }
}
