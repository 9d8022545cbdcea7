// Many processors in one VM, each on a thread of its own: created, started by INIT and SIPI until all
// count, stopped, closed.

import { Kvm } from 'node-kvm'
import { findCpuidEntry } from 'node-kvm/x86'
import type { Benchmark, Context } from './benchmark.js'
import {
  AP_ENTRY,
  AP_TICK,
  AP_TICK_VECTOR,
  COUNTERS,
  createGuestWithMemory,
  EXPECTED,
  SMP_AP,
  SMP_BOOT,
  SMP_TICK,
} from './guests.js'
import { quantile } from './harness.js'
import { type PhaseRow, phaseRow, type Report } from './report.js'

const PROCESSORS = [1, 2, 64, 255, 512, 1024]
const PHASES = ['create', 'start', 'stop', 'close'] as const
/** At most so many times what C takes. */
const RATIO = 1.3

/** From AP_ENTRY on. */
const apImage = new Uint8Array(AP_TICK - AP_ENTRY + SMP_TICK.length)
apImage.set(SMP_AP)
apImage.set(SMP_TICK, AP_TICK - AP_ENTRY)

/** One row for each number of processors. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const phases: PhaseRow[] = []
  for (const processors of PROCESSORS) phases.push(await measure(context, kvm, processors))
  return { rows: [], allocations: [], phases }
}

async function measure({ loops, effort }: Context, kvm: Kvm, processors: number) {
  const c: Float64Array[] = []
  const ours: Float64Array[] = []
  const count = Math.max(3, Math.ceil(effort.rounds / 2))
  for (let round = 0; round <= count; round++) {
    const times = new Float64Array(PHASES.length)
    loops.smp(processors, SMP_BOOT, apImage, times)
    const our = await run(kvm, processors, () => loops.wallTime())
    if (round === 0) continue
    c.push(times)
    ours.push(our)
  }
  const median = (all: Float64Array[]) =>
    PHASES.map((_, i) =>
      quantile(
        all.map((times) => times[i]!),
        0.5,
      ),
    )
  const what = `${processors} processors`
  return phaseRow(`smp${processors}`, what, PHASES, median(c), median(ours), RATIO)
}

async function run(kvm: Kvm, processors: number, now: () => number): Promise<Float64Array> {
  const began = now()
  const { vm, vcpu, memory } = createGuestWithMemory(kvm, SMP_BOOT, (vm) => {
    vm.enableCap('KVM_CAP_X2APIC_API', { flags: 3 })
    vm.createIrqchip()
  })
  memory.write(AP_ENTRY, apImage)
  memory.writeU32(AP_TICK_VECTOR * 4, AP_TICK)
  memory.writeU16(EXPECTED, processors - 1)
  const vcpus = [vcpu]
  for (let id = 1; id < processors; id++) vcpus.push(vm.createVcpu(id))
  const cpuid = kvm.getSupportedCpuid()
  const features = findCpuidEntry(cpuid, 1)!
  features.ecx = (features.ecx | (1 << 21)) >>> 0
  for (const each of vcpus) each.setCpuid2(cpuid)
  const created = now()
  const counting = new Promise<void>((resolve) => vm.onPio(0x10, 1, () => resolve()))
  // The one that wakes the others comes last: those that count already would hold up the rest.
  for (const each of [...vcpus].reverse()) each.start()
  await counting
  const started = now()
  await Promise.all(vcpus.map((each) => each.stop()))
  const stopped = now()
  for (let id = 1; id < processors; id++) {
    if (memory.readU32(COUNTERS + id * 4) === 0) throw new Error(`processor ${id} never counted`)
  }
  for (const each of vcpus) each.close()
  vm.close()
  memory.close()
  return Float64Array.of(created - began, started - created, stopped - started, now() - stopped)
}
