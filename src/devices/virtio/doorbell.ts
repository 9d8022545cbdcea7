// Events between driver, device and whoever serves it, as the machine makes them: nothing here knows
// eventfds, but both ends may be somewhere else than in JavaScript.

import type { MessageInterruptFactory } from '../pci/message-interrupt.js'
import type { DeviceMemory } from './device-memory.js'

/** Which writes of the guest ring a doorbell. */
export interface DoorbellPlace {
  readonly gpa: number
  /** Bytes of the write; 0 for any. */
  readonly length: 0 | 1 | 2 | 4
  /** Only writes of this value. */
  readonly value?: number
}

/** An event that counts until somebody hears it: a guest's write, or a signal of another thread. */
export interface Doorbell {
  /** The number under which native code and other threads find it: an `EventFd`'s id. */
  readonly id: number
  /**
   * Lets the guest ring it, without an exit to this process where the kernel can do that; undefined: no
   * more. Where it cannot, the writes arrive as accesses, to be passed on by {@link ring}.
   */
  place(place: DoorbellPlace | undefined): void
  /** Rings it. */
  ring(): void
  /** Calls `handler` on this thread each time it rang. One listener, here or elsewhere. */
  listen(handler: (() => void) | undefined): void
  /** Gives it back. */
  close(): void
}

/** What a transport needs of the machine around it. */
export interface VirtioHost {
  readonly memory: DeviceMemory
  /** Makes interrupts for PCI functions. */
  readonly messageInterrupt: MessageInterruptFactory
  /** Makes a doorbell that is nowhere yet. */
  createDoorbell(): Doorbell
  /** The guest's access that is being answered goes on when this is settled. */
  hold(until: Promise<void>): void
  /** A device needs a reset: by its driver's fault (a {@link VirtqueueError}) or its own. */
  onFailure(device: { readonly name: string }, error: unknown): void
}
