// The entropy device (virtio 1.2 §5.4).

import type { DescriptorChain } from './descriptor-chain.js'
import { VirtioDevice } from './virtio-device.js'
import { VIRTIO_ID } from './virtio-numbers.js'

/** At most this much to a request, however large its buffer is: the driver asks again. */
const MOST_BYTES = 0x1000

/** Feeds the guest random bytes of this process's generator. Linux shows it as `/dev/hwrng`. */
export class VirtioRng extends VirtioDevice {
  readonly name = 'virtio-rng'
  readonly deviceType = VIRTIO_ID.rng
  readonly queueSizes = [64]

  protected override handle(chain: DescriptorChain): number {
    // Loaded with the first request: it is the largest of Node's modules, and most processes have no such device.
    const { randomFillSync } = process.getBuiltinModule('node:crypto')
    const bytes = randomFillSync(new Uint8Array(Math.min(chain.writableLength, MOST_BYTES)))
    chain.write(bytes)
    return bytes.length
  }
}
