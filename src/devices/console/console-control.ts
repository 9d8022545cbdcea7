// The control queue's messages of a console device (virtio 1.2, 5.3.6.2), and those that wait for a
// buffer of the driver.

/** What a control message is about. */
export const CONSOLE_EVENT = {
  DEVICE_READY: 0,
  PORT_ADD: 1,
  PORT_REMOVE: 2,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const

/** Bytes of a message without what may follow it. */
export const CONTROL_SIZE = 8

/** A message without what may follow it. */
export interface ControlMessage {
  /** The port. */
  readonly id: number
  /** One of {@link CONSOLE_EVENT}. */
  readonly event: number
  readonly value: number
}

/** Reads a message of at least {@link CONTROL_SIZE} bytes. */
export function decodeControl(bytes: Uint8Array): ControlMessage {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return {
    id: view.getUint32(0, true),
    event: view.getUint16(4, true),
    value: view.getUint16(6, true),
  }
}

/** Writes a message, with what follows it. */
export function encodeControl(message: ControlMessage, rest?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(CONTROL_SIZE + (rest?.length ?? 0))
  const view = new DataView(bytes.buffer)
  view.setUint32(0, message.id, true)
  view.setUint16(4, message.event, true)
  view.setUint16(6, message.value, true)
  if (rest) bytes.set(rest, CONTROL_SIZE)
  return bytes
}

/**
 * Messages that wait for a buffer, in order. What a message says replaces what an earlier one about
 * the same port and event would have said, so a driver that gives no buffers cannot make this grow.
 */
export class ControlOutbox {
  readonly #waiting = new Map<string, Uint8Array>()

  /** How many messages wait. */
  get size(): number {
    return this.#waiting.size
  }

  /** Puts a message behind the others, or in the place of the one it replaces. */
  add(message: ControlMessage, rest?: Uint8Array): void {
    this.#waiting.set(key(message.id, message.event), encodeControl(message, rest))
  }

  /** Whether a message about it waits. */
  has(id: number, event: number): boolean {
    return this.#waiting.has(key(id, event))
  }

  /** Takes the oldest message out; undefined when none waits. */
  take(): Uint8Array | undefined {
    for (const [name, bytes] of this.#waiting) {
      this.#waiting.delete(name)
      return bytes
    }
    return undefined
  }

  /** Drops everything about one port. */
  forget(id: number): void {
    for (const event of Object.values(CONSOLE_EVENT)) this.#waiting.delete(key(id, event))
  }

  /** Drops everything. */
  clear(): void {
    this.#waiting.clear()
  }
}

const key = (id: number, event: number) => `${id}:${event}`
