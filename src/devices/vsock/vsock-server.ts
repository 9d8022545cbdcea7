// What answers when a program of the guest connects to a port of the host.

import { EventEmitter } from 'node:events'
import type { VsockSocket, VsockType } from './vsock-socket.js'

/** What {@link VirtioVsock.listen} takes. */
export interface VsockServerOptions {
  /** `stream` unless said. */
  readonly type?: VsockType
  /** Whether connections stay open on this side when the guest has sent all; false unless said. */
  readonly allowHalfOpen?: boolean
}

/** The events of a {@link VsockServer} and what their listeners get. */
export interface VsockServerEvents {
  connection: [socket: VsockSocket]
  close: []
}

/** A port of the host that programs of the guest can connect to. */
export class VsockServer extends EventEmitter<VsockServerEvents> implements Disposable {
  readonly port: number
  /** What it was made with. */
  readonly options: VsockServerOptions
  readonly #onClose: (server: VsockServer) => void
  #closed = false

  /** @internal */
  constructor(port: number, options: VsockServerOptions, onClose: (server: VsockServer) => void) {
    super()
    this.port = port
    this.options = options
    this.#onClose = onClose
  }

  /** Refuses further connections; those there are go on. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    process.nextTick(() => this.emit('close'))
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }
}
