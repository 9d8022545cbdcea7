// The virtqueue of native code, step by step, for comparison.

import { binding, type Handle } from '../../src/binding.js'
import type { DescriptorChain, QueueLayout } from '../../src/devices/index.js'
import type { GuestMemory } from '../../src/index.js'

export type NativeChain = Pick<DescriptorChain, 'id' | 'slots' | 'readable' | 'writable'>

const EIO = -5
const FLAG = { packed: 1, eventIdx: 2, indirect: 4, inOrder: 8 }

/** RAM as native devices see it. */
export function guestRam(memory: GuestMemory): Handle {
  const { regions } = memory
  const ram = binding().createGuestRam(
    regions.map(({ handle }) => handle),
    regions.map(({ gpa }) => gpa),
  )
  if (typeof ram === 'number') throw new Error(`no RAM: ${ram}`)
  return ram
}

export class NativeQueue {
  readonly #queue: Handle

  /** @throws when the rings are not where rings can be */
  constructor(memory: GuestMemory, layout: QueueLayout) {
    const { size, descGpa, driverGpa, deviceGpa, packed, eventIdx } = layout
    const flags =
      (packed ? FLAG.packed : 0) +
      (eventIdx ? FLAG.eventIdx : 0) +
      (layout.indirect ? FLAG.indirect : 0) +
      (layout.inOrder ? FLAG.inOrder : 0)
    const ram = guestRam(memory)
    const queue = binding().createVirtqueue(ram, size, flags, descGpa, driverGpa, deviceGpa)
    if (typeof queue === 'number') throw new Error(`no queue: ${queue}`)
    this.#queue = queue
  }

  /** @throws when the queue is broken */
  pop(): NativeChain | undefined {
    const popped = binding().virtqueuePop(this.#queue)
    if (popped === 0) return undefined
    if (popped === EIO) throw new Error('the queue is broken')
    const [id, slots, readable, ...numbers] = popped as [number, number, number, ...number[]]
    const parts: { gpa: number; length: number }[] = []
    for (let i = 0; i < numbers.length; i += 2) {
      parts.push({ gpa: numbers[i]!, length: numbers[i + 1]! })
    }
    return { id, slots, readable: parts.slice(0, readable), writable: parts.slice(readable) }
  }

  push({ id, slots }: NativeChain, written: number): void {
    binding().virtqueuePush(this.#queue, id, slots, written)
  }

  needsInterrupt(): boolean {
    return binding().virtqueueNeedsInterrupt(this.#queue)
  }

  enableNotifications(): boolean {
    return binding().virtqueueNotifications(this.#queue, 1) === true
  }

  disableNotifications(): void {
    binding().virtqueueNotifications(this.#queue, 0)
  }
}
