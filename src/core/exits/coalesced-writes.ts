// Coalesced ranges with somebody who is told of their writes: the kernel's ring is emptied for them.

import { callback } from '../validate.js'
import type { Vcpu } from '../vcpu.js'
import type { CoalescedZone } from '../vm/vm-events.js'
import { CoalescedRing, type CoalescedWrite } from './coalesced-ring.js'
import type { Exit } from './exits.js'
import { RangeTable } from './range-table.js'

/** Is told of a write; see {@link Vm.coalesce}. */
export type CoalescedHandler = (write: CoalescedWrite) => void

/** @internal The handlers of a VM. */
export class CoalescedWrites {
  readonly #ports = new RangeTable<CoalescedHandler>()
  readonly #memory = new RangeTable<CoalescedHandler>()
  #added = false
  #ring: { vcpu: Vcpu; ring: CoalescedRing } | undefined

  /** @returns What takes it out again. */
  add({ address, size, pio = false }: CoalescedZone, handler: CoalescedHandler): () => void {
    this.#added = true
    return this.#tableOf(pio).add(address, size, callback(handler, 'handler'))
  }

  /** Hands over what is in the ring, which any vCPU of the VM shows. */
  drain(vcpu: Vcpu): void {
    if (!this.#added || vcpu.closed) return
    if (this.#ring?.vcpu !== vcpu) this.#ring = { vcpu, ring: new CoalescedRing(vcpu) }
    this.#ring.ring.drain((write) => this.#handlerOf(write)?.(write))
  }

  /** Whether the exit is a write that found no room in the ring; it has been handed over then. */
  take(exit: Exit): boolean {
    if (!this.#added || (exit.type !== 'io' && exit.type !== 'mmio') || !exit.isWrite) return false
    const [pio, address, size] =
      exit.type === 'io' ? [true, exit.port, exit.size] : [false, exit.gpa, exit.length]
    const count = exit.type === 'io' ? exit.count : 1
    for (let i = 0; i < count; i++) {
      const write = { address, pio, data: exit.data.slice(i * size, (i + 1) * size) }
      const handler = this.#handlerOf(write)
      if (handler === undefined) return false
      handler(write)
    }
    return true
  }

  #handlerOf({ address, pio, data }: CoalescedWrite): CoalescedHandler | undefined {
    return this.#tableOf(pio).find(address, data.length)
  }

  #tableOf(pio: boolean): RangeTable<CoalescedHandler> {
    return pio ? this.#ports : this.#memory
  }
}
