// Doorbells of virtio devices: an eventfd that the guest's writes raise inside the kernel.

import { EventFd } from '../core/interrupts/event-fd.js'
import { IoEventFd } from '../core/interrupts/io-event-fd.js'
import type { Vm } from '../core/vm.js'
import type { Doorbell, DoorbellPlace } from '../devices/index.js'

/** One of them, at one place at a time. */
export class IoEventDoorbell implements Doorbell {
  readonly #vm: Vm
  // What rings is a running machine, which keeps the event loop alive by itself.
  readonly #eventFd = EventFd.create().unref()
  #ioEventFd: IoEventFd | undefined
  #place: DoorbellPlace | undefined

  constructor(vm: Vm) {
    this.#vm = vm
  }

  get id(): number {
    return this.#eventFd.id
  }

  place(place: DoorbellPlace | undefined): void {
    if (isSame(this.#place, place)) return
    this.#ioEventFd?.close()
    this.#ioEventFd = undefined
    this.#place = place
    if (place === undefined || this.#vm.closed) return
    const { gpa: address, length, value } = place
    const datamatch = value === undefined ? {} : { datamatch: BigInt(value) }
    try {
      const eventFd = this.#eventFd
      this.#ioEventFd = IoEventFd.create(this.#vm, { eventFd, address, length, ...datamatch })
    } catch (error) {
      // A bus holds a limited number of them: what finds no place exits, and is passed on.
      if ((error as { code?: string }).code !== 'ENOSPC') throw error
    }
  }

  ring(): void {
    this.#eventFd.signal()
  }

  listen(handler: (() => void) | undefined): void {
    this.#eventFd.offSignal()
    if (handler !== undefined) this.#eventFd.onSignal(handler)
  }

  close(): void {
    this.place(undefined)
    this.#eventFd.close()
  }
}

function isSame(a: DoorbellPlace | undefined, b: DoorbellPlace | undefined): boolean {
  return a?.gpa === b?.gpa && a?.length === b?.length && a?.value === b?.value
}
