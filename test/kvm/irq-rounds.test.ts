// No interrupt is lost or doubled, whatever the timing; a changed route is the only one that counts.
// NODE_KVM_ROUNDS says how many rounds; 100000 take minutes.

import { expect, test } from 'vitest'
import { GsiRouting, IoEventFd, IrqFd } from '../../src/index.js'
import { encodeMsi } from '../../src/x86/index.js'
import {
  done,
  enableX2apic,
  enableXapic,
  type Operation,
  REPORT_PORT,
  routeIoapic,
  spin,
  VectorsGuest,
} from '../helpers/vectors-guest.js'

const ROUNDS = Number(process.env.NODE_KVM_ROUNDS ?? 2000)
const FENCE = 0x30
const BUDGET = 20_000 + ROUNDS * 10

/** Lets a random, short time go by, on the event loop or on the CPU. */
async function pause(random: number): Promise<void> {
  if (random < 0.1) await new Promise((resolve) => setImmediate(resolve))
  for (let i = random * 3000; i > 0; i--) Math.sqrt(i)
}

/** A small generator, so that a failure can be repeated with its seed. */
function randoms(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** A guest whose handlers ring a bell. To wait for it leaves the CPU to the kernel's own workers. */
class RingingGuest extends VectorsGuest {
  readonly #doorbell = IoEventFd.create(this.vm, { address: REPORT_PORT, length: 4, pio: true })
  readonly #rings = this.#doorbell.eventFd.signals()

  /** One that has set its chips up: an edge before that would rightly be lost. */
  static async running(eoi: 'xapic' | 'x2apic', script: Operation[], sleep: boolean) {
    const all = [...script, done(), ...(sleep ? [] : [spin()])]
    const guest = new RingingGuest({ eoi, script: all })
    await new Promise<void>((ready) => guest.vcpu.start(() => ready()))
    return guest
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await this.#rings.next()
  }

  override close(): void {
    this.#doorbell.close()
    super.close()
  }
}

const seed = Date.now() >>> 0

test.each([true, false])(
  `edge irqfd: one interrupt for each signal (asleep: %s, seed ${seed})`,
  async (sleep) => {
    using guest = await RingingGuest.running(
      'xapic',
      [enableXapic(), ...routeIoapic(20, 0x51)],
      sleep,
    )
    using irq = IrqFd.create(guest.vm, { gsi: 20 })
    const random = randoms(seed)
    for (let round = 1; round <= ROUNDS; round++) {
      irq.raise()
      await guest.until(() => guest.taken(0x51) >= round)
      await pause(random())
      if (guest.taken(0x51) !== round) expect.fail(`round ${round}: ${guest.taken(0x51)} taken`)
    }
    await guest.vcpu.stop()
    expect(guest.taken(0x51)).toBe(ROUNDS)
  },
  BUDGET,
)

test.each([true, false])(
  `resampled irqfd: one interrupt and one EOI for each signal (asleep: %s, seed ${seed})`,
  async (sleep) => {
    using guest = await RingingGuest.running(
      'xapic',
      [enableXapic(), ...routeIoapic(20, 0x51, true)],
      sleep,
    )
    using irq = IrqFd.create(guest.vm, { gsi: 20, resample: true })
    const random = randoms(seed)
    const resamples = irq.resample!.signals()
    for (let round = 1; round <= ROUNDS; round++) {
      irq.raise()
      const { value } = await resamples.next()
      await guest.until(() => guest.taken(0x51) >= round)
      await pause(random())
      if (value !== 1 || guest.taken(0x51) !== round) {
        expect.fail(`round ${round}: ${value} EOIs, ${guest.taken(0x51)} taken`)
      }
    }
    await guest.vcpu.stop()
    irq.resample!.offSignal()
    expect([guest.taken(0x51), irq.resample!.consume()]).toEqual([ROUNDS, 0])
  },
  BUDGET,
)

test(
  `routes changed under load: nothing arrives by the old one afterwards (seed ${seed})`,
  async () => {
    using guest = await RingingGuest.running('x2apic', enableX2apic(), true)
    // Of the lowest priority: when it is taken, everything that was pending before is.
    let fences = 0
    const fence = () => {
      guest.vm.signalMsi(encodeMsi({ destination: 0, vector: FENCE }))
      fences++
      return guest.until(() => guest.taken(FENCE) === fences)
    }
    const routing = GsiRouting.of(guest.vm)
    const route = (vector: number) =>
      routing.update((routes) =>
        routes.set(30, { type: 'msi', ...encodeMsi({ destination: 0, vector }) }),
      )
    route(0x70)
    using irq = IrqFd.create(guest.vm, { gsi: 30 })
    const random = randoms(seed)
    let old = 0x70
    for (let round = 0; round < ROUNDS; round++) {
      const vector = old === 0x70 ? 0x71 : 0x70
      irq.raise()
      await pause(random())
      route(vector)
      await fence()
      const [settled, before] = [guest.taken(old), guest.taken(vector)]
      irq.raise()
      await guest.until(() => guest.taken(vector) > before)
      await fence()
      if (guest.taken(old) !== settled) expect.fail(`round ${round}: a stale vector`)
      old = vector
    }
    await guest.vcpu.stop()
    expect(guest.taken(0x70) + guest.taken(0x71)).toBeGreaterThanOrEqual(ROUNDS)
  },
  BUDGET,
)
