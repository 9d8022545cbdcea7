// The machine's side of MSI and MSI-X: each vector is an eventfd, a GSI with a route, and, while it is
// not masked, an irqfd between the two. Signals of a masked one stay in its eventfd, from where KVM takes
// them when the irqfd is assigned again.

import { EventFd } from '../core/interrupts/event-fd.js'
import { GsiRouting } from '../core/interrupts/gsi-routing.js'
import { IrqFd } from '../core/interrupts/irq-fd.js'
import type { Vm } from '../core/vm.js'
import type { MessageInterrupt } from '../devices/index.js'
import type { MsiMessage } from '../x86/index.js'

/** What every address of an interrupt message begins with (SDM vol. 3A §11.11.1). */
const INTERRUPT_PREFIX = 0xfee

/** Makes the message interrupts of one machine. */
export class MessageInterrupts {
  readonly #vm: Vm
  #routing: GsiRouting | undefined
  readonly #open = new Set<IrqFdMessage>()

  constructor(vm: Vm) {
    this.#vm = vm
  }

  /** For `MessageInterruptFactory`. */
  readonly create = (): IrqFdMessage => {
    this.#routing ??= GsiRouting.of(this.#vm)
    const made = new IrqFdMessage(this.#vm, this.#routing, () => this.#open.delete(made))
    this.#open.add(made)
    return made
  }

  close(): void {
    for (const each of this.#open) each.close()
  }
}

/** One vector. */
export class IrqFdMessage implements MessageInterrupt {
  /** Signal it from anywhere, a kernel driver included. */
  readonly eventFd = EventFd.create()
  readonly #vm: Vm
  readonly #routing: GsiRouting
  readonly #onClose: () => void
  #gsi: number | undefined
  #irqFd: IrqFd | undefined

  constructor(vm: Vm, routing: GsiRouting, onClose: () => void) {
    this.#vm = vm
    this.#routing = routing
    this.#onClose = onClose
  }

  get eventId(): number {
    return this.eventFd.id
  }

  connect(message: MsiMessage | undefined): void {
    if (message === undefined || !this.#route(message)) {
      this.#irqFd?.close()
      this.#irqFd = undefined
      return
    }
    this.#irqFd ??= IrqFd.create(this.#vm, { gsi: this.#gsi!, eventFd: this.eventFd })
  }

  signal(): void {
    if (!this.eventFd.closed) this.eventFd.signal()
  }

  get isPending(): boolean {
    if (this.#irqFd !== undefined) return false
    const count = this.eventFd.consume()
    if (count > 0) this.eventFd.signal()
    return count > 0
  }

  close(): void {
    if (this.eventFd.closed) return
    this.#irqFd?.close()
    this.eventFd.close()
    if (this.#gsi !== undefined && !this.#vm.closed) {
      this.#routing.update((routes) => routes.delete(this.#gsi!))
    }
    this.#onClose()
  }

  /** False for what is no interrupt message: a device would write it to memory, where it is lost. */
  #route(message: MsiMessage): boolean {
    if (message.address_lo >>> 20 !== INTERRUPT_PREFIX) return false
    try {
      this.#gsi = this.#routing.update((routes) => {
        const gsi = this.#gsi ?? routes.free()
        routes.set(gsi, { type: 'msi', ...message })
        return gsi
      })
      return true
    } catch (error) {
      // The guest chose the message, so what KVM thinks of it is no error of the machine.
      if ((error as { code?: string }).code === 'EINVAL') return false
      throw error
    }
  }
}
