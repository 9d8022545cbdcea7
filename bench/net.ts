// Network devices on a TAP beside QEMU's (without vhost): Debian's kernel and driver, checksums and
// segmentation left to the other side on both.

import type { Benchmark } from './benchmark.js'
import { compareWithQemu } from './peers.js'

/** Streams and datagrams of a Linux guest. */
export const benchmark: Benchmark = ({ effort }) =>
  compareWithQemu(
    {
      device: 'net',
      source: 'net-load.c',
      modules: ['virtio_pci', 'virtio_net'],
      tests: {
        'tcp-out': '64 KiB of TCP from the guest',
        'tcp-in': '64 KiB of TCP to the guest',
        'udp-out': 'a frame of 60 bytes from the guest',
        'udp-in': 'a frame of 60 bytes to the guest',
        'udp-echo': 'a frame there and one back, one at a time',
      },
    },
    effort,
  )
