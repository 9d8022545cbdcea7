// Interrupts that are messages (MSI, MSI-X): what a function asks of the machine, and the bookkeeping
// that both capabilities share.

import type { MsiMessage } from '../../x86/msi.js'

/** One interrupt vector of a function, as the machine makes it. */
export interface MessageInterrupt {
  /** Leads it to a message. `undefined` masks it: what is signaled then waits. */
  connect(message: MsiMessage | undefined): void
  /** Raises it, or lets it be pending while masked. */
  signal(): void
  /** Whether it was signaled while masked. */
  readonly isPending: boolean
  /** The id of the `EventFd` that raises it from anywhere, if one does. */
  readonly eventId?: number
  /** Gives it back; what is pending is forgotten. */
  close(): void
}

/** Makes one; a machine's `messageInterrupt`. */
export type MessageInterruptFactory = () => MessageInterrupt

/** A function's vectors. Each is made when the guest first uses it. */
export class MessageVectors {
  readonly #create: MessageInterruptFactory
  readonly #vectors: (MessageInterrupt | undefined)[]
  readonly #messages: (MsiMessage | undefined)[]

  constructor(count: number, create: MessageInterruptFactory) {
    this.#create = create
    this.#vectors = new Array(count)
    this.#messages = new Array(count)
  }

  /** How many there are. */
  get count(): number {
    return this.#vectors.length
  }

  /** Where a vector leads now; undefined while it is masked. */
  connect(index: number, message: MsiMessage | undefined): void {
    if (isSame(this.#messages[index], message)) return
    this.#messages[index] = message
    this.#vector(index).connect(message)
  }

  /** Raises one. */
  signal(index: number): void {
    this.#vector(index).signal()
  }

  /** What raises one from anywhere, see {@link MessageInterrupt.eventId}; good until {@link clear}. */
  eventId(index: number): number | undefined {
    return this.#vector(index).eventId
  }

  /** Whether one was raised while masked. */
  isPending(index: number): boolean {
    return this.#vectors[index]?.isPending ?? false
  }

  /** Forgets everything. */
  clear(): void {
    for (const vector of this.#vectors) vector?.close()
    this.#vectors.fill(undefined)
    this.#messages.fill(undefined)
  }

  #vector(index: number): MessageInterrupt {
    this.#vectors[index] ??= this.#create()
    return this.#vectors[index]
  }
}

function isSame(a: MsiMessage | undefined, b: MsiMessage | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.address_lo === b.address_lo && a.address_hi === b.address_hi && a.data === b.data
}
