// A native thread that serves one queue pair of a network device.

import {
  type Binding,
  binding,
  type Handle,
  KIND_FILE,
  NET_BROKEN,
  NET_ENDED,
  NET_GONE,
  NET_PAUSED,
  type NetQueueArguments,
} from '../binding.js'
import { closedError, kvmError } from '../core/errors.js'
import { EventFd } from '../core/interrupts/event-fd.js'
import { PlainFile } from '../core/plain-file.js'
import type { DeviceMemory, NetRateLimits, QueueSetup, RateLimit } from '../devices/index.js'
import { nativeRam } from './native-ram.js'

/** What a worker serves. */
export interface NetWorkerOptions {
  readonly memory: DeviceMemory
  /** The TAP's file. */
  readonly tap: Handle
  readonly receive: QueueSetup
  readonly transmit: QueueSetup
  readonly receiveLimits: NetRateLimits
  readonly transmitLimits: NetRateLimits
  /** VIRTIO_NET_F_MRG_RXBUF. */
  readonly mergeable: boolean
  readonly link: boolean
  /** The driver did what it must not. */
  readonly onBroken: () => void
  /** The TAP is gone. */
  readonly onGone: () => void
}

/** One of them, running. */
export class NetWorker {
  readonly #native: Binding
  readonly #handle: Handle
  readonly #bell: EventFd
  readonly #options: NetWorkerOptions
  #seen = 0
  #waiting: (() => void)[] = []

  /** @throws KvmError `EINVAL` for rings that are not in RAM */
  constructor(options: NetWorkerOptions) {
    const native = binding()
    const { memory, tap, receive, transmit, mergeable, link } = options
    this.#native = native
    this.#options = options
    this.#bell = EventFd.create()
    const ram = nativeRam(memory)
    const handle = native.startNetWorker(
      ram,
      tap,
      PlainFile.handleOf(this.#bell, 'bell'),
      mergeable ? 1 : 0,
      link ? 1 : 0,
      ...queueArguments(native, receive, options.receiveLimits),
      ...queueArguments(native, transmit, options.transmitLimits),
    )
    native.close(ram)
    if (typeof handle === 'number') {
      this.#bell.close()
      throw kvmError(handle, { reason: "a network device's thread" })
    }
    this.#handle = handle
    this.#bell.unref().onSignal(() => this.#onBell())
  }

  /** Frames, bytes and dropped frames, to the guest and from it. */
  get counts(): number[] {
    return this.#native.netWorkerCounts(this.#handle)
  }

  /** Whether frames pass. */
  setLink(up: boolean): void {
    this.#native.setNetWorkerLink(this.#handle, up ? 1 : 0)
  }

  /** Resolves when the thread does nothing. */
  async pause(): Promise<void> {
    this.#native.pauseNetWorker(this.#handle, 1)
    await this.#until(NET_PAUSED | NET_ENDED)
  }

  /** Ends {@link pause}, after it has resolved. */
  resume(): void {
    this.#native.pauseNetWorker(this.#handle, 0)
  }

  /** Ends the thread. When it resolves, it touches nothing any more. */
  async stop(): Promise<void> {
    this.#native.stopNetWorker(this.#handle)
    await this.#until(NET_ENDED)
    this.#native.forgetNetWorker(this.#handle)
    this.#bell.close()
  }

  async #until(bits: number): Promise<void> {
    this.#bell.ref()
    while ((this.#native.netWorkerState(this.#handle) & bits) === 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    this.#bell.unref()
  }

  #onBell(): void {
    const state = this.#native.netWorkerState(this.#handle)
    const news = state & ~this.#seen
    this.#seen |= state & (NET_BROKEN | NET_GONE)
    for (const resolve of this.#waiting.splice(0)) resolve()
    if (news & NET_GONE) this.#options.onGone()
    if (news & NET_BROKEN) this.#options.onBroken()
  }
}

function queueArguments(
  native: Binding,
  queue: QueueSetup,
  { bytes, frames }: NetRateLimits,
): NetQueueArguments {
  const flags =
    (queue.packed ? 1 : 0) |
    (queue.eventIdx ? 2 : 0) |
    (queue.indirect ? 4 : 0) |
    (queue.inOrder ? 8 : 0)
  return [
    ...([queue.size, flags, queue.descGpa, queue.driverGpa, queue.deviceGpa] as const),
    fileOf(native, queue.kick),
    fileOf(native, queue.call),
    ...limitArguments(bytes),
    ...limitArguments(frames),
  ]
}

function fileOf(native: Binding, id: number): Handle {
  const handle = native.findObject(id, KIND_FILE)
  if (handle === null) throw closedError()
  return handle
}

/** Tokens in a second and at once, as integers; see TokenBucket. */
function limitArguments(limit: RateLimit | undefined): [perSecond: number, burst: number] {
  if (limit === undefined) return [0, 0]
  const { perSecond, burst = perSecond / 10 } = limit
  return [Math.ceil(perSecond), Math.max(1, Math.ceil(burst))]
}
