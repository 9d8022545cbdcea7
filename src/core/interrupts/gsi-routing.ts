// The interrupt routing of a VM as an object that is changed as a whole.

import { KVM_CAP_IRQCHIP, KVM_IOAPIC_NUM_PINS, type KvmIrqRoutingEntry } from '../../uapi/index.js'
import { callback, instance, integer, list } from '../validate.js'
import { Vm } from '../vm.js'
import { decodeRoute, encodeRoute, type GsiRoute } from './gsi-route.js'

const MAX_GSI = 4095
const PIC_PINS = 16

/** The routes of each GSI while they are being changed. */
export class GsiRoutes {
  readonly #routes: Map<number, readonly GsiRoute[]>

  /** @internal */
  constructor(routes: ReadonlyMap<number, readonly GsiRoute[]>) {
    this.#routes = new Map(routes)
  }

  /** Where a GSI leads; empty: nowhere. */
  get(gsi: number): readonly GsiRoute[] {
    return this.#routes.get(gsi) ?? []
  }

  /** Leads a GSI to these places instead; several must be pins of different chips. */
  set(gsi: number, ...routes: readonly GsiRoute[]): this {
    integer(gsi, 'gsi', 0, MAX_GSI)
    if (routes.length === 0) this.#routes.delete(gsi)
    else this.#routes.set(gsi, [...routes])
    return this
  }

  /** Lets a GSI lead nowhere. */
  delete(gsi: number): this {
    return this.set(gsi)
  }

  /** Lets every GSI lead nowhere. */
  clear(): this {
    this.#routes.clear()
    return this
  }

  /** A GSI that leads nowhere, above those of the IOAPIC's pins. */
  free(): number {
    let gsi = KVM_IOAPIC_NUM_PINS
    while (this.#routes.has(gsi)) gsi++
    return integer(gsi, 'gsi', 0, MAX_GSI)
  }

  /** @internal */
  get map(): ReadonlyMap<number, readonly GsiRoute[]> {
    return this.#routes
  }
}

/**
 * Where each GSI of a VM leads. The kernel replaces its table as a whole and does not tell what is
 * in it, so one object should own it. A change is made with one ioctl or not at all; when
 * {@link update} has returned, no interrupt is delivered by the old routes any more.
 */
export class GsiRouting {
  readonly #vm: Vm
  #routes: GsiRoutes

  private constructor(vm: Vm, routes: GsiRoutes) {
    this.#vm = vm
    this.#routes = routes
  }

  /**
   * Begins with what {@link Vm.setGsiRouting} was last given, else with the kernel's own table:
   * GSI 0-15 lead to the pins of PIC and IOAPIC of the same number, 16-23 to the IOAPIC's; with
   * split interrupt controllers, or none, there are no routes.
   */
  static of(vm: Vm): GsiRouting {
    instance(vm, 'vm', Vm)
    const routes = new GsiRoutes(new Map())
    const known = vm.gsiRouting
    if (known !== undefined) add(routes, known)
    else if (hasWholeIrqchip(vm)) addDefault(routes)
    return new GsiRouting(vm, routes)
  }

  /** Where a GSI leads. */
  get(gsi: number): readonly GsiRoute[] {
    return this.#routes.get(gsi)
  }

  /** All of them, by GSI. */
  entries(): IterableIterator<[number, readonly GsiRoute[]]> {
    return this.#routes.map.entries() as IterableIterator<[number, readonly GsiRoute[]]>
  }

  /**
   * Changes any number of routes at once: `update((routes) => routes.set(24, msi).delete(5))`. When
   * `change` throws or the kernel refuses, everything is as it was.
   *
   * @returns What `change` returned.
   * @ioctl KVM_SET_GSI_ROUTING (KVM API 4.52)
   * @capability KVM_CAP_IRQ_ROUTING
   * @throws KvmError `EINVAL` without interrupt controllers in the kernel, and for a pin or type that
   *   it does not have.
   */
  update<T>(change: (routes: GsiRoutes) => T): T {
    const draft = new GsiRoutes(this.#routes.map)
    const result = callback(change, 'change')(draft)
    this.#vm.setGsiRouting(encode(draft))
    this.#routes = draft
    return result
  }
}

function encode(routes: GsiRoutes): KvmIrqRoutingEntry[] {
  return [...routes.map].flatMap(([gsi, places]) =>
    list(places, 'routes').map((place) => encodeRoute(gsi, place)),
  )
}

function add(routes: GsiRoutes, entries: readonly KvmIrqRoutingEntry[]): void {
  for (const entry of entries) {
    routes.set(entry.gsi, ...routes.get(entry.gsi), decodeRoute(entry))
  }
}

function addDefault(routes: GsiRoutes): void {
  for (let pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
    const ioapic = { type: 'ioapic', pin } as const
    if (pin < PIC_PINS) routes.set(pin, { type: 'pic', pin }, ioapic)
    else routes.set(pin, ioapic)
  }
}

/** Only a VM with PICs in the kernel shows one. */
function hasWholeIrqchip(vm: Vm): boolean {
  if (vm.checkExtension(KVM_CAP_IRQCHIP) === 0) return false
  try {
    vm.getIrqchip(0)
    return true
  } catch (error) {
    if ((error as { code?: string }).code === 'ENXIO') return false
    throw error
  }
}
