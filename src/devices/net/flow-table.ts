// Which queue pair a conversation uses: what a guest sends on one pair it wants answered there
// (virtio 1.2 §5.1.6.5.5, automatic receive steering).

import { vlanOf } from './ethernet.js'

const ENTRIES = 1024
const IPV4 = 0x0800
const IPV6 = 0x86dd
const HAS_PORTS: readonly number[] = [6, 17]

/** Remembers the pair of each flow, as far as flows can be told apart by a short hash. */
export class FlowTable {
  readonly #pairs = new Uint8Array(ENTRIES)

  /** A frame was sent on this pair. */
  sent(frame: Uint8Array, pair: number): void {
    this.#pairs[flowHash(frame)] = pair
  }

  /** The pair for a frame to the guest, one of the first `pairs`. */
  pairOf(frame: Uint8Array, pairs: number): number {
    const pair = this.#pairs[flowHash(frame)]!
    return pair < pairs ? pair : 0
  }

  /** Forgets all flows. */
  clear(): void {
    this.#pairs.fill(0)
  }
}

/** The same for both directions of a flow. */
function flowHash(frame: Uint8Array): number {
  const ip = vlanOf(frame) === undefined ? 14 : 18
  const type = (frame[ip - 2]! << 8) | frame[ip - 1]!
  let [from, to, protocol, ports] = [0, 0, 0, 0]
  if (type === IPV4 && frame.length >= ip + 20) {
    ;[from, to, protocol] = [ip + 12, ip + 20, frame[ip + 9]!]
    ports = ip + (frame[ip]! & 0x0f) * 4
  } else if (type === IPV6 && frame.length >= ip + 40) {
    ;[from, to, protocol, ports] = [ip + 8, ip + 40, frame[ip + 6]!, ip + 40]
  }
  let hash = protocol
  for (let i = from; i < to; i += 2) hash ^= (frame[i]! << 8) | frame[i + 1]!
  if (HAS_PORTS.includes(protocol) && frame.length >= ports + 4) {
    for (let i = ports; i < ports + 4; i += 2) hash ^= (frame[i]! << 8) | frame[i + 1]!
  }
  return (hash ^ (hash >>> 6)) % ENTRIES
}
