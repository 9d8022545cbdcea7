// Every way an interrupt gets into a guest, taken by its handler and acknowledged.

import { describe, expect, test } from 'vitest'
import { GsiRouting, IrqFd } from '../../src/index.js'
import { encodeMsi } from '../../src/x86/index.js'
import {
  done,
  enableInterrupts,
  enableX2apic,
  enableXapic,
  initPics,
  keepsInService,
  type Operation,
  outByte,
  routeIoapic,
  spin,
  tscDeadline,
  VectorsGuest,
  writeMsr,
} from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

describe('through the PIC', () => {
  const pics = () => new VectorsGuest({ eoi: 'pic', script: [...initPics(), done()] })

  test.each([
    [4, 0x24],
    [11, 0x2b],
  ])('line %i arrives once an edge', (line, vector) => {
    using guest = pics()
    guest.untilDone()
    for (let i = 0; i < 3; i++) {
      guest.vm.irqLine(line, true)
      guest.vm.irqLine(line, false)
      expect(guest.nextVector()).toBe(vector)
    }
    guest.quietFor(20)
    expect(guest.taken(vector)).toBe(3)
  })

  test('a level-triggered line comes again until it is lowered', () => {
    const script = [...initPics(), outByte(0x4d0, 1 << 5), done()] // ELCR
    using guest = new VectorsGuest({ eoi: 'pic', script })
    guest.untilDone()
    guest.vm.irqLine(5, true)
    expect([guest.nextVector(), guest.nextVector()]).toEqual([0x25, 0x25])
    guest.vm.irqLine(5, false)
    guest.quietFor(20)
    expect(guest.taken(0x25)).toBe(2)
  })

  test('the PIT ticks', () => {
    // Channel 0, mode 2, every 11932 cycles: 100 Hz.
    const pit = [outByte(0x43, 0x34), outByte(0x40, 0x9c), outByte(0x40, 0x2e)]
    using guest = new VectorsGuest({
      eoi: 'pic',
      pit: true,
      script: [...initPics(), ...pit, done()],
    })
    guest.untilDone()
    for (let i = 0; i < 5; i++) expect(guest.nextVector()).toBe(0x20)
  })
})

describe('through the IOAPIC', () => {
  const script = (level: boolean) => [enableXapic(), ...routeIoapic(20, 0x51, level), done()]

  test('an edge arrives once', () => {
    using guest = new VectorsGuest({ eoi: 'xapic', script: script(false) })
    guest.untilDone()
    expect(guest.vm.irqLineStatus(20, true)).toBeGreaterThan(0)
    expect(guest.nextVector()).toBe(0x51)
    guest.quietFor(20)
    guest.vm.irqLine(20, false)
    guest.vm.irqLine(20, true)
    expect(guest.nextVector()).toBe(0x51)
  })

  test('a level comes again until it is lowered', () => {
    using guest = new VectorsGuest({ eoi: 'xapic', script: script(true) })
    guest.untilDone()
    guest.vm.irqLine(20, true)
    expect([guest.nextVector(), guest.nextVector()]).toEqual([0x51, 0x51])
    guest.vm.irqLine(20, false)
    // Where the engine acknowledges early, the third was requested before the line went down.
    if (!keepsInService()) expect(guest.nextVector()).toBe(0x51)
    guest.quietFor(20)
  })

  test('an irqfd raises edges without an ioctl', async () => {
    using guest = new VectorsGuest({ eoi: 'xapic', script: script(false) })
    guest.untilDone()
    using irq = IrqFd.create(guest.vm, { gsi: 20 })
    for (let i = 0; i < 3; i++) {
      irq.raise()
      expect(guest.nextVector()).toBe(0x51)
    }
    irq.close()
    guest.quietFor(20)
  })

  test('a resampled irqfd tells the EOI and takes the line down', async () => {
    using guest = new VectorsGuest({ eoi: 'xapic', script: script(true) })
    guest.untilDone()
    using irq = IrqFd.create(guest.vm, { gsi: 20, resample: true })
    irq.raise()
    expect(guest.nextVector()).toBe(0x51)
    const early = irq.resample!.consume()
    expect(early).toBe(keepsInService() ? 0 : 1) // in the handler, before its EOI
    guest.quietFor(20)
    expect(early + irq.resample!.consume()).toBe(1)
    expect(guest.taken(0x51)).toBe(1)
  })
})

describe('as a message', () => {
  const script = [...enableX2apic(), done()]
  const message = (vector: number) => encodeMsi({ destination: 0, vector })

  test('at once', () => {
    using guest = new VectorsGuest({ script })
    guest.untilDone()
    expect(guest.vm.signalMsi(message(0x61))).toBe(1)
    expect(guest.nextVector()).toBe(0x61)
    expect(guest.vm.signalMsi(encodeMsi({ destination: 9, vector: 0x61 }))).toBeLessThanOrEqual(0)
  })

  test('by a route and an irqfd, rerouted and removed while the guest runs', async () => {
    using guest = new VectorsGuest({ script: [...enableX2apic(), spin()] })
    const vectors: number[] = []
    guest.vcpu.start((exit) => {
      if (exit.type === 'io') vectors.push(Number(exit.value))
    })
    const routing = GsiRouting.of(guest.vm)
    const gsi = routing.update((routes) => {
      const free = routes.free()
      routes.set(free, { type: 'msi', ...message(0x71) })
      return free
    })
    using irq = IrqFd.create(guest.vm, { gsi })
    irq.raise()
    await waitUntil(() => guest.taken(0x71) === 1)
    routing.update((routes) => routes.set(gsi, { type: 'msi', ...message(0x72) }))
    irq.raise()
    await waitUntil(() => guest.taken(0x72) === 1)
    routing.update((routes) => routes.delete(gsi))
    irq.raise()
    routing.update((routes) => routes.set(gsi, { type: 'msi', ...message(0x73) }))
    irq.raise()
    await waitUntil(() => guest.taken(0x73) > 0)
    await guest.vcpu.stop()
    expect(guest.taken(0x71)).toBe(1)
    expect(guest.taken(0x72)).toBe(1)
    expect(vectors.slice(0, 2)).toEqual([0x71, 0x72])
  })

  test('as an NMI, and by KVM_NMI', () => {
    using guest = new VectorsGuest({ script })
    guest.untilDone()
    guest.vm.signalMsi(encodeMsi({ destination: 0, vector: 0, delivery: 'nmi' }))
    expect(guest.nextVector()).toBe(2)
    guest.vcpu.nmi()
    expect(guest.nextVector()).toBe(2)
  })

  test('with split interrupt controllers; a level exits at its EOI', () => {
    using guest = new VectorsGuest({ irqchip: 'split', script })
    // The exit comes for vectors that a route of one of the first 24 GSIs, the IOAPIC's, raises.
    const level = encodeMsi({ destination: 0, vector: 0x67, level: 'assert', trigger: 'level' })
    GsiRouting.of(guest.vm).update((routes) => routes.set(3, { type: 'msi', ...level }))
    guest.untilDone()
    guest.vm.irqLine(3, true)
    expect(guest.nextVector()).toBe(0x67)
    expect(guest.vcpu.run({ timeoutMs: 5000 })).toMatchObject({ type: 'ioApicEoi', vector: 0x67 })
  })
})

describe('without interrupt controllers', () => {
  test('KVM_INTERRUPT, when the window is open', () => {
    // Interrupts are off at first: the window opens when the script says so.
    const script = [done(), enableInterrupts(), spin()]
    using guest = new VectorsGuest({ irqchip: 'none', eoi: 'none', script })
    guest.untilDone()
    const { runState } = guest.vcpu
    expect(runState.readyForInterruptInjection).toBe(false)
    runState.requestInterruptWindow = true
    expect(guest.vcpu.run({ timeoutMs: 5000 }).type).toBe('irqWindowOpen')
    runState.requestInterruptWindow = false
    expect(runState.readyForInterruptInjection).toBe(true)
    guest.vcpu.interrupt(0x99)
    expect(guest.nextVector()).toBe(0x99)
  })
})

describe('from the LAPIC', () => {
  const timer = (...operations: Operation[]) =>
    new VectorsGuest({ script: [...enableX2apic(), writeMsr(0x83e, 0xb), ...operations] })

  test('a one-shot timer', () => {
    using guest = timer(writeMsr(0x832, 0x81), writeMsr(0x838, 1_000_000))
    expect(guest.nextVector()).toBe(0x81)
    guest.quietFor(20)
  })

  test('a periodic timer', () => {
    using guest = timer(writeMsr(0x832, 0x2_0082), writeMsr(0x838, 1_000_000))
    for (let i = 0; i < 5; i++) expect(guest.nextVector()).toBe(0x82)
  })

  test('a TSC deadline', () => {
    using guest = timer(writeMsr(0x832, 0x4_0083), tscDeadline(1_000_000))
    expect(guest.nextVector()).toBe(0x83)
    guest.quietFor(20)
  })

  test('an IPI to itself, by its own register and by ICR shorthand', () => {
    using guest = timer(
      enableInterrupts(),
      writeMsr(0x83f, 0x84),
      writeMsr(0x830, 0x4_0085),
      writeMsr(0x830, 0x8_0086),
    )
    // By priority or by time, as the engine looks for interrupts.
    const vectors = [guest.nextVector(), guest.nextVector(), guest.nextVector()]
    expect(vectors.sort()).toEqual([0x84, 0x85, 0x86])
  })
})
