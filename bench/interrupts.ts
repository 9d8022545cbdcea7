// Interrupts from JavaScript to a guest's handler and back, and the ioctls that raise them, against
// the same in C.

import { type EventFd, GsiRouting, IoEventFd, IrqFd, Kvm, type Vcpu, type Vm } from 'node-kvm'
import { encodeMsi, findCpuidEntry } from 'node-kvm/x86'
import type { Benchmark, Context } from './benchmark.js'
import { createGuestWithMemory, DOORBELL_PORT, HANDLER, INTERRUPTED } from './guests.js'
import { compare } from './harness.js'
import { type LatencyRow, latencyRow, type Report, type Row, row } from './report.js'

const VECTOR = 0x40
const LINE = 20
const CPUID_X2APIC = 1 << 21
const APIC_X2APIC = 0xc00n
/** Round trips of a block, blocks of a round. The first round warms up. */
const TRIPS = 100
const TURNS = 10

/** Round trips by eventfds, KVM_SIGNAL_MSI, KVM_IRQ_LINE. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const rows = [signalMsi(context, kvm), irqLine(context, kvm)]
  return { rows, latencies: [await trips(context, kvm)], allocations: [] }
}

/** The guest with a handler for {@link VECTOR}, as bench/native/interrupts.c makes it. */
function createInterrupted(kvm: Kvm): Vcpu {
  const { vcpu, memory } = createGuestWithMemory(kvm, INTERRUPTED, (vm) => {
    vm.enableCap('KVM_CAP_X2APIC_API', { flags: 3 })
    vm.createIrqchip()
  })
  memory.writeU32(VECTOR * 4, HANDLER)
  const table = kvm.getSupportedCpuid()
  const features = findCpuidEntry(table, 1)!
  features.ecx = (features.ecx | CPUID_X2APIC) >>> 0
  vcpu.setCpuid2(table)
  vcpu.updateSregs({ apic_base: vcpu.getSregs().apic_base | APIC_X2APIC })
  vcpu.updateLapic((lapic) => lapic.set('SIVR', 0x1ff))
  return vcpu
}

function ioctls(
  { loops, effort }: Context,
  kvm: Kvm,
  what: string,
  c: 'signalMsi' | 'irqLine',
  ours: (vm: Vm, count: number) => void,
): Row {
  const sides = () => {
    const guest = loops.createInterrupted(INTERRUPTED, HANDLER)
    const { vm } = createInterrupted(kvm)
    return {
      c: (count: number) => loops[c](guest, count),
      ours: (count: number) => ours(vm, count),
    }
  }
  return row(c, what, compare(loops, sides, effort), { extraNs: 60 })
}

function signalMsi(context: Context, kvm: Kvm): Row {
  const message = encodeMsi({ destination: 0, vector: VECTOR })
  return ioctls(context, kvm, 'KVM_SIGNAL_MSI', 'signalMsi', (vm, count) => {
    for (let i = 0; i < count; i++) vm.signalMsi(message)
  })
}

function irqLine(context: Context, kvm: Kvm): Row {
  return ioctls(context, kvm, 'KVM_IRQ_LINE', 'irqLine', (vm, count) => {
    for (let i = 0; i < count; i++) vm.irqLine(LINE, (i & 1) === 1)
  })
}

/** Raises the interrupt again as soon as the guest has rung, so many times. */
function tripsOf(doorbell: EventFd, irq: IrqFd, now: () => number, times: Float64Array) {
  return new Promise<void>((resolve) => {
    let done = 0
    let start = 0
    const raise = () => {
      start = now()
      irq.raise()
    }
    doorbell.onSignal(() => {
      times[done++] = now() - start
      if (done < times.length) return raise()
      doorbell.offSignal()
      resolve()
    })
    raise()
  })
}

async function trips({ loops, effort }: Context, kvm: Kvm): Promise<LatencyRow> {
  const guest = loops.createInterrupted(INTERRUPTED, HANDLER)
  const vcpu = createInterrupted(kvm)
  const { vm } = vcpu
  const gsi = GsiRouting.of(vm).update((routes) => {
    const free = routes.free()
    routes.set(free, { type: 'msi', ...encodeMsi({ destination: 0, vector: VECTOR }) })
    return free
  })
  using irq = IrqFd.create(vm, { gsi })
  using doorbell = IoEventFd.create(vm, { address: DOORBELL_PORT, length: 1, pio: true })
  vcpu.start((exit) => {
    throw new Error(`unexpected exit: ${exit.type}`)
  })
  const times = new Float64Array(TRIPS)
  const [c, ours]: [number[], number[]] = [[], []]
  for (let block = 0; block < effort.rounds * TURNS; block++) {
    loops.interruptTrips(guest, times)
    if (block >= TURNS) c.push(...times)
    await tripsOf(doorbell.eventFd, irq, loops.wallTime, times)
    if (block >= TURNS) ours.push(...times)
  }
  await vcpu.stop()
  return latencyRow('irqfd', 'irqfd to handler to doorbell', c, ours, { p50Ratio: 1.2 })
}
